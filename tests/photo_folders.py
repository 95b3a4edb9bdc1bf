"""Small folders of photographs in the layouts of the tools, and what is done to them."""

import json
import random
import shutil
from xml.etree import ElementTree

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


def picture(seed=0, size=(WIDTH, HEIGHT)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def obj(box=(5, 5, 30, 30), name="cat", extra=""):
    corners = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def xml(filename, objects, size=(WIDTH, HEIGHT), head=""):
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"{head}<annotation><filename>{filename}</filename>{said}{''.join(objects)}</annotation>"


def voc(root, n=6, objects=lambda k: [obj()], lists=("train", "val"), **more):
    """Write the Pascal VOC layout; a third of the images is in the second list."""
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for k in range(n):
        picture(k).save(root / "JPEGImages" / f"{k:03d}.png")
        (root / "Annotations" / f"{k:03d}.xml").write_text(xml(f"{k:03d}.png", objects(k), **more), encoding="utf-8")
    (root / "ImageSets/Main").mkdir(parents=True)
    cut = n * 2 // 3
    for name, numbers in zip(lists, (range(cut), range(cut, n)), strict=False):
        text = "\n".join(f"{k:03d}" for k in numbers)
        (root / "ImageSets/Main" / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")
    return root


def coco_content(numbers, box=(5, 5, 20, 20)):
    return {
        "images": [{"id": k, "file_name": f"{k:03d}.png", "width": WIDTH, "height": HEIGHT} for k in numbers],
        "annotations": [
            {"id": k + 100, "image_id": k, "category_id": 1 + k % 2, "bbox": list(box), "iscrowd": 0} for k in numbers
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def coco(root, n=6, change=None, splits=("train", "val")):
    """Write the COCO layout; `change` is done to the first file."""
    cut = n * 2 // 3
    (root / "annotations").mkdir(parents=True)
    for split, numbers in zip(splits, (range(cut), range(cut, n)), strict=False):
        folder = root / "images" / split
        folder.mkdir(parents=True)
        for k in numbers:
            picture(k).save(folder / f"{k:03d}.png")
        content = coco_content(numbers)
        if change and split == splits[0]:
            content = change(content) or content
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def mutate(root, seed):
    """Do one random thing to a folder of annotations; return what."""
    random_ = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if random_.random() < 0.3:
        return _mutate_file(random_.choice(files), random_)
    file = random_.choice([path for path in files if path.suffix in (".xml", ".json")])
    return _mutate_xml(file, random_) if file.suffix == ".xml" else _mutate_json(file, random_)


def _mutate_file(file, random_):
    how = random_.choice(["cut", "empty", "remove", "rename", "noise", "html", "folder"])
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[: random_.randrange(len(data))])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "remove":
        file.unlink()
    elif how == "rename":
        file.rename(file.with_name(f"x{file.name}"))
    elif how == "noise":
        place = random_.randrange(len(data))
        file.write_bytes(data[:place] + random_.randbytes(8) + data[place + 8 :])
    elif how == "html":
        file.write_text("<html>not found</html>", encoding="utf-8")
    else:
        file.unlink()
        file.mkdir()
    return f"{how} {file.name}"


WORDS = ["", " ", "abc", "-5", "1e9", "nan", "inf", "0", "猫", "None", "../../etc/passwd", "5,5"]
STRANGE = [*WORDS, "\u0000x", None, [], {}, True, -1, 1e400]


def _mutate_xml(file, random_):
    tree = ElementTree.parse(file)
    parents = [(parent, child) for parent in tree.iter() for child in parent]
    parent, child = random_.choice(parents)
    how = random_.choice(["remove", "twice", "text", "rename", "swap"])
    if how == "remove":
        parent.remove(child)
    elif how == "twice":
        parent.append(child)
    elif how == "text":
        child.text = random_.choice(WORDS)
    elif how == "rename":
        child.tag = f"{child.tag}x"
    else:
        box = tree.find(".//bndbox")
        box[0].text, box[2].text = box[2].text, box[0].text
    tree.write(file, encoding="utf-8")
    return f"{how} <{child.tag}> in {file.name}"


def _mutate_json(file, random_):
    content = json.loads(file.read_text(encoding="utf-8"))
    places = list(_places(content))
    holder, key = random_.choice(places)
    how = random_.choice(["remove", "value", "swap", "string", "rename"])
    if how == "remove":
        del holder[key]
    elif how == "value":
        holder[key] = random_.choice(STRANGE)
    elif how == "string":
        holder[key] = str(holder[key])
    elif how == "rename" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        other, place = random_.choice(places)
        holder[key], other[place] = other[place], holder[key]
    try:
        file.write_text(json.dumps(content), encoding="utf-8")
    except ValueError:  # it contains itself now
        shutil.copy(file, file)
    return f"{how} {key!r} in {file.name}"


def _places(tree):
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])
