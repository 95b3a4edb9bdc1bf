import json
import shutil
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from mtlkit.data import CocoFolder, DataError, DigitScenes, Loader, OxfordPets, VocFolder, augment, export
from mtlkit.data.photos import train_and_test_split


@pytest.fixture
def voc(tmp_path):
    return export(DigitScenes("train", 6), tmp_path, "voc")


@pytest.fixture
def coco(tmp_path):
    return export(DigitScenes("train", 6), tmp_path, "coco")


def edit_voc(root, change, name="train_000002"):
    file = root / "Annotations" / f"{name}.xml"
    tree = ElementTree.parse(file)
    change(tree.getroot())
    tree.write(file)


def set_box(**sides):
    def change(root):
        for side, value in sides.items():
            root.find(f"object/bndbox/{side}").text = str(value)

    return change


def edit_coco(root, change):
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def read_all(dataset):
    return [dataset[k] for k in range(len(dataset))]


def test_pets_have_breeds_heads_and_missing_boxes(real_data):
    parts = {split: OxfordPets(real_data, split) for split in ("train", "val", "trainval", "test")}
    assert (
        {split: len(part) for split, part in parts.items()}["trainval"]
        == 300
        == len(parts["train"]) + len(parts["val"])
    )
    assert parts["train"].classes == ("Abyssinian", "American Bulldog", "Bengal")
    with_boxes = sum("boxes" in sample for sample in read_all(parts["trainval"]))
    assert with_boxes == 296
    assert not any(photo.boxes for photo in parts["test"].photos)
    sample = parts["val"][0]
    assert sample["image"].shape == (3, 128, 128) and sample["image"].min() >= 0 and sample["image"].max() <= 1


def test_a_box_is_scaled_with_its_photograph(real_data):
    small, large = OxfordPets(real_data, "val", 64), OxfordPets(real_data, "val", 256)
    index = next(k for k, photo in enumerate(small.photos) if photo.boxes)
    assert torch.allclose(small[index]["boxes"] * 4, large[index]["boxes"])


def test_bccd_is_read_as_voc_with_a_derived_class(real_data):
    root = real_data / "bccd" / "BCCD"
    with pytest.raises(DataError, match=r"BloodImage_00338.xml.*object 13 .*no area.*--repair"):
        VocFolder(root, "trainval")
    cells = VocFolder(root, "trainval", label="contains:Platelets", repair=True)
    assert cells.box_classes == ("Platelets", "RBC", "WBC") and cells.classes == ("no Platelets", "Platelets")
    assert "derived" in cells.label_origin
    batch = next(Loader(cells, 8, transform=augment(256)))
    assert batch["image"].shape == (8, 3, 256, 256) and batch["has_boxes"].all()


@pytest.mark.parametrize("ending", ["GIF", "L", "RGBA", "P", "CMYK"])
def test_any_image_format_named_jpg_is_read_as_rgb(voc, ending):
    file = voc / "JPEGImages" / "train_000002.png"
    image = Image.open(file)
    if ending == "GIF":
        image.convert("P").save(file.with_suffix(".jpg"), format="GIF")
    else:
        image.convert(ending).save(file.with_suffix(".jpg"), format="JPEG" if ending in ("L", "CMYK") else "PNG")
    file.unlink()
    edit_voc(voc, lambda root: setattr(root.find("filename"), "text", "train_000002.jpg"))
    assert VocFolder(voc, "train", 64)[2]["image"].shape == (3, 64, 64)


def test_a_truncated_or_absent_image_is_named(voc):
    file = voc / "JPEGImages" / "train_000002.png"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(DataError, match=r"train_000002.png: cannot be read"):
        VocFolder(voc, "train", 64)[2]
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"train_000002.png: cannot be read"):
        VocFolder(voc, "train", 64)[2]
    file.unlink()
    with pytest.raises(DataError, match=r"train_000002.png.*not there"):
        VocFolder(voc, "train", 64)[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_box(xmax=100), r"outside the image of 64x64.*repair"),
        (set_box(xmin=20, xmax=20), r"no area.*repair"),
        (set_box(ymin=40, ymax=10), r"no area.*repair"),
        (set_box(xmin="left"), r"not a Pascal VOC annotation"),
        (lambda root: root.find("object").remove(root.find("object/bndbox")), r"not a Pascal VOC annotation"),
    ],
)
def test_a_wrong_voc_box_names_the_file_and_repair_mends_it(voc, change, said):
    edit_voc(voc, change)
    with pytest.raises(DataError, match=rf"train_000002.xml.*{said}"):
        read_all(VocFolder(voc, "train", 64))
    if "repair" in said:
        sample = VocFolder(voc, "train", 64, repair=True)[2]
        assert (sample["boxes"][:, 2:] > sample["boxes"][:, :2]).all() and (sample["boxes"] <= 64).all()


def test_other_faults_of_a_voc_folder_are_named(voc, tmp_path):
    broken = voc / "Annotations" / "train_000003.xml"
    text = broken.read_text()
    broken.write_text(text[:50])
    with pytest.raises(DataError, match=r"train_000003.xml"):
        VocFolder(voc, "train")
    broken.unlink()
    with pytest.raises(DataError, match=r"train_000003.xml is missing.*missing_ok"):
        VocFolder(voc, "train")
    assert "boxes" not in VocFolder(voc, "train", 64, missing_ok=True)[3]
    with pytest.raises(DataError, match=r"no split 'test'; it has train"):
        VocFolder(voc, "test")
    (voc / "ImageSets" / "Main" / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"empty.txt is empty"):
        VocFolder(voc, "empty")
    (tmp_path / "void" / "Annotations").mkdir(parents=True)
    with pytest.raises(DataError, match=r"JPEGImages"):
        VocFolder(tmp_path / "void")
    (tmp_path / "void" / "JPEGImages").mkdir()
    with pytest.raises(DataError, match=r"no .xml file"):
        VocFolder(tmp_path / "void")


def test_a_voc_folder_without_lists_is_split_once_and_for_all(voc):
    shutil.rmtree(voc / "ImageSets")
    train, test = VocFolder(voc, "train", 64), VocFolder(voc, "test", 64)
    names = [{photo.path.name for photo in part.photos} for part in (train, test)]
    assert len(names[0] | names[1]) == 6 and not names[0] & names[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["annotations"][0].update(category_id=99), "category_id 99"),
        (lambda c: c["annotations"][0].update(image_id=77), "image 77"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 5]), "no area"),
        (lambda c: c["annotations"][0].update(bbox=[60, 2, 30, 5]), "outside"),
        (lambda c: c["annotations"][0].pop("bbox"), "not a COCO annotation file"),
        (lambda c: c.pop("images"), "not a COCO annotation file"),
        (lambda c: c.update(images=[], annotations=[]), "no images"),
    ],
)
def test_a_wrong_coco_entry_names_the_file(coco, change, said):
    edit_coco(coco, change)
    with pytest.raises(DataError, match=rf"instances_train.json.*{said}"):
        read_all(CocoFolder(coco, "train", 64))


def test_an_image_without_boxes_is_a_sample_without_objects(coco):
    edit_coco(coco, lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != 1]))
    sample = CocoFolder(coco, "train", 64)[1]
    assert sample["boxes"].shape == (0, 4) and sample["box_labels"].shape == (0,)
    batch = next(Loader(CocoFolder(coco, "train", 64), 6, transform=augment(64)))
    assert batch["has_boxes"].all()


def test_the_derived_class_follows_the_rule(coco):
    edit_coco(coco, lambda c: (c.pop("scene_classes"), [image.pop("scene_class") for image in c["images"]]))
    photos = CocoFolder(coco, "train", 64)
    sample = photos[0]
    areas = (sample["boxes"][:, 2:] - sample["boxes"][:, :2]).prod(1)
    assert photos.classes[sample["label"]] == photos.box_classes[sample["box_labels"][areas.argmax()]]
    with pytest.raises(ValueError, match="contains:3"):
        CocoFolder(coco, "train", 64, label="contains:cat")


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (("train", "val", "trainval", "test"), ("trainval", "test")),
        (("train", "val", "trainval"), ("train", "val")),
        (("train", "test"), ("train", "test")),
    ],
)
def test_what_is_tested_on_is_never_trained_on(tmp_path, lists, expected):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for name in lists:
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text("")
    assert train_and_test_split(tmp_path) == expected


def test_no_pets_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match="mtlkit data get pets"):
        OxfordPets(tmp_path)
