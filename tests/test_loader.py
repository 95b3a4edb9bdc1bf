from itertools import chain

import pytest
import torch

from mtlkit.data import DataError, DigitScenes, Loader, MixedLoader, augment, collate
from mtlkit.machine import Group


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


def test_reading_samples_leaves_the_streams_of_gpus_alone(monkeypatch):
    """A network in training draws its drop-out from them; and where no GPU is in use, PyTorch would note each seed."""
    touched = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched.append)
    monkeypatch.setattr(torch.mps, "manual_seed", touched.append)
    next(Loader(Numbers(8), 4, transform=augment(4)))
    assert touched == []
    torch.manual_seed(0)
    assert touched == [0, 0]


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


def test_augmentation_changes_brightness_contrast_and_colour_by_up_to_a_fifth():
    from torchvision import tv_tensors

    transform = augment(16, scale=(1.0, 1.0), flip=False)

    def spread(image, measure):
        found = [measure(transform({"image": tv_tensors.Image(image)})["image"]) for _ in range(200)]
        return min(found), max(found)

    grey, halves = torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.35)
    halves[:, :8] = 0.65
    low, high = spread(grey, lambda image: float(image.mean()) / 0.5)
    assert 0.79 < low < 0.85 and 1.15 < high < 1.21
    low, high = spread(halves, lambda image: float((image[:, 0].mean() - image[:, -1].mean()) / image.mean()) / 0.6)
    assert 0.79 < low < 0.85 and 1.15 < high < 1.21
    colours = torch.tensor([0.6, 0.5, 0.4])[:, None, None].expand(3, 16, 16).contiguous()
    low, high = spread(colours, lambda image: float((image[0].mean() - image[2].mean()) / image.mean()) / 0.4)
    assert low < 0.7 and high > 1.3  # contrast and saturation together


def source(size, key, offset=0):
    """Rows that know their own number, with one target each."""

    class Rows(Numbers):
        def __getitem__(self, index):
            return {"x": torch.full((2,), float(index)), key: offset + index}

    return Rows(size)


def sources(a=100, b=10):
    return {"a": source(a, "ya"), "b": source(b, "yb", 1000)}


def test_several_sources_are_drawn_by_size_equally_or_by_temperature():
    for temperature, expected in ((1.0, 10 / 110), (float("inf"), 0.5), (2.0, 1 / (1 + 10**0.5))):
        loader = MixedLoader(sources(), 50, temperature=temperature)
        share = torch.cat([next(loader)["source"] for _ in range(80)]).float().mean()
        assert share == pytest.approx(expected, abs=0.02) and loader.proportions["b"] == pytest.approx(expected)


def test_within_a_source_every_sample_comes_once_before_any_comes_again():
    loader = MixedLoader(sources(12, 5), 8, seed=3, temperature=float("inf"))
    seen = {"ya": [], "yb": []}
    for batch in (next(loader) for _ in range(20)):
        for key, rows in seen.items():
            rows += batch[key][batch[key] >= 0].tolist()
        assert ((batch["ya"] >= 0) != (batch["yb"] >= 0)).all()  # what is missing is marked
        assert torch.equal(batch["source"] == 1, batch["yb"] >= 0)
    for rows, number in ((seen["ya"], 12), (seen["yb"], 5)):
        epochs = [rows[k : k + number] for k in range(0, len(rows) - number + 1, number)]
        assert len(epochs) > 3 and all(len(set(epoch)) == number for epoch in epochs) and epochs[0] != epochs[1]


@pytest.mark.parametrize("stop", [0, 3, 11])
def test_several_sources_go_on_bit_for_bit(stop):
    def jitter(sample):
        return sample | {"x": sample["x"] + torch.rand(2)}

    whole = [next(loader) for loader in [MixedLoader(sources(), 6, transform=jitter)] for _ in range(14)]
    first = MixedLoader(sources(), 6, transform=jitter)
    for _ in range(stop):
        next(first)
    second = MixedLoader(sources(), 6, transform=jitter)
    second.load_state_dict(first.state_dict())
    for expected in whole[stop:]:
        got = next(second)
        assert got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in got)
    with pytest.raises(ValueError, match="the sources were a, b; these are a"):
        MixedLoader({"a": source(3, "ya")}).load_state_dict(first.state_dict())


def test_processes_share_out_the_batches_of_several_sources():
    parts = [MixedLoader(sources(), 6, group=Group(rank, 3)) for rank in range(3)]
    whole = MixedLoader(sources(), 6)
    for _ in range(5):
        expected, got = next(whole)["x"], torch.cat([next(part)["x"] for part in parts])
        assert torch.equal(got, expected)
    with pytest.raises(DataError, match="multiple of 3"):
        MixedLoader(sources(), 8, group=Group(0, 3))


def test_sources_that_cannot_be_drawn_from_are_named():
    with pytest.raises(DataError, match="the source 'b' is empty"):
        MixedLoader(sources(b=0))
    with pytest.raises(DataError, match="there is no source"):
        MixedLoader({})
    with pytest.raises(ValueError, match="temperature=0"):
        MixedLoader(sources(), temperature=0)
    with pytest.raises(DataError, match="a sample of the source 'a' is a tuple"):
        next(MixedLoader({"a": torch.utils.data.TensorDataset(torch.zeros(3, 2))}))
    with pytest.raises(DataError, match="has no length"):
        Loader(iter([]))
    with pytest.raises(ValueError, match="batch_size=0"):
        Loader(Numbers(3), 0)


def test_one_source_for_each_task_trains_both_tasks():
    from torch import nn

    from mtlkit.model import SharedEncoderModel
    from mtlkit.tasks import Task
    from mtlkit.training import train

    def task(name):
        def loss(output, batch):
            rows = batch[name] >= 0
            return (output[rows, 0] - 1).square().sum() / rows.sum().clamp(min=1)

        return Task(name, loss, None, "error", labelled=lambda batch: batch[name] >= 0)

    model = SharedEncoderModel(nn.Linear(2, 4), {"ya": nn.Linear(4, 1), "yb": nn.Linear(4, 1)}, reads="x")
    small = {name: [{"x": torch.ones(2), f"y{name}": 1}] * size for name, size in (("a", 40), ("b", 4))}
    loader = MixedLoader(small, 8, temperature=2.0)
    records = list(train(model, [task("ya"), task("yb")], loader, steps=60, device="cpu"))
    assert max(records[-1].losses.values()) < 0.1 * min(max(r.losses.values()) for r in records[:2])
