"""The predicted peak against the allocator's own count, and what the watch sees."""

import json

import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.cases.text import text_model
from mtlkit.cli import main
from mtlkit.data import DigitScenes
from mtlkit.data.text import TextTasks
from mtlkit.tasks import mixed_task
from mtlkit.training.memory import _Watch, measure_memory, predict_memory
from mtlkit.training.optim import MuonAdamW
from mtlkit.weighting import METHODS

SETTINGS = [
    ({"batch_size": 8}, "EqualWeights", {}),
    ({"batch_size": 64}, "EqualWeights", {}),
    ({"batch_size": 64}, "EqualWeights", {"accumulate": 4}),
    ({"batch_size": 64}, "EqualWeights", {"recompute": True}),
    ({"batch_size": 64}, "UPGrad", {}),
    ({"batch_size": 64}, "MGDAUB", {}),
    ({"batch_size": 8, "encoder": "resnet18"}, "UPGrad", {"accumulate": 2, "recompute": True}),
]


@pytest.mark.filterwarnings("ignore:.*Memory block of unknown size")
@pytest.mark.parametrize(("setting", "method", "options"), SETTINGS, ids=str)
def test_the_prediction_is_within_15_percent(setting, method, options):
    case = find_case("scenes", encoder=setting.get("encoder", "conv"))
    n = setting["batch_size"]
    setup = case.setup(batch_size=n, train_set=DigitScenes("train", n))
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    batch = next(setup.loader)
    predicted = predict_memory(setup.model, setup.tasks, batch, METHODS[method], **options)
    measured = measure_memory(setup.model, setup.tasks, batch, METHODS[method], device="cpu", **options)
    assert predicted["peak"] == pytest.approx(measured, rel=0.15)
    assert predicted["gradients"] <= predicted["parameters"] < predicted["peak"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in setup.model.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*Memory block of unknown size")
@pytest.mark.parametrize(("width", "texts"), [(64, 16), (64, 64), (128, 64), (256, 16)])
@pytest.mark.parametrize("options", [{}, {"accumulate": 4}, {"recompute": True}], ids=str)
def test_the_prediction_for_text_is_within_15_percent(width, texts, options):
    step = (text_model(width), [mixed_task()], TextTasks("train", texts).batch(torch.arange(texts)))
    predicted = predict_memory(*step, optimizer=adamw, **options)["peak"]
    assert predicted == pytest.approx(measure_memory(*step, optimizer=adamw, device="cpu", **options), rel=0.15)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), fused=next(model.parameters()).device.type != "meta")


def test_the_state_of_the_optimiser_asked_for_is_counted():
    model = text_model(16)
    step = (model, [mixed_task()], TextTasks("train", 8).batch(torch.arange(8)))
    numbers = sum(p.nbytes for p in model.parameters())
    told = {
        made: predict_memory(*step, optimizer=made)
        for made in (adamw, lambda model: torch.optim.SGD(model.parameters()), MuonAdamW)
    }
    two, none, default = told.values()
    assert 2 * numbers <= two["optimizer"] < 2.1 * numbers and none["optimizer"] == 0 < default["optimizer"]
    assert default == predict_memory(*step)
    measured = [measure_memory(*step, optimizer=made, device="cpu") for made in told]
    assert measured[1] < measured[0] - numbers


def test_the_command_counts_the_moving_average_that_training_keeps(capsys):
    assert main(["memory", "--batch-size", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    setup = find_case("scenes").setup(batch_size=8, train_set=DigitScenes("train", 8))
    alone = predict_memory(setup.model, setup.tasks, next(setup.loader))
    assert told["average_mb"] == told["parameters_mb"] > 0
    assert told["peak_mb"] == pytest.approx(alone["peak"] / 1e6 + told["average_mb"], abs=0.02)


def test_what_is_lowered_is_lowered():
    setup = find_case("scenes").setup(batch_size=32, train_set=DigitScenes("train", 32))
    batch = next(setup.loader)

    def peak(method="EqualWeights", **options):
        return predict_memory(setup.model, setup.tasks, batch, METHODS[method], **options)["peak"]

    assert peak(accumulate=4) < peak(accumulate=2) < peak()
    assert peak(recompute=True) < 0.8 * peak()
    assert peak() < peak("UPGrad")


def test_the_prediction_is_the_same_every_time():
    """Addresses of what is gone are used again; nothing may depend on them."""
    setup = find_case("scenes").setup(batch_size=16, train_set=DigitScenes("train", 16))
    batch = next(setup.loader)
    told = {predict_memory(setup.model, setup.tasks, batch, METHODS["UPGrad"])["peak"] for _ in range(8)}
    assert len(told) == 1


def test_the_watch_counts_tensors_while_they_live():
    with _Watch() as watch:
        a = torch.zeros(1000, device="meta")
        b = a.view(10, 100).t()
        assert watch.now == 4000
        c = a + 1
        del a
        assert watch.now == 8000  # the view still holds it
        del b
        assert watch.now == 4000
        del c
    assert watch.now == 0 and watch.peak == 8000
