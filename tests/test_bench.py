import pytest

from mtlkit import bench
from mtlkit.data import DigitScenes


def test_sharing_counts_the_encoder_once():
    result = bench.sharing(rounds=1, steps=1)
    joint, classify, detect = (result["parameters"][name] for name in ("joint", "classify", "detect"))
    assert joint < classify + detect < 2 * joint
    assert result["parameter_ratio"] == joint / (classify + detect) and result["time_ratio"] > 0


@pytest.mark.parametrize("build", [bench._ssdlite, bench._fcos])
def test_torchvisions_detectors_train_and_are_scored_as_ours_are(build):
    scenes = DigitScenes("train", 32)
    result = bench._train_torchvision(build(64), scenes, DigitScenes("test", 8), 0.5, 1e-3, 1e-4)
    assert result["steps"] >= 1 and 0 <= result["ap"] <= result["ap50"] <= 1


def test_data_and_import_are_measured():
    assert bench.scenes_per_second(rounds=1, n=64)["scenes_per_second"] > 0
    assert bench.import_time(rounds=1)["ratio"]["import mtlkit"] > 0
