import io

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit import plots
from mtlkit.cases import SeenText, find_case
from mtlkit.data import DigitScenes
from mtlkit.experiments import Interval, Row, front_of, summarise
from mtlkit.lab import DetectionExplorer, front
from mtlkit.plots.methods import FAMILIES
from mtlkit.training import train
from mtlkit.upkeep.figures import scene_classes
from mtlkit.weighting import METHODS


@pytest.fixture(scope="module")
def run():
    setup = find_case("scenes").setup(
        batch_size=8, train_set=DigitScenes("train", 32, missing={"classify": 0.3, "detect": 0.3})
    )
    return setup, list(train(setup.model, setup.tasks, setup.loader, steps=4, device="cpu"))


def test_every_picture_draws_something_and_says_what(run):
    setup, records = run
    scores = {"accuracy": 0.5, "ap": 0.1}
    pictures = [
        plots.samples(setup.train_set, range(6)),
        plots.predictions(setup.model, setup.train_set, range(4)).picture,
        plots.loss_curves(records),
        plots.run(records, setup.case.see(setup.train_set, range(12), setup.model), scores),
        plots.run(records, [SeenText("sort", "sort:ba=", "ab|", "ab|")], scores),
        plots.curves({"a": [3, 2, 1], "b": [1, 2, 3]}, xlabel="step", ylabel="loss"),
        plots.bars({"one": scores, "two": scores}, ylabel="score"),
        scene_classes(),
    ]
    for picture in pictures:
        data, metadata = picture._repr_mimebundle_()
        assert len(picture.alt) > 20 and data["text/plain"] == metadata["image/png"]["alt"] == picture.alt
        assert len(data["image/png"]) < 400_000


def test_a_box_is_drawn_where_it_is():
    """A picture with one box differs from one without in a frame around that box, and nowhere else."""

    class One(list):
        classes, box_classes = ("a",), ("",) * 10

    scene = DigitScenes("train", 1)[0]
    bare = {"image": scene["image"]}
    drawn = []
    for sample in (bare, bare | {name: scene[name][:1] for name in ("boxes", "box_labels")}):
        buffer = io.BytesIO()
        plots.samples(One([sample]), [0], columns=1).savefig(buffer, dpi=100)
        drawn.append(np.asarray(Image.open(buffer).convert("RGB")).astype(int))
    y, x = np.nonzero(np.abs(drawn[0] - drawn[1]).sum(2) > 60)
    left, top, right, bottom = scene["boxes"][0].tolist()
    assert (x.max() - x.min()) / (y.max() - y.min()) == pytest.approx((right - left) / (bottom - top), rel=0.1)


def test_the_explorer_follows_its_sliders(run):
    setup, _ = run
    explorer = DetectionExplorer(setup.model, setup.train_set, range(4))
    explorer["minimum confidence"] = 0.02
    many, picture = explorer.says, explorer.widget.image
    explorer["minimum confidence"] = 0.98
    assert explorer.says != many and explorer.widget.image != picture
    assert explorer.says.startswith("0 boxes")
    with pytest.raises(ValueError, match="outside the range"):
        explorer["minimum confidence"] = 1.5


def test_the_explorer_shows_a_widget_and_before_it_a_picture_that_stays(run, monkeypatch):
    setup, _ = run
    shown = []
    for name in ("display", "publish_display_data"):
        monkeypatch.setattr(front, name, shown.append)
    DetectionExplorer(setup.model, setup.train_set, range(2))._ipython_display_()
    data, metadata = shown[0]._repr_mimebundle_()
    assert data["image/png"] and metadata["image/png"]["alt"] == data["text/plain"]
    assert list(shown[1]) == ["application/vnd.jupyter.widget-view+json"]


def test_the_sharing_explorer_counts_and_redraws():
    from mtlkit.lab import SharingExplorer

    explorer = SharingExplorer(tasks=2, encoder=900, head=100)
    before = explorer.widget.image
    assert explorer.ratio == 1100 / 2000 and "55 %" in explorer.says
    explorer["number of tasks"] = 1
    assert explorer.ratio == 1 and explorer.widget.image != before and explorer.widget.alt


def test_the_family_tree_has_every_method_once():
    names = [name for hows in FAMILIES.values() for methods in hows.values() for name in methods]
    assert sorted(names) == sorted(METHODS)
    assert all(name in plots.method_tree().alt for name in METHODS)


def test_the_front_is_drawn_with_its_uncertainty_and_the_cost():
    rows = [
        Row(name, seed, {"test a": a + seed / 100, "test b": b - seed / 100, "test Δm": a + b, "steps": 10.0})
        for name, (a, b) in {
            "static 0.5": (0.2, 0.8),
            "EqualWeights": (0.8, 0.2),
            "MGDA": (0.7, 0.7),
            "a alone": (0.9, float("nan")),
            "b alone": (float("nan"), 0.9),
        }.items()
        for seed in range(3)
    ]
    line = front_of(rows, ("test a", "test b"), ["static 0.5", "EqualWeights"], draws=20)
    drawn = {"scores": ("a", "b"), "labels": ("A", "B"), "named": ["MGDA"], "cost": "steps"}
    figure = plots.front(summarise(rows), **drawn, line=line)
    left, right = figure.axes
    assert left.collections[0].get_label() == "front, 95 % of the draws"
    assert right.get_xlabel() == "steps taken in the same time" and "2 static weights and 1 methods" in figure.alt
    assert len(plots.front(summarise(rows), **drawn).axes[0].lines) >= len(left.lines)


def test_pictures_of_tables_show_means_intervals_and_numbers():
    rows = {"one": {"a": Interval(1.0, 0.1), "b": Interval(2.0, 0.2)}, "two": {"a": Interval(-1.0, 0.1)}}
    figure = plots.intervals(rows, xlabel="gain", zero=0)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "one",
        "two",
    ] and "\none: a 1.00 ± 0.10, b 2.00 ± 0.20" in figure.alt
    assert [len(found[0].get_xdata()) for found in axes.containers] == [2, 1]
    figure = plots.bands(
        {"alone": {10: Interval(0.2, 0.1), 100: Interval(0.5, 0.1)}}, xlabel="labels", ylabel="accuracy"
    )
    assert figure.axes[0].get_xscale() == "log" and "alone: 0.200 ± 0.10 at 10," in figure.alt
    values = np.array([[1.0, np.nan], [-2.0, 0.5]])
    figure = plots.squares(values, ["a", "b"], ["c", "d"], title="gain, %")
    assert [text.get_text() for text in figure.axes[0].texts] == ["+1.0", "-2.0", "+0.5"]
    assert figure.alt == "A table: gain, %.\na: c +1.0\nb: c -2.0, d +0.5"
    assert plots.squares(values, ["a", "b"], ["c", "d"], title="t", form="").alt == "A table: t.\na: c 1\nb: d 0"
    panels = {"size": {"all": {0: 4, 1: 3}}, "gain, %": {"steps": {0: Interval(1.0, 0.5), 1: Interval(-1.0, 0.5)}}}
    figure = plots.choices(panels, xlabel="fork", at=1, zero=["gain, %"])
    assert [axes.get_ylabel() for axes in figure.axes] == list(panels) and "now 1" in figure.alt
    assert "gain, %, steps: 1.00 ± 0.50 at 0, -1.00 ± 0.50 at 1" in figure.alt
    assert figure.axes[0].get_ylim()[0] == 0 and figure.axes[1].get_ylim()[0] < -1


def test_pictures_for_the_fields():
    features = torch.randn(40, 5) * torch.tensor([5.0, 2.0, 0.1, 0.1, 0.1])
    figure = plots.points({"shared": (features, ["a", "b"] * 20), "alone": (-features, ["a", "b"] * 20)})
    first = figure.axes[0].collections[0].get_offsets()
    assert len(first) == 20 and np.abs(first[:, 0]).mean() > np.abs(first[:, 1]).mean() and "alone, b: " in figure.alt
    figure = plots.spectrogram(torch.rand(50, 40), marks={0.2: "7"})
    assert figure.axes[0].get_images()[0].get_extent() == [0, 0.5, 0, 40] and "7 at 0.20 s" in figure.alt
    figure = plots.calibration({"net": ([0.1, 0.15, 0.9, 0.95], [0, 1, 1, 1])}, bins=5)
    line = figure.axes[0].lines[1]
    assert list(line.get_ydata()) == [0.5, 1.0] and [t.get_text() for t in figure.axes[0].texts] == ["2", "2"]
