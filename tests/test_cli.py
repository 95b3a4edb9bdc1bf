import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mtlkit.checkpoints import read_checkpoint
from mtlkit.cli import main
from mtlkit.data import DigitScenes, export

KEYS = {"accuracy", "ap", "ap50", "steps", "seconds", "images_per_second", "parameters"}


@pytest.fixture(autouse=True)
def _few_test_scenes(monkeypatch):
    from mtlkit import recipe

    monkeypatch.setattr(recipe, "TEST_SCENES", 20)


def run(capsys, *arguments):
    small = ("--scenes", 64) if arguments[0] == "train" else ()
    status = main([str(a) for a in (*arguments, *small)])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_json_is_the_last_line_and_one_object(capsys):
    status, lines, _ = run(capsys, "train", "--data", "scenes", "--seconds", "0.5", "--json", "--device", "cpu")
    report = json.loads(lines[-1])
    assert status == 0 and report.keys() >= KEYS
    assert report["seconds"] >= 0.5 and report["steps"] >= 1 and 0 <= report["ap"] <= report["ap50"] <= 1
    assert report["image_class"] == "made: texture"


def test_epochs_steps_and_seconds_limit_the_run(capsys):
    def steps(*limit):
        return json.loads(run(capsys, "train", *limit, "--json")[1][-1])["steps"]

    assert steps("--steps", 3) == 3
    assert steps("--epochs", 2) == 4  # 64 scenes in batches of 32
    assert steps("--epochs", 0.5) == 1


def test_train_resume_evaluate(capsys, tmp_path):
    out = tmp_path / "run"
    _, lines, _ = run(capsys, "train", "--steps", 2, "--out", out, "--json", "--scene-class", "count", "--seed", 3)
    first = json.loads(lines[-1])
    checkpoint = read_checkpoint(out / "checkpoint.safetensors")
    assert checkpoint.step == 2 and checkpoint.config["scene_class"] == "count" and checkpoint.config["seed"] == 3
    status, lines, _ = run(capsys, "evaluate", out / "checkpoint.safetensors", "--json")
    assert status == 0 and json.loads(lines[-1]) == {name: first[name] for name in ("accuracy", "ap", "ap50")}
    arguments = ("train", "--resume", "--steps", 5, "--out", out, "--json")
    _, lines, _ = run(capsys, *arguments)
    assert json.loads(lines[-1])["steps"] == 5
    assert read_checkpoint(out / "checkpoint.safetensors").config["scene_class"] == "count"
    assert read_checkpoint(out / "checkpoint.safetensors").step == 5
    status, _, err = run(capsys, *arguments)
    assert status == 1 and "already come this far" in err


def test_weights_reach_the_run(capsys, tmp_path):
    run(capsys, "train", "--steps", 1, "--weights", "classify=0.3,detect=2", "--out", tmp_path)
    from mtlkit.checkpoints import load_checkpoint
    from mtlkit.weighting import StaticWeights

    weighting = StaticWeights()
    load_checkpoint(tmp_path / "checkpoint.safetensors", weighting=weighting)
    assert weighting.weights == {"classify": 0.3, "detect": 2.0}


def test_the_picture_is_drawn(capsys, tmp_path):
    status, _, _ = run(capsys, "train", "--steps", 2, "--picture", tmp_path / "demo.png")
    assert status == 0 and (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_a_voc_and_a_coco_folder_train(capsys, tmp_path):
    for layout in ("voc", "coco"):
        folder = tmp_path / layout
        for split in ("train", "test"):
            export(DigitScenes(split, 12), folder, layout, split)
        status, lines, _ = run(capsys, "train", "--data", f"{layout}:{folder}", "--size", 64, "--steps", 2, "--json")
        assert status == 0 and json.loads(lines[-1])["image_class"] == "annotated"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--data", "imagenet"), "unknown data 'imagenet'"),
        (("train", "--data", "voc:/nowhere"), "no folder Annotations"),
        (("train", "--resume"), "--resume needs --out"),
        (("train", "--steps", 1, "--weights", "segment=1"), "weight for 'segment'"),
        (("train", "--steps", 1, "--out", "/dev/null/x"), "cannot write to /dev/null"),
        (("evaluate", "/nowhere.safetensors"), "no checkpoint"),
        (("data", "get", "imagenet"), "unknown data set 'imagenet'"),
    ],
)
def test_an_error_is_one_line_in_words(capsys, arguments, said):
    status, _, err = run(capsys, *arguments)
    assert status == 1 and said in err and err.startswith("mtlkit: ") and "Traceback" not in err


@pytest.mark.parametrize("arguments", [("train", "--seconds", "-1"), ("train", "--weights", "classify"), ()])
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_data_list_and_export(capsys, tmp_path):
    _, lines, _ = run(capsys, "data", "list")
    assert [line.split()[0] for line in lines] == ["scenes", "pets", "bccd", "voc2007"]
    status, _, _ = run(capsys, "data", "export", tmp_path, "--layout", "voc", "--n", 3, "--scene-class", "count")
    assert status == 0 and len(list((tmp_path / "Annotations").iterdir())) == 3


def test_ctrl_c_leaves_a_whole_checkpoint_to_go_on_from(tmp_path):
    command = [sys.executable, "-m", "mtlkit", "train", "--seconds", "120", "--scenes", "64", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert "parameters" in process.stdout.readline()
    while not (tmp_path / "checkpoint.safetensors").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    step = read_checkpoint(tmp_path / "checkpoint.safetensors").step
    assert step > 0 and main(["train", "--resume", "--out", str(tmp_path), "--steps", str(step + 1)]) == 0
