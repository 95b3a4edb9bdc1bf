from itertools import chain

import pytest
import torch

from mtlkit.data import DataError, DigitScenes, Loader, augment, collate


class Numbers(torch.utils.data.Dataset):
    """Images that hold their own index."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return {"image": torch.full((3, 4, 4), float(index)), "label": torch.tensor(index)}


def seen(loader, batches):
    return [next(loader)["label"].tolist() for _ in range(batches)]


def test_an_epoch_shows_every_sample_once_and_the_next_in_another_order():
    loader = Loader(Numbers(12), 4)
    first, second = seen(loader, 3), seen(loader, 3)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(12))
    assert first != second


def test_order_depends_on_the_seed_alone():
    assert seen(Loader(Numbers(12), 4, seed=5), 6) == seen(Loader(Numbers(12), 4, seed=5), 6)
    assert seen(Loader(Numbers(12), 4, seed=5), 6) != seen(Loader(Numbers(12), 4, seed=6), 6)


@pytest.mark.parametrize("stop", [0, 2, 3, 7])
def test_a_resumed_loader_goes_on_with_the_next_batch(stop):
    whole = seen(Loader(Numbers(12), 4), 9)
    first = Loader(Numbers(12), 4)
    seen(first, stop)
    second = Loader(Numbers(12), 4)
    second.load_state_dict(first.state_dict())
    assert seen(second, 9 - stop) == whole[stop:]


def test_augmentation_is_part_of_the_seed_and_leaves_the_global_stream_alone():
    def jitter(sample):
        return sample | {"image": sample["image"] + torch.rand(())}

    torch.manual_seed(1)
    one = next(Loader(Numbers(8), 4, transform=jitter))["image"]
    after = torch.rand(())
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(next(Loader(Numbers(8), 4, transform=jitter))["image"], one)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(()))


def test_batch_and_collate_agree():
    scenes = DigitScenes("train", 20, missing={"classify": 0.3, "detect": 0.3})
    fast, slow = scenes.batch(torch.arange(20)), collate([scenes[k] for k in range(20)])
    width = slow["boxes"].shape[1]
    for name, tensor in slow.items():
        other = fast[name][:, :width] if name in ("boxes", "box_labels") else fast[name]
        assert torch.allclose(tensor, other) and tensor.dtype == other.dtype, name


def test_an_empty_data_set_and_bad_pixels_are_refused_in_words():
    with pytest.raises(DataError, match="empty"):
        Loader(Numbers(0))
    good = {"image": torch.zeros(3, 4, 4)}
    for bad in (float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"image 1 .* NaN or infinite"):
            collate([good, {"image": torch.full((3, 4, 4), bad)}])
    with pytest.raises(DataError, match="differ in size"):
        collate([good, {"image": torch.zeros(3, 5, 4)}])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"label": torch.tensor(5)}, "label is 5"),
        ({"boxes": torch.tensor([[0.0, 0, 2, 2]]), "box_labels": torch.tensor([9])}, "box_labels .* 9"),
        ({"boxes": torch.tensor([[0.0, 0, 2, 7]]), "box_labels": torch.tensor([1])}, "outside"),
        ({"boxes": torch.tensor([[2.0, 0, 2, 2]]), "box_labels": torch.tensor([1])}, "no area"),
        ({"boxes": torch.tensor([[0.0, 0, float("nan"), 2]]), "box_labels": torch.tensor([1])}, "no area|outside"),
        ({"boxes": torch.zeros(2, 4), "box_labels": torch.tensor([1])}, "2 boxes but 1"),
    ],
)
def test_a_wrong_target_of_anybodys_data_set_is_refused_in_words(target, said):
    class Mine(Numbers):
        classes, box_classes = ("a", "b"), ("x", "y", "z")

        def __getitem__(self, index):
            return {"image": torch.zeros(3, 4, 4)} | target

    with pytest.raises(DataError, match=f"sample 0: .*{said}"):
        next(Loader(Mine(1)))


def test_augmentation_moves_the_box_with_the_pixels():
    """A white rectangle on black: after any augmentation the box is where the white is."""
    from torchvision import tv_tensors

    moved = 0
    for seed in range(30):
        torch.manual_seed(seed)
        image = torch.zeros(3, 64, 64)
        image[:, 20:40, 10:34] = 1
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes([[10, 20, 34, 40]], format="XYXY", canvas_size=(64, 64)),
            "box_labels": torch.tensor([2]),
            "label": torch.tensor(1),
        }
        out = augment(64)(sample)
        white = out["image"].mean(0) > 0.3
        if not len(out["boxes"]):
            assert white.sum() < 200
            continue
        y, x = white.nonzero().T
        found = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        assert (out["boxes"][0] - found).abs().max() <= 1.5
        assert out["box_labels"].tolist() == [2] and out["label"] == 1
        moved += bool((out["boxes"][0] - torch.tensor([10.0, 20, 34, 40])).abs().max() > 3)
    assert moved > 20
