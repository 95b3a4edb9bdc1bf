"""Photographs as people have them: read right, mended with a report, or refused in words that name file and object."""

import json
import os
import shutil
import warnings
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_folders import HEIGHT, WIDTH, coco, coco_content, mutate, obj, picture, voc, xml
from PIL import Image
from torchvision.transforms import v2

from mtlkit.data import CocoFolder, DataError, DigitScenes, Loader, OxfordPets, Photos, VocFolder, augment, export
from mtlkit.data.photos import DataWarning, Photo, look, read_image
from mtlkit.data.photos.splits import fifth, hashed, pick_pair
from mtlkit.tasks import AveragePrecision

BOX = [4.0, 4.0, 30.0, 30.0]


def boxes(photos, index=0):
    return photos[index]["boxes"].tolist()


def opened(reader, root, split="train", **options):
    return reader(root, split, WIDTH, **options)


def edit(file, change):
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(change(content) or content), encoding="utf-8")


# real data


def test_pets_have_breeds_heads_and_missing_boxes(real_data):
    parts = {split: OxfordPets(real_data, split) for split in ("train", "val", "trainval", "test")}
    assert len(parts["trainval"]) == 300 == len(parts["train"]) + len(parts["val"])
    assert parts["train"].classes == ("Abyssinian", "American Bulldog", "Bengal")
    for part in parts.values():
        named = [photo.path.stem.rpartition("_")[0].replace("_", " ").title() for photo in part.photos]
        assert named == [photo.label for photo in part.photos]
        assert torch.equal(part[-len(part)]["image"], part[0]["image"])
    assert sum("boxes" in parts["trainval"][k] for k in range(300)) == 296
    assert len(parts["test"]) == 298 and not any(photo.boxes for photo in parts["test"].photos)
    sample = parts["val"][0]
    assert sample["image"].shape == (3, 128, 128) and sample["image"].min() >= 0 and sample["image"].max() <= 1
    assert not parts["trainval"].notes and not parts["trainval"].mended


def test_a_box_is_scaled_with_its_photograph(real_data):
    small, large = OxfordPets(real_data, "val", 64), OxfordPets(real_data, "val", 256)
    index = next(k for k, photo in enumerate(small.photos) if photo.boxes)
    assert torch.allclose(small[index]["boxes"] * 4, large[index]["boxes"])


def test_bccd_is_read_as_voc_with_a_derived_class(real_data):
    root = real_data / "bccd" / "BCCD"
    with pytest.raises(DataError, match=r"BloodImage_00338.xml.*object 13 .*no area.*--repair"):
        VocFolder(root, "trainval")
    cells = VocFolder(root, "trainval", label="contains:Platelets", repair=True)
    assert len(cells.mended) == 2 and "00338" in cells.mended[0] and not cells.notes
    assert cells.box_classes == ("Platelets", "RBC", "WBC") and cells.classes == ("no Platelets", "Platelets")
    assert "derived" in cells.label_origin
    batch = next(Loader(cells, 8, transform=augment(256)))
    assert batch["image"].shape == (8, 3, 256, 256) and batch["has_boxes"].all()


def test_no_pets_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match="mtlkit data get pets"):
        OxfordPets(tmp_path)


# images


def with_images(root, save):
    voc(root, size=None)
    for k in range(6):
        save(root / "JPEGImages" / f"{k:03d}.png", k)
    return opened(VocFolder, root)


@pytest.mark.parametrize("mode", ["GIF", "L", "RGBA", "P", "CMYK", "1", "LA"])
def test_any_image_format_whatever_its_ending_is_read_as_rgb(tmp_path, mode):
    def save(file, k):
        kind = {"GIF": "GIF", "L": "JPEG", "CMYK": "JPEG"}.get(mode, "PNG")
        picture(k).convert("P" if mode == "GIF" else mode).save(file, format=kind)

    assert with_images(tmp_path, save)[2]["image"].shape == (3, WIDTH, WIDTH)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["seen", "stored", "nothing said"])
def test_a_turned_photograph_is_seen_upright_and_its_box_lies_where_it_was_drawn(tmp_path, orientation, drawn_on):
    """A red square in a portrait photograph, stored lying with an EXIF orientation, or annotated as stored."""
    seen = np.zeros((64, 48, 3), np.uint8)
    seen[20:30, 8:18] = (255, 0, 0)
    turn = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]  # undone by the orientation
    stored = Image.fromarray(seen)
    for method in turn:
        stored = stored.transpose(Image.Transpose(method))
    red = np.asarray(stored)[..., 0] > 128
    ys, xs = (np.flatnonzero(red.any(axis)) for axis in (1, 0))
    corners = (9, 21, 18, 30) if drawn_on != "stored" else (xs[0] + 1, ys[0] + 1, xs[-1] + 1, ys[-1] + 1)
    size = {"seen": (48, 64), "stored": stored.size, "nothing said": None}[drawn_on]
    if drawn_on == "stored" and stored.size == (48, 64) and orientation != 1:
        pytest.skip("the sizes say nothing")
    for k in range(2):
        folder = tmp_path / "JPEGImages"
        folder.mkdir(exist_ok=True)
        exif = stored.getexif()
        exif[0x0112] = orientation
        stored.save(folder / f"{k}.png", exif=exif)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{k}.xml").write_text(xml(f"{k}.png", [obj(corners)], size), encoding="utf-8")
    with pytest.warns(DataWarning, match="about a fifth"):
        photos = VocFolder(tmp_path, "train", 64)
    for sample in (photos[0], photos.only(lambda photo: True)[0]):  # kept in memory, and read again
        x0, y0, x1, y1 = (round(side) for side in sample["boxes"][0].tolist())
        assert sample["image"][0, y0:y1, x0:x1].mean() == 1
        assert sample["image"][0].sum() == pytest.approx(100 + 127 / 255 * 16 * 64, rel=0.01)


def test_16_bit_float_and_transparent_images_keep_their_brightness(tmp_path):
    ramp = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    files = {
        "16 bit": Image.fromarray((ramp * 65535).astype(np.uint16)),
        "float": Image.fromarray(ramp.astype(np.float32)),
        "float 255": Image.fromarray((255 * ramp).astype(np.float32)),
        "int": Image.fromarray((ramp * 65535).astype(np.int32)),
    }
    for name, image in files.items():
        file = tmp_path / f"{name}.{'png' if '16' in name else 'tif'}"
        image.save(file)
        got = read_image(file)
        assert got.shape == (3, HEIGHT, WIDTH) and len(got.unique()) == 256
        assert (got[0].double() / 255 - torch.from_numpy(ramp)).abs().max() < 0.003
    for most, expected in ((255, 255), (256, 1)):  # 32-bit numbers that no byte could hold are of 16 bit
        values = np.array([[0, most]], np.int32)
        Image.fromarray(values).save(tmp_path / "whole.tif")
        assert read_image(tmp_path / "whole.tif")[0].tolist() == [[0, expected]]
    Image.fromarray(np.array([[0, 257 * 9 // 10, 257 * 200]], np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png")[0].tolist() == [[0, 1, 200]]
    Image.fromarray(np.array([[0, 250]], np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png")[0].tolist() == [[0, 1]]
    for mode in ("RGBA", "LA"):
        seen_through = Image.new("L", (2, 1), 40).convert(mode)
        seen_through.putalpha(Image.fromarray(np.array([[255, 51]], np.uint8)))
        seen_through.save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png")[0].tolist() == [[40, 212]]  # a fifth of 40, on white
    clear = picture().convert("P")
    clear.save(tmp_path / "clear.png", transparency=bytes(256))
    assert (read_image(tmp_path / "clear.png") == 255).all()
    for values in ([-1.0, 2.0], [0.0, 300.0], [float("nan"), 1.0]):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "bad.tif")
        with pytest.raises(DataError, match=r"bad.tif: has (NaN|pixels from)"):
            read_image(tmp_path / "bad.tif")


@pytest.mark.parametrize("how", ["cut", "empty", "html", "absent", "huge"])
def test_an_image_that_cannot_be_used_is_named_before_training_or_left_out(tmp_path, how):
    voc(tmp_path, size=None)
    file = tmp_path / "JPEGImages" / "002.png"
    data = file.read_bytes()
    file.unlink()
    if how == "huge":
        Image.new("1", (14_000, 14_000)).save(file)
    elif how != "absent":
        file.write_bytes({"cut": data[:900], "empty": b"", "html": b"<html>"}[how])
    with pytest.raises(DataError, match=r"002\.(png|xml).*--repair") as error:
        opened(VocFolder, tmp_path)
    assert len(str(error.value).splitlines()) == 1
    photos = opened(VocFolder, tmp_path, repair=True)
    assert len(photos) == 3 and any("002" in line for line in photos.mended)


def test_all_faults_stand_in_one_list(tmp_path):
    voc(tmp_path, 30, lambda k: [obj((5, 5, 90, 30))])
    with pytest.raises(DataError) as error:
        opened(VocFolder, tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("20 faults in") and len(lines) == 21
    assert all(f"{k:03d}.xml: the box of object 1 (cat)" in lines[k + 1] for k in range(20))
    shutil.rmtree(tmp_path / "Annotations")
    shutil.rmtree(tmp_path / "JPEGImages")
    shutil.rmtree(tmp_path / "ImageSets")
    voc(tmp_path, 60, lambda k: [obj((5, 5, 90, 30))])
    with pytest.raises(DataError, match=r"40 faults in .*\n(.*\n){20}  and 20 more$"):
        opened(VocFolder, tmp_path)


def test_what_is_kept_in_memory_has_a_bound(tmp_path):
    picture().save(tmp_path / "a.png")
    photo = Photo(tmp_path / "a.png", "x", ((1, 1, 20, 20),), ("cat",))
    about = {"classes": ["cat"], "box_classes": ["cat"], "label_origin": "none"}
    photos = Photos([photo] * 50, 64, cache=10 * 3 * 64 * 64, **about)
    for k in range(50):
        photos[k]
    assert len(photos._samples) == 10
    assert torch.equal(photos[49]["image"], photos[0]["image"])
    with pytest.raises(IndexError):
        photos[50]


# boxes


@pytest.mark.parametrize(
    ("box", "read"),
    [
        ((5, 5, 30, 30), BOX),
        ((5, 5, 5, 30), [4, 4, 5, 30]),  # one pixel wide, in VOC's counting
        ((0, 0, 63, 47), [0, 0, 63, 47]),  # tools that count from 0
        ((0.0, 0.0, 64.31, 48.9), [0, 0, 64, 48]),  # rounding at the edge
        ((-0.4, 1, 64, 48), [0, 0, 64, 48]),
        ((5.7, 5.25, 30.5, 29.75), [4.7, 4.25, 30.5, 29.75]),
        (("5 ", " 5", "3e1", "30"), BOX),
    ],
)
def test_a_voc_box_is_read_right(tmp_path, box, read):
    assert boxes(opened(VocFolder, voc(tmp_path, objects=lambda k: [obj(box)])))[0] == pytest.approx(read)


@pytest.mark.parametrize(
    ("box", "said", "mended"),
    [
        ((5, 5, 90, 30), "outside the image of 64x48", [4, 4, 64, 30]),
        ((-9, 5, 30, 30), "outside the image of 64x48", [0, 4, 30, 30]),
        ((70, 5, 90, 30), "lies outside", None),
        ((5, 5, 5, 5), "no area", None),
        ((30, 5, 5, 31), "corners in the wrong order", [5, 5, 30, 31]),
        (("left", 5, 30, 30), "xmin 'left', which is not a number", None),
        (("nan", 5, 30, 30), "xmin nan", None),
        (("", 5, 30, 30), "no <xmin>", None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*only one object:mtlkit.data.photos.DataWarning")
def test_a_wrong_voc_box_names_file_and_object_and_repair_mends_it(tmp_path, box, said, mended):
    voc(tmp_path, objects=lambda k: {2: [obj(), obj(box, "dog")], 0: [obj(name="dog")]}.get(k, [obj()]))
    with pytest.raises(DataError, match=rf"002.xml.*object 2 \(dog\).*{said}.*--repair"):
        opened(VocFolder, tmp_path)
    photos = opened(VocFolder, tmp_path, repair=True)
    assert len(photos.mended) == 1 and "object 2 (dog)" in photos.mended[0]
    assert boxes(photos, 2) == [BOX] + ([mended] if mended else [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:50], "not a Pascal VOC annotation"),
        (lambda text: text.replace("annotation>", "annotations>"), "CVAT's own format"),
        (lambda text: text.replace("<name>cat</name>", "<name> </name>"), "object 1 has no name"),
        (lambda text: text.replace("<name>cat</name>", ""), "object 1 has no name"),
        (lambda text: text.replace("object>", "objct>"), "1 <bndbox> are not inside an <object>"),
        (lambda text: text.replace("<bndbox>", "<bndbox/><bndbox>"), "has 2 <bndbox>"),
        (lambda text: text.replace("bndbox>", "polygon>"), "has a polygon and no <bndbox>"),
        (lambda text: text.replace("xmin", "x"), "no <xmin>"),
    ],
)
def test_a_wrong_voc_file_is_named_and_left_out_by_repair(tmp_path, change, said):
    voc(tmp_path)
    file = tmp_path / "Annotations" / "002.xml"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=rf"002.xml.*{said}.*--repair"):
        opened(VocFolder, tmp_path)
    photos = opened(VocFolder, tmp_path, repair=True)
    assert len(photos.mended) == 1 and sum(len(boxes(photos, k)) for k in range(len(photos))) == 3


def test_a_photograph_scaled_after_it_was_annotated_is_said_and_its_boxes_scaled(tmp_path):
    voc(tmp_path, objects=lambda k: [obj((11, 11, 300, 240))], size=(640, 480))
    with pytest.raises(DataError, match=r"000.xml: says that 000.png has 640x480 pixels, but it has 64x48"):
        opened(VocFolder, tmp_path)
    assert boxes(opened(VocFolder, tmp_path, repair=True))[0] == pytest.approx([1, 1, 30, 24])
    for size in ((0, 0), (65, 48), None):  # not said, or rounded
        shutil.rmtree(tmp_path)
        assert boxes(opened(VocFolder, voc(tmp_path, size=size))) == [BOX]
    shutil.rmtree(tmp_path)
    voc(tmp_path, size=(480, 640))
    with pytest.raises(DataError, match="a different shape"):
        opened(VocFolder, tmp_path)


def test_boxes_in_shares_of_the_image_are_refused(tmp_path):
    with pytest.raises(DataError, match="fractions of the image's width"):
        opened(
            CocoFolder,
            coco(tmp_path, change=lambda c: [a.update(bbox=[0.1, 0.1, 0.3, 0.5]) for a in c["annotations"]] and c),
        )


# difficult objects, crowds, and many objects


@pytest.mark.parametrize("reader", [VocFolder, CocoFolder])
def test_crowds_and_difficult_objects_are_not_trained_on_and_ignored_in_scoring(tmp_path, reader):
    def crowd(content):
        more = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1, "id": 7}
        content["annotations"].append(more)

    if reader is VocFolder:
        voc(
            tmp_path,
            objects=lambda k: [obj(), obj((1, 1, 64, 48), extra="<difficult>1</difficult>")] if k == 0 else [obj()],
        )
    else:
        coco(tmp_path, change=crowd)
    photos = opened(reader, tmp_path)
    sample = photos[0]
    assert len(sample["boxes"]) == 1 and sample["ignored"].tolist() == [[0, 0, 64, 48]]
    trained = next(Loader(photos, 4, transform=augment(WIDTH)))
    assert "ignored" not in trained and (trained["box_labels"] >= 0).sum(1).max() == 1
    batch = next(Loader(photos, 4))
    assert batch["ignored"].shape == (4, 1, 4) and (batch["ignored_labels"] >= 0).sum() == 1
    first = int((batch["ignored_labels"][:, 0] >= 0).nonzero())
    found = [
        {"boxes": b[:1], "scores": torch.tensor([0.9]), "labels": own[:1]}
        for b, own in zip(batch["boxes"], batch["box_labels"], strict=True)
    ]
    for extra in (False, True):  # a further find, in the crowd: no mistake
        if extra:
            one = found[first]
            found[first] = {
                "boxes": torch.cat([one["boxes"], torch.tensor([[40.0, 20, 60, 40]])]),
                "scores": torch.tensor([0.9, 0.95]),
                "labels": one["labels"].repeat(2),
            }
        score = AveragePrecision(photos.box_classes)
        score.add(found, batch)
        assert score.compute()["ap"] == pytest.approx(1)


def test_more_than_a_hundred_objects_can_all_be_found():
    number = 150
    corners = torch.stack(
        [torch.tensor([x * 10.0, y * 10.0, x * 10 + 8, y * 10 + 8]) for x in range(15) for y in range(10)]
    )
    batch = {
        "image": torch.zeros(1, 3, 160, 160),
        "boxes": corners[None],
        "box_labels": torch.zeros(1, number, dtype=torch.int64),
        "has_boxes": torch.tensor([True]),
    }
    score = AveragePrecision(["cell"])
    score.most = number
    score.add([{"boxes": corners, "scores": torch.linspace(0.9, 0.5, number), "labels": torch.zeros(number)}], batch)
    assert score.compute()["ap"] == pytest.approx(1)
    from mtlkit.model import Detections

    other = AveragePrecision(["cell"])
    other.update(Detections(torch.full((1, 1, 20, 20), -9.0), torch.zeros(1, 4, 20, 20)), batch)
    assert other.most == number


# classes


def test_labels_are_derived_after_mending_and_after_the_crop(tmp_path):
    """The largest box is an error, and the crop leaves only the left half of the picture."""
    voc(
        tmp_path,
        objects=lambda k: [
            obj((3, 3, 20, 20), "cat"),
            obj((40, 3, 60, 40), "dog"),
            obj((70, 1, 900, 900), "cow"),
            obj((1, 1, 9, 9), "cow"),
        ],
    )
    photos = opened(VocFolder, tmp_path, repair=True)
    assert photos.classes == ("cat", "cow", "dog") and photos.classes[photos[0]["label"]] == "dog"

    def left_half(sample):
        kept = v2.functional.crop(sample["image"], 0, 0, WIDTH, 32)
        inside = sample["boxes"][:, 0] < 32
        return sample | {"image": kept, "boxes": sample["boxes"][inside], "box_labels": sample["box_labels"][inside]}

    assert next(Loader(photos, 4, transform=left_half))["label"].tolist() == [0] * 4
    contains = opened(VocFolder, tmp_path, repair=True, label="contains:dog")
    assert next(Loader(contains, 4))["label"].tolist() == [1] * 4
    assert next(Loader(contains, 4, transform=left_half))["label"].tolist() == [0] * 4

    def nothing(sample):
        return sample | {"boxes": sample["boxes"][:0], "box_labels": sample["box_labels"][:0]}

    assert next(Loader(photos, 4, transform=nothing))["label"].tolist() == [-1] * 4
    with pytest.raises(ValueError, match="contains:cat"):
        opened(VocFolder, tmp_path, repair=True, label="contains:mouse")


def test_names_that_differ_in_case_or_blanks_are_said_and_made_one_by_repair(tmp_path):
    voc(tmp_path, 8, objects=lambda k: [obj(name=["cat", "Cat", "cat ", "dog"][k % 4])])
    with pytest.warns(DataWarning, match="'Cat', 'cat', 'cat ' differ only in case or blanks"):
        assert opened(VocFolder, tmp_path).box_classes == ("Cat", "cat", "dog")
    with pytest.warns(DataWarning, match="taken as one"):
        assert opened(VocFolder, tmp_path, repair=True).box_classes == ("cat", "dog")


def test_categories_have_the_same_number_in_all_splits(tmp_path):
    coco(tmp_path)
    edit(tmp_path / "annotations/instances_val.json", lambda c: c["categories"].reverse())
    train, test = (opened(CocoFolder, tmp_path, split) for split in CocoFolder.pair(tmp_path))
    assert train.box_classes == test.box_classes == ("cat", "dog")
    assert [int(train[k]["box_labels"][0]) for k in range(4)] == [0, 1, 0, 1]
    assert [int(test[k]["box_labels"][0]) for k in range(2)] == [0, 1]
    edit(tmp_path / "annotations/instances_val.json", lambda c: c["categories"].append({"id": 3, "name": "cow"}))
    for split in ("train", "val"):
        with pytest.warns(DataWarning, match="differ in their categories: cow"):
            assert opened(CocoFolder, tmp_path, split).box_classes == ("cat", "dog", "cow")


def test_a_class_with_one_object_and_objects_marked_twice_are_said(tmp_path):
    voc(tmp_path, 6, lambda k: [obj(name="cta" if k == 2 else "cat")])
    with pytest.warns(DataWarning, match="only one object of 'cta'"):
        opened(VocFolder, tmp_path)
    shutil.rmtree(tmp_path)
    voc(tmp_path, objects=lambda k: [obj(), obj()] if k == 1 else [obj()])
    with pytest.warns(DataWarning, match=r"1 objects are marked twice.*object 2 of 001.png"):
        opened(VocFolder, tmp_path)


# COCO


def every(change):
    return lambda content: [change(entry) for entry in content["annotations"]] and content


@pytest.mark.parametrize(
    "change",
    [
        every(lambda a: a.update(bbox=["5", "5", "20", "20"])),
        every(lambda a: a.update(image_id=str(a["image_id"]))),
        every(lambda a: a.update(category_id=str(a["category_id"]), image_id=float(a["image_id"]))),
        every(lambda a: a.pop("id")),
        every(lambda a: a.update(segmentation=[[5, 5, 25, 5, 25, 25, 5, 25]], bbox=None)),
        every(lambda a: (a.update(segmentation=[5, 5, 25, 5, 25, 25]), a.pop("bbox"))),
        every(
            lambda a: a.update(segmentation={"size": [48, 64], "counts": [245, 20] + [28, 20] * 19 + [1867]}, bbox=[])
        ),
        lambda c: [i.update(file_name=f"images\\train\\{i['file_name']}") for i in c["images"]] and c,
        lambda c: [i.update(file_name=f"../../upload/1/{i['file_name']}") for i in c["images"]] and c,
        lambda c: [i.update(file_name=i["file_name"].replace(".png", ".JPG")) for i in c["images"]] and c,
        lambda c: [i.update(file_name=i["file_name"].upper()) for i in c["images"]] and c,
        lambda c: [i.pop("width") for i in c["images"]] and c,
        lambda c: c["categories"].reverse(),
    ],
)
def test_coco_files_as_tools_write_them_are_read_right(tmp_path, change):
    photos = opened(CocoFolder, coco(tmp_path, change=change))
    assert [boxes(photos, k) for k in range(4)] == [[[5, 5, 25, 25]]] * 4
    assert [photos.box_classes[int(photos[k]["box_labels"][0])] for k in range(4)] == ["cat", "dog", "cat", "dog"]
    assert not photos.mended and not photos.notes


@pytest.mark.parametrize(
    ("change", "said", "left"),
    [
        (lambda c: c["annotations"][1].update(category_id=99), "annotation 101 has category_id 99", 3),
        (lambda c: c["annotations"][1].update(image_id=77), "annotation 101 is for image 77", 3),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 0, 5]), r"annotation 101 \(dog\).*no area", 3),
        (lambda c: c["annotations"][1].update(bbox=[60, 2, 30, 5]), r"annotation 101 \(dog\).*outside", 4),
        (lambda c: c["annotations"][1].update(bbox=[30, 30, -10, -10]), r"annotation 101 .*wrong order", 4),
        (lambda c: c["annotations"][1].pop("bbox"), r"annotation 101 .*bbox None: expected \[x, y, width", 3),
        (lambda c: c["annotations"][1].update(bbox=[]), "annotation 101 .*bbox", 3),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "annotation 101 .*bbox", 3),
        (lambda c: c["annotations"][1].update(bbox="big"), "annotation 101 .*bbox 'big'", 3),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, "x", 4]), "annotation 101 .*four numbers", 3),
        (lambda c: c["annotations"][1].update(bbox=[1, float("nan"), 3, 4]), "annotation 101 .*finite", 3),
        (lambda c: c["annotations"][1].update(bbox=None, segmentation=[[]]), "annotation 101 .*segmentation", 3),
        (lambda c: c["annotations"].__setitem__(1, 5), "annotation number 2 is not an object", 3),
        (lambda c: c["images"][1].pop("file_name"), "image 2 of the list has no file_name", 3),
        (lambda c: c["images"][1].update(file_name="gone.png"), "its image 'gone.png' is not there", 3),
        (lambda c: c["images"][1].update(id=0), "'000.png' and '001.png' have the same id 0", 2),
        (lambda c: c["images"][1].update(file_name="000.png"), "'000.png' is listed twice", 4),
        (lambda c: c["categories"][1].pop("name"), "category number 2 has no name", 2),
    ],
)
def test_a_wrong_coco_entry_is_named_and_repair_mends_it(tmp_path, change, said, left):
    coco(tmp_path, change=lambda c: change(c) and None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(DataError, match=rf"instances_train.json.*{said}"):
            opened(CocoFolder, tmp_path)
        photos = opened(CocoFolder, tmp_path, repair=True)
    assert photos.mended and sum(len(boxes(photos, k)) for k in range(len(photos))) == left


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"[]", "a list"),
        (b'{"images": [{"id": 1', "not valid JSON"),
        (b'{"images": [], "annotations": [], "categories": []}', "lists no images"),
        (b'{"images": [], "categories": []}', "no list 'annotations'"),
        (
            json.dumps(
                coco_content(range(4)) | {"categories": [{"id": 1, "name": "méduse"}, {"id": 2, "name": "b"}]},
                ensure_ascii=False,
            ).encode("latin-1"),
            r"not in UTF-8 \(byte \d+ is 0xe9\): save it in UTF-8",
        ),
        (
            json.dumps(
                coco_content(range(4)) | {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}
            ).encode(),
            "'a' and 'b' have the same id 1",
        ),
        (json.dumps(coco_content(range(40, 44))).encode(), "none of the 4 images that it names lies below"),
        (json.dumps(coco_content(range(4)) | {"annotations": []}).encode(), "nothing to learn"),
    ],
)
def test_what_is_no_coco_file_is_refused_even_with_repair(tmp_path, content, said):
    coco(tmp_path)
    (tmp_path / "annotations/instances_train.json").write_bytes(content)
    for repair in (False, True):
        with warnings.catch_warnings(), pytest.raises(DataError, match=said):
            warnings.simplefilter("ignore", DataWarning)
            opened(CocoFolder, tmp_path, repair=repair)


def test_categories_of_one_name_are_one_class(tmp_path):
    coco(
        tmp_path,
        change=lambda c: (
            (c["categories"].append({"id": 3, "name": "cat"}), c["annotations"][2].update(category_id=3)) and c
        ),
    )
    with pytest.warns(DataWarning, match="several categories have the same name"):
        photos = opened(CocoFolder, tmp_path)
    assert photos.box_classes == ("cat", "dog") and int(photos[2]["box_labels"][0]) == 0


def test_an_image_without_boxes_is_a_sample_without_objects(tmp_path):
    coco(tmp_path, change=lambda c: c["annotations"].pop(1) and c)
    photos = opened(CocoFolder, tmp_path)
    assert photos[1]["boxes"].shape == (0, 4) and photos[1]["box_labels"].shape == (0,)
    assert next(Loader(photos, 4, transform=augment(WIDTH)))["has_boxes"].all()


# encodings


def nameable(name):
    """Whether a file can have this name: on Linux that depends on the locale."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk", "cp1252", "utf8mb4"])
def test_xml_and_lists_are_read_in_the_encodings_of_tools(tmp_path, encoding):
    name = {"cp1252": "méduse"}.get(encoding, "猫")
    stem = name if nameable(name) else "x"
    voc(tmp_path, objects=lambda k: [obj(name=name)])
    codec = {"utf8mb4": "utf-8"}.get(encoding, encoding)
    declared = encoding if encoding in ("gbk", "cp1252", "utf8mb4") else None
    for file in (tmp_path / "Annotations").iterdir():
        head = f'<?xml version="1.0" encoding="{declared.replace("cp1252", "windows-1252")}"?>' if declared else ""
        file.write_bytes((head + file.read_text(encoding="utf-8")).encode(codec))
        file.rename(file.with_name(f"{stem}{file.name}"))
    for file in (tmp_path / "JPEGImages").iterdir():
        file.rename(file.with_name(f"{stem}{file.name}"))
    file = tmp_path / "ImageSets/Main/train.txt"
    file.write_bytes("".join(f"{stem}{k:03d}\r\n" for k in range(4)).encode(codec))
    photos = VocFolder(tmp_path, "train", WIDTH)
    assert len(photos) == 4 and photos.box_classes == (name,)


def test_a_json_with_a_mark_of_notepad_is_read(tmp_path):
    coco(tmp_path)
    for encoding in ("utf-8-sig", "utf-16"):
        file = tmp_path / "annotations/instances_train.json"
        file.write_bytes(json.dumps(coco_content(range(4))).encode(encoding))
        assert len(opened(CocoFolder, tmp_path)) == 4


# layouts


def names(photos):
    return sorted(photo.path.name for photo in photos.photos)


def both(reader, root):
    return [opened(reader, root, split) for split in reader.pair(root)]


def test_images_beside_their_xml_as_labelimg_leaves_them(tmp_path):
    voc(tmp_path / "t")
    for file in [*(tmp_path / "t/JPEGImages").iterdir(), *(tmp_path / "t/Annotations").iterdir()]:
        file.rename(tmp_path / file.name)
    shutil.rmtree(tmp_path / "t")
    (tmp_path / "._000.xml").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/000.xml").write_bytes(b"\x00\x05")
    with pytest.warns(DataWarning, match="no list of test images: about a fifth"):
        train, test = both(VocFolder, tmp_path)
    assert len(test) and sorted(names(train) + names(test)) == [f"{k:03d}.png" for k in range(6)]
    picture(9).save(tmp_path / "spare.png")
    with pytest.warns(DataWarning) as said:
        assert names(opened(VocFolder, tmp_path, "train")) == names(train)
    assert any("1 images have no annotation file and are left out, e.g. spare.png" in str(w.message) for w in said)


def test_roboflows_folders_for_voc_and_coco(tmp_path):
    for split, numbers in (("train", range(4)), ("valid", range(4, 6)), ("test", range(6, 8))):
        for kind in ("voc", "coco"):
            (tmp_path / kind / split).mkdir(parents=True)
            for k in numbers:
                picture(k).save(tmp_path / kind / split / f"{k:03d}.png")
        for k in numbers:
            (tmp_path / "voc" / split / f"{k:03d}.xml").write_text(xml(f"{k:03d}.png", [obj()]), encoding="utf-8")
        file = tmp_path / "coco" / split / "_annotations.coco.json"
        file.write_text(json.dumps(coco_content(numbers)), encoding="utf-8")
    for reader, folder in ((VocFolder, "voc"), (CocoFolder, "coco")):
        assert reader.pair(tmp_path / folder) == ("train", "test")
        train, test = both(reader, tmp_path / folder)
        assert names(train) == [f"{k:03d}.png" for k in range(4)] and names(test) == ["006.png", "007.png"]
        assert len(opened(reader, tmp_path / folder, "valid")) == 2


@pytest.mark.parametrize(
    "file",
    [
        "result.json",
        "annotations/instances_default.json",
        "annotations/instances_train.json",
        "_annotations.coco.json",
        "labels.json",
    ],
)
def test_one_coco_file_is_split_by_a_hash_and_that_is_said(tmp_path, file):
    folder = tmp_path / "images/default" if "default" in file else tmp_path / "images"
    folder.mkdir(parents=True)
    for k in range(6):
        picture(k).save(folder / f"{k:03d}.png")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(coco_content(range(6))), encoding="utf-8")
    (tmp_path / "annotations/captions_train.json").parent.mkdir(exist_ok=True)
    (tmp_path / "annotations/captions_train.json").write_text("{}", encoding="utf-8")
    with pytest.warns(DataWarning, match="about a fifth of the images is used, chosen by a hash"):
        train, test = both(CocoFolder, tmp_path)
    assert len(test) >= 1 and sorted(names(train) + names(test)) == [f"{k:03d}.png" for k in range(6)]


def test_cvats_one_list_is_split_by_a_hash(tmp_path):
    voc(tmp_path, lists=("default",), n=9)
    with pytest.warns(DataWarning, match="about a fifth"):
        train, test = both(VocFolder, tmp_path)
    assert len(test) >= 1 and len(train) + len(test) == 6
    assert len(opened(VocFolder, tmp_path, "default")) == 6


def test_a_hash_leaves_no_split_empty():
    for number in range(2, 60):
        rows = [f"{k}.png" for k in range(number)]
        train, test = hashed(rows, "train"), hashed(rows, "test")
        assert train and test and sorted(train + test) == sorted(rows)
    all_to_test = [name for name in (f"{k}.png" for k in range(40)) if fifth(name) == 0][:3]
    assert hashed(all_to_test, "train") == [max(all_to_test, key=lambda name: zlib.crc32(name.encode()))]
    with pytest.raises(DataError, match="there is one image: at least two are needed"):
        hashed(["a"], "test")


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (("train", "val", "trainval", "test"), ("trainval", "test")),
        (("train", "val", "trainval"), ("train", "val")),
        (("train", "test"), ("train", "test")),
        (("train2017", "val2017"), ("train2017", "val2017")),
        (("valid", "train"), ("train", "valid")),
        (("cat_train", "cat_val", "train", "val"), ("train", "val")),
        (("default",), None),
    ],
)
def test_what_is_tested_on_is_never_trained_on(lists, expected):
    assert pick_pair(lists, Path()) == expected


def test_an_image_in_both_lists_is_said(tmp_path):
    voc(tmp_path)
    (tmp_path / "ImageSets/Main/val.txt").write_text("000\n005\n", encoding="utf-8")
    with pytest.warns(DataWarning, match=r"1 images are in both 'train' and 'val', e.g. 000"):
        opened(VocFolder, tmp_path)


@pytest.mark.parametrize(
    "filename",
    ["003", "003.jpg", "003.PNG", "folder\\003.png", "C:\\Users\\me\\003.png", "/home/me/003.png", " 003.png "],
)
def test_an_image_is_found_however_its_annotation_spells_it(tmp_path, filename):
    voc(tmp_path)
    (tmp_path / "Annotations/003.xml").write_text(xml(filename, [obj()]), encoding="utf-8")
    assert names(opened(VocFolder, tmp_path)) == [f"{k:03d}.png" for k in range(4)]


@pytest.mark.parametrize("image", ["IMG 003 (1).png", "003", "été 图.png", "a.b.c.png", "003.jfif"])
def test_images_may_have_any_name(tmp_path, image):
    if not nameable(image):
        pytest.skip("the encoding of file names here has no such letters")
    voc(tmp_path)
    stem = image.rpartition(".")[0] or image
    (tmp_path / "JPEGImages/003.png").rename(tmp_path / "JPEGImages" / image)
    (tmp_path / "Annotations/003.xml").unlink()
    (tmp_path / "Annotations" / f"{stem}.xml").write_text(xml(image, [obj()]), encoding="utf-8")
    (tmp_path / "ImageSets/Main/train.txt").write_text(
        f"{stem}\n000 1\n001.png\nJPEGImages/002.png\n", encoding="utf-8"
    )
    assert names(opened(VocFolder, tmp_path)) == sorted([image, "000.png", "001.png", "002.png"])


def test_an_image_is_not_taken_from_another_split(tmp_path):
    """Numbers begin again in each of them: that would be another picture."""
    coco(tmp_path)
    (tmp_path / "images/val/001.png").write_bytes((tmp_path / "images/val/004.png").read_bytes())
    (tmp_path / "images/train/001.png").unlink()
    with pytest.raises(DataError, match=r"its image '001.png' is not there"):
        opened(CocoFolder, tmp_path)


def test_two_annotations_of_one_image_and_two_images_of_one_name_are_named(tmp_path):
    voc(tmp_path)
    (tmp_path / "Annotations/001.xml").write_text(xml("000.png", [obj()]), encoding="utf-8")
    (tmp_path / "JPEGImages/001.png").unlink()
    with pytest.raises(DataError, match=r"001.xml: is for the image 000.png, and so is .*000.xml"):
        opened(VocFolder, tmp_path)
    (tmp_path / "Annotations/001.xml").write_text(xml("001", [obj()]), encoding="utf-8")
    for ending in ("jpg", "png"):
        picture().save(tmp_path / f"JPEGImages/001.{ending}")
    with pytest.raises(DataError, match=r"001.xml: its image '001' may be JPEGImages/001.jpg and JPEGImages/001.png"):
        opened(VocFolder, tmp_path)


@pytest.mark.parametrize("how", ["name", "link", "folder"])
def test_nothing_outside_of_the_folder_is_opened(tmp_path, how):
    root = voc(tmp_path / "inside") if how != "folder" else tmp_path / "inside"
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(7).save(outside / "secret.png")
    if how == "folder":
        voc(root)
        shutil.move(root / "JPEGImages", outside / "JPEGImages")
        os.symlink(outside / "JPEGImages", root / "JPEGImages")
    else:
        (root / "JPEGImages/003.png").unlink()
        named = str(outside / "secret.png") if how == "name" else "003.png"
        (root / "Annotations/003.xml").write_text(xml(named, [obj()]), encoding="utf-8")
        if how == "link":
            os.symlink(outside / "secret.png", root / "JPEGImages/003.png")
    with pytest.raises(DataError, match="is not there" if how == "name" else "is a link that leads out of the folder"):
        opened(VocFolder, root)


def test_wrong_folders_are_named(tmp_path):
    root = voc(tmp_path / "VOCdevkit/VOC2007")
    cases = [
        (VocFolder, tmp_path / "nowhere", "there is no folder"),
        (VocFolder, root / "Annotations/000.xml", "is a file: give the folder"),
        (CocoFolder, root, r"it has XML files: .*voc:"),
        (VocFolder, coco(tmp_path / "coco"), "has no .xml file"),
        (CocoFolder, tmp_path / "coco/annotations", "none of the 4 images"),
        (VocFolder, root / "JPEGImages", "has no .xml file"),
        (VocFolder, root.parent, "has no folder Annotations/, but .*VOC2007 has: give that folder"),
    ]
    for reader, folder, said in cases:
        with pytest.raises(DataError, match=said):
            opened(reader, folder)
    (root / "ImageSets/Main/empty.txt").write_text("\n", encoding="utf-8")
    for split, said in (("test", "no split 'test'; it has empty, train, val"), ("empty", "empty.txt is empty")):
        with pytest.raises(DataError, match=said):
            opened(VocFolder, root, split)
    (root / "Annotations/003.xml").unlink()
    with pytest.raises(DataError, match=r"003.xml is missing.*missing_ok"):
        opened(VocFolder, root)
    assert "boxes" not in opened(VocFolder, root, missing_ok=True)[3]
    assert len(opened(VocFolder, root, repair=True)) == 3


def test_no_object_at_all_is_refused(tmp_path):
    for repair in (False, True):
        with pytest.raises(DataError, match="nothing to learn"):
            opened(VocFolder, voc(tmp_path / str(repair), objects=lambda k: []), repair=repair)


# looking first


def test_look_says_what_is_there_and_what_looks_wrong(tmp_path, real_data):
    voc(tmp_path, 9, lambda k: [obj(), obj((1, 1, 64, 48), "dog"), obj((2, 2, 60, 2), "cat")] if k == 1 else [obj()])
    shutil.copy(tmp_path / "JPEGImages/000.png", tmp_path / "JPEGImages/008.png")
    splits = look.look(tmp_path)
    said = "\n".join(line for split in splits for line in split.lines())
    for part in (
        "train: 6 photographs, 64 wide, 48 high",
        "8 objects, 1 to 3 in a photograph",
        "class 'cat': 7 objects",
        "1 boxes around the whole image: 001.png, object 2 (dog)",
        "1 boxes smaller than 8 pixels in an image of 256: 001.png, object 3 (cat)",
        "1 boxes more than 15 times as long as wide: 001.png, object 3 (cat)",
    ):
        assert part in said, part
    assert splits[0].shown[0] == 1 and look.same_pictures(splits) == ["000.png of 'train' is 008.png of 'val'"]
    cells = look.look(real_data / "bccd/BCCD")
    assert "fault: " in "\n".join(cells[0].lines()) and not look.same_pictures(cells)
    pets = look.look(real_data)
    assert [split.name for split in pets] == ["trainval", "test"]
    for split in pets:
        known = sum("boxes" in split.photos[k] for k in range(len(split.photos)))
        without = len(split.photos) - known
        assert (f", of which {without:,} have no box target" in "\n".join(split.lines())) == (without > 0)
    assert "boxes" not in pets[1].photos[0]
    with pytest.raises(DataError, match=r"neither .xml nor .json"):
        look.look(tmp_path / "JPEGImages")


# anything at all


@pytest.mark.parametrize(("write", "reader"), [(voc, VocFolder), (coco, CocoFolder)])
def test_whatever_is_done_to_a_folder_ends_in_samples_or_in_words(tmp_path, write, reader):
    """200 random changes: no other error than ours, which names the folder; and repair mends or says."""
    clean = write(tmp_path / "clean")
    outcomes = {"read": 0, "refused": 0, "mended": 0}
    for seed in range(200):
        root = tmp_path / str(seed)
        shutil.copytree(clean, root)
        what = mutate(root, seed)
        for repair in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                try:
                    for photos in [reader(root, split, 32, repair=repair) for split in reader.pair(root)]:
                        for k in range(len(photos)):
                            photos[k]
                        if not repair:
                            assert not photos.mended
                        outcomes["mended" if photos.mended else "read"] += 1
                except DataError as error:
                    outcomes["refused"] += 1
                    assert str(root) in str(error), what
                except Exception as error:
                    raise AssertionError(what) from error
        shutil.rmtree(root)
    assert min(outcomes.values()) > 20


def test_scenes_written_and_read_back_need_no_word(tmp_path):
    for layout, reader in (("voc", VocFolder), ("coco", CocoFolder)):
        for split in ("train", "val"):
            export(DigitScenes(split, 6), tmp_path / layout, layout, split)
        assert [len(photos) for photos in both(reader, tmp_path / layout)] == [6, 6]


# found by trying


def flat(root, numbers, filename=lambda k: f"{k:03d}.png", objects=lambda k: [obj()]):
    root.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        picture(k).save(root / f"{k:03d}.png")
        (root / f"{k:03d}.xml").write_text(xml(filename(k), objects(k)), encoding="utf-8")


def silently(reader, root, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return [opened(reader, root, split, **options) for split in reader.pair(root)]


def said(reader, root, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for split in reader.pair(root):
            opened(reader, root, split, **options)
    return "\n".join(str(one.message) for one in found)


def test_files_that_were_renamed_go_by_their_own_names(tmp_path):
    order = [3, 5, 1, 0, 2, 4]
    flat(tmp_path, range(6), lambda k: f"{order[k]:03d}.png")
    with pytest.raises(DataError, match=r"000.xml: its <filename> names 003.png, but 000.png is there"):
        silently(VocFolder, tmp_path)
    for photos in silently(VocFolder, tmp_path, repair=True):
        assert all(photo.path.stem == Path(photo.source).stem for photo in photos.photos)


def test_images_in_both_coco_files_are_said(tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(6):
        picture(k).save(tmp_path / f"images/{k:03d}.png")
    for name, numbers in (("train", range(5)), ("val", range(3, 6))):
        (tmp_path / f"{name}.json").write_text(json.dumps(coco_content(numbers)), encoding="utf-8")
    assert "2 images are in both 'train' and 'val', e.g. 003.png" in said(CocoFolder, tmp_path)


def test_copies_of_one_photograph_stay_together(tmp_path):
    content = coco_content(range(30))
    (tmp_path / "train").mkdir()
    for k, image in enumerate(content["images"]):
        image["file_name"] = f"img{k // 3}_jpg.rf.{k * 7919:032x}.jpg"
        picture(k // 3).save(tmp_path / "train" / image["file_name"])
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    train, test = silently(CocoFolder, tmp_path)
    taken = [{photo.path.name.partition("_")[0] for photo in part.photos} for part in (train, test)]
    assert taken[1] and not taken[0] & taken[1] and len(train) + len(test) == 30


def test_a_missing_image_is_not_taken_from_elsewhere(tmp_path):
    content = coco_content(range(4))
    for folder in ("images", "masks"):
        (tmp_path / "a" / folder).mkdir(parents=True)
        for k in range(4):
            picture(k).save(tmp_path / "a" / folder / f"{k:03d}.png")
    (tmp_path / "a/labels.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "a/images/001.png").unlink()
    for camera in (1, 2):
        (tmp_path / f"b/cam{camera}").mkdir(parents=True)
        for k in range(2):
            picture(k).save(tmp_path / f"b/cam{camera}/{k:03d}.png")
    for k, image in enumerate(content["images"]):
        image["file_name"] = f"cam{1 + k // 2}/{k % 2:03d}.png"
    (tmp_path / "b/labels.json").write_text(json.dumps(content), encoding="utf-8")
    assert sum(map(len, silently(CocoFolder, tmp_path / "b"))) == 4
    (tmp_path / "b/cam2/001.png").unlink()
    flat(tmp_path / "c/one", range(3))
    flat(tmp_path / "c/two", range(3))
    (tmp_path / "c/two/001.png").unlink()
    for folder, reader, name in (
        ("a", CocoFolder, "001.png"),
        ("b", CocoFolder, "cam2/001.png"),
        ("c", VocFolder, "001.png"),
    ):
        with pytest.raises(DataError, match=f"its image '{name}' is not there"):
            silently(reader, tmp_path / folder)


def test_two_names_that_end_on_one_file_are_left_out(tmp_path):
    content = coco_content(range(4))
    (tmp_path / "images").mkdir()
    for k, image in enumerate(content["images"]):
        image["file_name"] = f"cam{k % 2}/{k // 2}.png"
        picture(k).save(tmp_path / f"images/{k // 2}.png")
    for k in (7, 8):
        content["images"].append({"id": k, "file_name": f"{k}.png"})
        content["annotations"].append({"image_id": k, "category_id": 1, "bbox": [5, 5, 9, 9]})
        picture(k).save(tmp_path / f"images/{k}.png")
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"the images 'cam0/0.png' and 'cam1/0.png' are both 0.png"):
        silently(CocoFolder, tmp_path)
    assert sorted(sum(map(names, silently(CocoFolder, tmp_path, repair=True)), [])) == ["7.png", "8.png"]  # noqa: RUF017


def test_a_turned_tiff_is_read_as_pillow_shows_it(tmp_path):
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    exif = image.getexif()
    exif[274] = 6
    for k in range(3):
        image.save(tmp_path / f"{k}.tif", exif=exif)
        (tmp_path / f"{k}.xml").write_text(xml(f"{k}.tif", [obj((5, 40, 30, 63))], None), encoding="utf-8")
    assert boxes(silently(VocFolder, tmp_path)[0]) == [[4, 39, 30, 63]]


@pytest.mark.parametrize("mark", ["1", "true", "Yes", "1.0"])
def test_difficult_is_understood_and_nothing_else_is_nothing_to_learn(tmp_path, mark):
    voc(tmp_path, objects=lambda k: [obj(extra=f"<difficult>{mark}</difficult>")])
    with pytest.raises(
        DataError, match="all 4 objects are marked as difficult or crowds, so there is nothing to learn"
    ):
        opened(VocFolder, tmp_path)


def test_several_lists_of_one_kind_are_refused_and_lists_elsewhere_are_read(tmp_path):
    for folder, numbers in (("train_day", range(3)), ("train_night", range(3, 6)), ("test", range(6, 8))):
        flat(tmp_path / "days" / folder, numbers)
    with pytest.raises(DataError, match="several lists to train on, train_day, train_night"):
        VocFolder.pair(tmp_path / "days")
    coco(tmp_path / "parts")
    where = tmp_path / "parts/annotations"
    (where / "instances_train.json").rename(where / "instances_train_a.json")
    shutil.copy(where / "instances_train_a.json", where / "instances_train_b.json")
    with pytest.raises(DataError, match="several lists to train on"):
        CocoFolder.pair(tmp_path / "parts")
    (where / "instances_train_b.json").unlink()
    (where / "instances_val.json").rename(where / "val.json")
    assert CocoFolder.pair(tmp_path / "parts") == ("train_a", "val")
    for place in ("ImageSets", "."):
        root = voc(tmp_path / f"lists{len(place)}")
        main = root / "ImageSets/Main"
        for split in ("train", "val"):
            rows = (main / f"{split}.txt").read_text(encoding="utf-8").split()
            text = "".join(f"JPEGImages/{name}.png Annotations/{name}.xml\n" for name in rows)
            (root / place / f"{split}_list.txt").write_text(text, encoding="utf-8")
        shutil.rmtree(main)
        assert [len(part) for part in both(VocFolder, root)] == [4, 2]
    with pytest.raises(DataError, match="name one 'train' and another 'test' or 'val'"):
        pick_pair(["trainval", "val"], tmp_path)


def test_annotations_in_unexpected_places_are_said(tmp_path):
    voc(tmp_path)
    (tmp_path / "Annotations/000.xml").rename(tmp_path / "JPEGImages/000.xml")
    with pytest.raises(DataError, match=r"1 .xml files lie outside of Annotations/"):
        opened(VocFolder, tmp_path)
    root = tmp_path / "robo"
    for split, numbers in (("train", range(3)), ("valid", range(3, 5)), ("test", range(5, 7))):
        flat(root / split, numbers)
    flat(root, [9])
    with pytest.raises(DataError, match=r"009.xml: lies in none of the folders that are splits"):
        silently(VocFolder, root)
    assert [len(part) for part in silently(VocFolder, root, repair=True)] == [3, 2]


def test_strange_boxes_of_one_photograph_are_named(tmp_path):
    for box, what in (
        ((0.1, 0.2, 0.5, 0.6), "002.xml: all boxes of 002.png lie within one pixel"),
        ((5, 5, 4, 9), "002.xml"),
    ):
        root = voc(tmp_path / str(len(what)), objects=lambda k, box=box: [obj(box)] if k == 2 else [obj()])
        with pytest.raises(DataError, match=what):
            opened(VocFolder, root)
    coco(tmp_path / "thin", change=lambda c: c["annotations"][0].update(bbox=[40.5, 5, 1e-6, 20]))
    with pytest.raises(DataError, match=r"annotation 100 \(cat\).*no area"):
        opened(CocoFolder, tmp_path / "thin")


def test_names_in_two_unicode_forms_are_one_class(tmp_path):
    import unicodedata

    voc(tmp_path, objects=lambda k: [obj(name=unicodedata.normalize(("NFC", "NFD")[k % 2], "méduse"))])
    with pytest.warns(DataWarning, match="taken as one"):
        assert opened(VocFolder, tmp_path).box_classes == ("méduse",)


def test_links_to_themselves_pipes_and_names_in_no_encoding_do_no_harm(tmp_path):
    voc(tmp_path / "loop")
    (tmp_path / "loop/JPEGImages/001.png").unlink()
    os.symlink("001.png", tmp_path / "loop/JPEGImages/001.png")
    with pytest.raises(DataError, match=r"its image '001.png' is not there"):
        opened(VocFolder, tmp_path / "loop")
    voc(tmp_path / "pipe")
    (tmp_path / "pipe/JPEGImages/002.png").unlink()
    os.mkfifo(tmp_path / "pipe/JPEGImages/002.png")
    with pytest.raises(DataError, match=r"its image '002.png' is not there"):
        opened(VocFolder, tmp_path / "pipe")
    flat(tmp_path / "names", range(4))
    for ending in ("png", "xml"):
        os.rename(tmp_path / f"names/000.{ending}", os.fsencode(tmp_path) + b"/names/caf\xe9." + ending.encode())
    (tmp_path / "names/001.xml").write_text(xml("001.png", [obj()]), encoding="utf-8")
    assert sum(map(len, silently(VocFolder, tmp_path / "names", repair=True))) == 4
    root = voc(tmp_path / "dots")
    (root / "ImageSets/Main/train.txt").write_text("000\n.\n/\n\\\n001\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"3 faults|is missing"):
        opened(VocFolder, root)


def test_equal_names_in_folders_are_split_by_their_paths(tmp_path):
    content = coco_content(range(5))
    for k, image in enumerate(content["images"]):
        image["file_name"] = f"scan_{k}/image.png"
        (tmp_path / f"scan_{k}").mkdir()
        picture(k).save(tmp_path / f"scan_{k}/image.png")
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    train, test = silently(CocoFolder, tmp_path)
    assert len(test) >= 1 and len(train) + len(test) == 5


def test_an_image_that_is_not_kept_is_read_once_each_time(tmp_path, monkeypatch):
    photos = opened(VocFolder, voc(tmp_path))
    photos._samples, photos.cache, photos._kept = {}, 0, 0
    read, asked = type(photos)._read, []
    monkeypatch.setattr(type(photos), "_read", lambda self, photo: asked.append(photo) or read(self, photo))
    photos[0], photos[0]
    assert len(asked) == 2


def test_an_empty_split_is_left_out_where_another_can_be_tested_on(tmp_path):
    for split, numbers in (("train", range(4)), ("valid", range(4, 6)), ("test", ())):
        (tmp_path / split).mkdir()
        for k in numbers:
            picture(k).save(tmp_path / split / f"{k:03d}.png")
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(coco_content(numbers)), encoding="utf-8")
    assert CocoFolder.pair(tmp_path) == ("train", "valid")
    assert "test/_annotations.coco.json lists no images and is left out" in said(CocoFolder, tmp_path)


def test_messages_stay_short_and_look_takes_either_format(tmp_path):
    coco(tmp_path)
    many = json.dumps({f"image {k}": {} for k in range(5000)})
    long = json.dumps(coco_content(range(4))).replace("[5, 5, 20, 20]", f"[{'1' * 6000}, 5, 20, 20]")
    wordy = json.dumps(coco_content(range(4), "x" * 5000))
    for content, said in ((many, "'image 0', 'image 1'"), ("{}", "nothing")):
        (tmp_path / "annotations/instances_train.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            opened(CocoFolder, tmp_path)
    for content in (many, long, wordy):
        (tmp_path / "annotations/instances_train.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError) as error:
            opened(CocoFolder, tmp_path)
        assert max(map(len, str(error.value).splitlines())) < 500
    root = voc(tmp_path / "voc")
    (root / "label_map.json").write_text('{"cat": 1}', encoding="utf-8")
    assert look.look(root)[0].name == "train"


@pytest.mark.parametrize("names", [("train", "test"), ("train part", "test part")])
def test_a_folder_without_lists_is_parted_by_a_hash(tmp_path, names):
    root = voc(tmp_path, 40)
    shutil.rmtree(root / "ImageSets", ignore_errors=True)
    with pytest.warns(DataWarning, match="about a fifth"):
        train, test = ({photo.path.name for photo in VocFolder(root, split, 64).photos} for split in names)
    assert len(train | test) == 40 and not train & test and 0 < len(test) < len(train)


def test_an_image_anywhere_is_that_of_its_own_split(tmp_path):
    """The same names in both splits, in a folder that no layout knows."""
    for number, split in enumerate(("train", "val")):
        (tmp_path / "Annotations" / split).mkdir(parents=True)
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for k in range(3):
            picture(10 * number + k, (64, 64)).save(tmp_path / "pictures" / split / f"{k}.png")
            text = xml(f"{k}.png", [obj()], (64, 64))
            (tmp_path / "Annotations" / split / f"{k}.xml").write_text(text, encoding="utf-8")
    for number, split in enumerate(("train", "val")):
        found = VocFolder(tmp_path, split, 64)
        for k in range(3):
            expected = torch.from_numpy(np.array(picture(10 * number + k, (64, 64)))).permute(2, 0, 1) / 255
            assert torch.equal(found[k]["image"], expected)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([(4, 4, 34, 6)], {}),  # 15 times as long as wide, two pixels wide
        ([(4, 4, 35, 6)], {"boxes more than 15 times as long as wide": 1}),
        ([(4, 4, 6, 35)], {"boxes more than 15 times as long as wide": 1}),
        ([(4, 4, 14, 5.9)], {"boxes smaller than 8 pixels in an image of 256": 1}),
        ([(4, 4, 5.9, 14)], {"boxes smaller than 8 pixels in an image of 256": 1}),
        ([(0, 0, 62, 47)], {}),  # 94.9 % of 64 x 48
        ([(0, 0, 62, 48)], {"boxes around the whole image": 1}),
        ([(0, 0, 20, 20), (0, 0, 20, 19)], {}),  # IoU 0.95
        ([(0, 0, 20, 20), (0, 0, 20, 19.1)], {"objects marked twice": 1}),
    ],
)
def test_which_boxes_are_seldom_meant(tmp_path, boxes, said):
    picture().save(tmp_path / "a.png")
    suspicious = defaultdict(list)
    photo = Photo(tmp_path / "a.png", "a.xml", tuple(boxes), ("cat",) * len(boxes))
    assert look._look_at_boxes(photo, suspicious) == bool(said)
    assert {kind: len(places) for kind, places in suspicious.items()} == said


def test_boxes_of_two_classes_in_one_place_are_named_and_ignored_ones_are_not(tmp_path):
    picture().save(tmp_path / "a.png")
    photo = Photo(tmp_path / "a.png", "a.xml", ((0, 0, 9, 9),) * 3, ("cat", "dog", "cow"), ignored=(False, False, True))
    suspicious = defaultdict(list)
    look._look_at_boxes(photo, suspicious)
    assert suspicious == {"boxes of two classes in one place": ["a.png, object 1 and object 2 (cat, dog)"]}


def test_a_look_shows_suspicious_photographs_first_and_others_spread_over_the_folder(tmp_path):
    voc(tmp_path, 90, lambda k: [obj((1, 1, 64, 48)) if k == 7 else obj()])
    (train, test) = look.look(tmp_path)
    assert len(train.photos) == 60 and train.shown == [7, *range(0, 60, 2)]
    assert test.shown == list(range(30))
