"""Report cards: intervals that hold what they say, and a page that needs nothing else."""

import re

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from toy import TOY

from mtlkit.cases import find_case
from mtlkit.cli import main
from mtlkit.data import Batch
from mtlkit.lab.browser import browser, missing
from mtlkit.model import Detections
from mtlkit.report import card_of, collect, page_of, score_ranges
from mtlkit.report.bootstrap import Collected, _ends
from mtlkit.tasks import AveragePrecision, classification
from mtlkit.training import evaluate, train


@pytest.fixture(scope="module")
def trained():
    case = find_case("scenes", scenes=600, val_scenes=10, test_scenes=150)
    setup = case.setup(seed=0)
    for _ in train(*setup.parts, average=setup.average, steps=60, device="cpu"):
        pass
    return setup


def test_scores_on_a_card_are_those_of_evaluate(trained):
    test = trained.case.open("test")
    found = collect(trained.average, trained.tasks, test, batch_size=40)
    ranges = score_ranges(trained.tasks, found, draws=20)
    scores = evaluate(trained.average, trained.tasks, test, device="cpu")
    assert {name: one.value for name, one in ranges.items()} == pytest.approx(scores)
    assert all(one.low <= one.value <= one.high for one in ranges.values())
    assert len(found) == 150 and found.sizes == [40, 40, 40, 30]
    assert found.losses["classify"].shape == (150,)


def test_ap_of_drawn_images_is_that_of_the_images(trained):
    test = trained.case.open("test")
    found = collect(trained.average, trained.tasks, test, batch_size=150)
    output, batch = found.outputs[0]["detect"], found.batches[0]
    drawn = torch.randint(150, (2, 150), generator=torch.Generator().manual_seed(0))
    metric = AveragePrecision("0123456789")
    metric.update(output, batch)
    again = metric.resampled((drawn + 1).tolist())
    for chosen, got in zip(drawn, again, strict=True):
        other = AveragePrecision("0123456789")
        other.update(Detections(*(part[chosen] for part in output)), {k: v[chosen] for k, v in batch.items()})
        assert got == pytest.approx(other.compute())
    assert again[0] != again[1]
    whole = metric.compute()
    assert whole["ap"] == pytest.approx(sum(metric.by_class().values()) / 10)


def test_images_without_boxes_do_not_count_in_drawn_sets():
    def one(n, has):
        logits = torch.full((n, 1, 2, 2), -5.0)
        logits[:, 0, 0, 0] = 3.0
        boxes = torch.tensor([0.0, 0, 8, 8])[:, None, None].expand(4, 2, 2).expand(n, 4, 2, 2)
        batch: Batch = {
            "image": torch.zeros(n, 3, 16, 16),
            "boxes": torch.tensor([[[0.0, 0, 8, 8]]]).repeat(n, 1, 1),
            "box_labels": torch.zeros(n, 1, dtype=torch.int64),
            "has_boxes": torch.tensor(has),
        }
        return Detections(logits, boxes), batch

    metric = AveragePrecision(["a", "b"])
    metric.update(*one(3, [False, True, True]))
    metric.found = [row for row in metric.found if row[0] != 3]  # in the third image nothing was found
    assert metric.resampled([[1, 2, 2], [1, 1, 3], [2, 3]]) == [
        {"ap": pytest.approx(1.0), "ap50": pytest.approx(1.0)},
        {"ap": pytest.approx(0.0), "ap50": pytest.approx(0.0)},
        {"ap": pytest.approx(51 / 101), "ap50": pytest.approx(51 / 101)},
    ]
    by_class = metric.by_class()
    assert by_class["a"] == pytest.approx(51 / 101) and by_class["b"] != by_class["b"]


def test_the_interval_holds_the_truth_in_about_95_of_100_test_sets():
    task, held, random = classification("x", "label"), 0, torch.Generator().manual_seed(0)
    for trial in range(100):
        right = torch.rand(120, generator=random) < 0.8
        logits = torch.stack([right.float(), 1 - right.float()], 1)
        batch = {"label": torch.zeros(120, dtype=torch.int64)}
        found = Collected([{"x": logits}], [batch], {"x": torch.zeros(120)})
        score = score_ranges([task], found, draws=200, seed=trial)["x/accuracy"]
        assert score.value == pytest.approx(right.float().mean().item())
        held += score.low <= 0.8 <= score.high
    assert 88 <= held <= 99


def test_a_bias_of_the_draws_is_taken_out():
    drawn = (torch.linspace(0, 1, 1001) + 0.2).tolist()
    assert _ends(0.7, drawn) == (pytest.approx(0.225, abs=0.002), pytest.approx(1.175, abs=0.002))
    low, high = _ends(0.5, drawn)  # most draws lie above the value
    assert low < 0.21 and high < 1.05
    assert all(end != end for end in _ends(float("nan"), drawn))


def test_a_card_has_classes_mistakes_calibration_and_the_worst(trained):
    card = card_of(trained.case, trained.average.module, trained.tasks, trained.case.open("test"), draws=10)
    counts = {task: sum(n for n, _ in classes.values()) for task, classes in card.classes.items()}
    assert counts["classify"] == 150 and counts["detect"] > 150
    accuracy = sum(n * share for n, share in card.classes["classify"].values()) / 150
    assert accuracy == pytest.approx(card.scores["classify/accuracy"].value)
    assert sum(n for *_, n in card.confusions["classify"]) <= 150 * (1 - accuracy) + 1e-6
    assert 0 <= card.calibration["classify"] <= 1
    assert len(card.pictures) == 3 and all(picture.alt for picture in card.pictures.values())
    page = page_of(card)
    assert "Nobody has said" in page and "stripes" in page and page.count("data:image/png;base64,") == 3
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "http" not in page


def test_any_case_has_a_card():
    setup = TOY.setup(seed=0)
    card = card_of(TOY, setup.model, setup.tasks, TOY.open("test"), notes=["<b>all</b> of it"], draws=5)
    assert set(card.scores) >= {"sum/error", "larger/accuracy"} and set(card.classes) == {"larger"}
    assert "&lt;b&gt;all" in page_of(card)


@pytest.mark.processes
@pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")
def test_the_command_writes_a_page_that_everybody_can_read(tmp_path, capsys):
    few = ("--scenes", "64", "--knob", "val_scenes=8", "--knob", "test_scenes=20")
    assert (
        main(["train", "--case", "scenes", *few, "--steps", "3", "--weights", "classify=0.5", "--out", str(tmp_path)])
        == 0
    )
    file = tmp_path / "cards" / "card.html"
    notes = ("--note", "weights: validation scenes", "--note", "steps: nothing")
    command = ["report", str(tmp_path / "checkpoint.safetensors"), "--out", str(file), "--draws", "5", *notes]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert re.search(r"detect/ap +0\.\d{3}  \(", said) and f"wrote {file}" in said
    page = file.read_text(encoding="utf-8")
    assert (
        "3 steps of 32 samples" in page
        and "StaticWeights classify 0.5" in page
        and "weights: validation scenes" in page
    )
    with browser() as opened:
        for width in (1280, 390):
            shown = opened.new_page(viewport={"width": width, "height": 800})
            shown.goto(file.as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(shown)
            assert found.violations_count == 0, found.generate_snapshot()
    assert main(["report", str(tmp_path / "none.safetensors"), "--out", str(file)]) == 1
    assert "none.safetensors" in capsys.readouterr().err
