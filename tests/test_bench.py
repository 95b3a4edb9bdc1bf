import pytest
import torch

from mtlkit.bench import loops, quality, speed
from mtlkit.bench.picture import step_costs
from mtlkit.cases import find_case
from mtlkit.data import DigitScenes

pytestmark = pytest.mark.processes


def test_sharing_counts_the_encoder_once():
    result = quality.sharing(find_case("scenes", scenes=64), rounds=1, steps=1)
    joint, classify, detect = (result["parameters"][name] for name in ("joint", "classify", "detect"))
    assert joint < classify + detect < 2 * joint
    assert result["parameter_ratio"] == joint / (classify + detect) and result["time_ratio"] > 0


@pytest.mark.parametrize("build", [quality.ssdlite, quality.fcos])
def test_torchvisions_detectors_train_and_are_scored_as_ours_are(build):
    scenes = DigitScenes("train", 32)
    result = quality._train_torchvision(build(64), scenes, DigitScenes("test", 8), 0.5, 1e-3, 1e-4)
    assert result["steps"] >= 1 and 0 <= result["ap"] <= result["ap50"] <= 1


def test_data_and_import_are_measured():
    assert speed.scenes_per_second(rounds=1, n=64)["scenes_per_second"] > 0
    assert speed.import_time(rounds=1)["ratio"]["import mtlkit"] > 0


def test_our_loop_is_timed_beside_others():
    ratios = loops.loops(find_case("scenes", scenes=64), rounds=1, steps=1)
    assert {"mtlkit / bare loop", "mtlkit / LibMTL-style, PCGrad", "mtlkit / TorchJD, UPGrad"} <= ratios.keys()
    assert all(ratio > 0 for ratio in ratios.values())


def test_the_other_loops_train_the_same_model_by_the_same_rule():
    """A step of each gives the parameters that ours gives: they do the same work."""
    scenes = DigitScenes("train", 64)

    def trained(make, method="EqualWeights"):
        setup = find_case("scenes").setup(batch_size=16, method=method, train_set=scenes)
        setup.optimizer = torch.optim.SGD(setup.model.parameters(), lr=0.01)
        step = make(setup)
        step()
        return torch.cat([p.detach().flatten() for p in setup.model.parameters()])

    ours = trained(loops._ours)
    for other in (loops._bare, lambda setup: loops._libmtl(setup, loops._sum_backward)):
        assert torch.allclose(ours, trained(other), atol=1e-6)
    ours = trained(loops._ours, "PCGrad")
    for other in (
        lambda setup: loops._libmtl(setup, loops._pcgrad_backward),
        lambda setup: loops._torchjd(setup, "PCGrad"),
    ):
        assert torch.allclose(ours, trained(other), atol=1e-6)


def test_the_picture_of_the_step_shows_every_loop():
    curve = [[1, 2.0, 1.0], [2, 3.0, 1.5]]
    results = {
        "loops": {"mtlkit / bare loop": 0.99, "mtlkit / other": 3.0},
        "cost": {what: {"sum of losses": curve} for what in ("tasks", "pixels", "batch")},
        "memory": [{"setting": "conv", "predicted": 2.0, "measured": 2.1}],
    }
    picture = step_costs(results)
    assert "mtlkit / bare loop 0.99" in picture.alt and picture.png().startswith(b"\x89PNG")
