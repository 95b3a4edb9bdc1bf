import pytest
import torch
from torchvision.datasets import ImageFolder

from mtlkit.data import CocoFolder, DataError, DigitScenes, VocFolder, export


@pytest.mark.parametrize(("layout", "reader"), [("coco", CocoFolder), ("voc", VocFolder)])
def test_what_is_written_reads_back_equal(tmp_path, layout, reader):
    scenes = DigitScenes("train", 40, missing={"classify": 0.2, "detect": 0.2})
    back = reader(export(scenes, tmp_path, layout), "train", 64)
    assert len(back) == 40
    for k in range(40):
        written, read = scenes[k], back[k]
        assert written.keys() == read.keys()
        assert torch.equal(written["image"], read["image"])
        if "label" in written:
            assert scenes.classes[written["label"]] == back.classes[read["label"]]
        if "boxes" in written:
            assert torch.equal(written["boxes"], read["boxes"])
            assert [scenes.box_classes[i] for i in written["box_labels"]] == [
                back.box_classes[i] for i in read["box_labels"]
            ]


@pytest.mark.parametrize(("layout", "reader"), [("coco", CocoFolder), ("voc", VocFolder)])
@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20)])
def test_images_that_are_not_square_read_back_equal(tmp_path, layout, reader, height, width):
    class Framed(list):
        classes, box_classes = ("a", "b"), ("cat", "dog")

    image = (torch.arange(3 * height * width) % 251).reshape(3, height, width) / 255
    box = torch.tensor([[width - 12.0, height - 15.0, width - 2.0, height - 3.0]])
    sample = {"image": image, "label": torch.tensor(1), "boxes": box, "box_labels": torch.tensor([1])}
    others = {"image": image.flip(2), "label": torch.tensor(0), "boxes": box - 5, "box_labels": torch.tensor([0])}
    back = reader(export(Framed([sample, others]), tmp_path, layout), "train", 60)[0]
    assert torch.equal(back["image"][:, :height, :width], image) and torch.equal(back["boxes"], box)
    assert (back["image"][:, height:] == 127 / 255).all() and (back["image"][:, :, width:] == 127 / 255).all()


def test_image_folder_holds_one_folder_a_class(tmp_path):
    scenes = DigitScenes("val", 30, missing={"classify": 0.2})
    folder = ImageFolder(export(scenes, tmp_path, "imagefolder", "val") / "val")
    labelled = [scenes.classes[label] for label in scenes.labels if label >= 0]
    assert sorted(folder.classes[label] for _, label in folder.samples) == sorted(labelled)


def test_a_folder_that_cannot_be_written_and_an_unknown_layout_are_said(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="cannot write to"):
        export(DigitScenes("train", 1), tmp_path / "file", "coco")
    with pytest.raises(ValueError, match="coco, voc, imagefolder"):
        export(DigitScenes("train", 1), tmp_path, "yolo")
