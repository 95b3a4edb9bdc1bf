import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from photo_folders import obj, voc, xml

from mtlkit.cases import find_case
from mtlkit.cli import main
from mtlkit.data import DigitScenes, export
from mtlkit.data.photos import DataWarning
from mtlkit.training.checkpoints import read_checkpoint

SCORES = {"classify/accuracy", "detect/ap", "detect/ap50"}
KEYS = SCORES | {"steps", "seconds", "samples_per_second", "parameters"}


def run(capsys, *arguments):
    small = ("--scenes", 64, "--knob", "test_scenes=20") if arguments[0] == "train" else ()
    if {"--data", "--case", "--resume"} & set(arguments) and "scenes" not in arguments:
        small = ()
    status = main([str(a) for a in (*arguments, *small)])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_json_is_the_last_line_and_one_object(capsys):
    status, lines, _ = run(capsys, "train", "--data", "scenes", "--seconds", "0.5", "--json", "--device", "cpu")
    report = json.loads(lines[-1])
    assert status == 0 and report.keys() >= KEYS
    assert report["seconds"] >= 0.5 and report["steps"] >= 1 and 0 <= report["detect/ap"] <= report["detect/ap50"] <= 1
    assert report["label_origin"] == "made: texture"


def test_epochs_steps_and_seconds_limit_the_run(capsys):
    def steps(*limit):
        return json.loads(run(capsys, "train", *limit, "--json")[1][-1])["steps"]

    assert steps("--steps", 3) == 3
    assert steps("--epochs", 2) == 4  # 64 scenes in batches of 32
    assert steps("--epochs", 0.5) == 1
    assert steps("--steps", 10**6, "--seconds", 0.5) < 1000  # of several limits, the first that is reached
    assert steps("--steps", 2, "--seconds", 100, "--epochs", 5) == 2


def test_train_resume_evaluate(capsys, tmp_path):
    out = tmp_path / "run"
    _, lines, _ = run(capsys, "train", "--steps", 2, "--out", out, "--json", "--scene-class", "count", "--seed", 3)
    first = json.loads(lines[-1])
    checkpoint = read_checkpoint(out / "checkpoint.safetensors")
    assert (
        checkpoint.step == 2 and checkpoint.config["knobs"]["scene_class"] == "count" and checkpoint.config["seed"] == 3
    )
    status, lines, _ = run(capsys, "evaluate", out / "checkpoint.safetensors", "--json")
    assert status == 0 and json.loads(lines[-1]) == {name: first[name] for name in SCORES}
    arguments = ("train", "--resume", "--steps", 5, "--out", out, "--json")
    _, lines, _ = run(capsys, *arguments)
    assert json.loads(lines[-1])["steps"] == 5
    assert read_checkpoint(out / "checkpoint.safetensors").config["knobs"]["scene_class"] == "count"
    assert read_checkpoint(out / "checkpoint.safetensors").step == 5
    status, _, err = run(capsys, *arguments)
    assert status == 1 and "already reached this limit" in err


def test_weights_reach_the_run(capsys, tmp_path):
    run(capsys, "train", "--steps", 1, "--weights", "classify=0.3,detect=2", "--out", tmp_path)
    from mtlkit.training.checkpoints import load_checkpoint
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
        assert status == 0 and json.loads(lines[-1])["label_origin"] == "annotated"


@pytest.mark.parametrize("case", ["multimnist", "text"])
def test_every_case_trains_resumes_and_is_scored(capsys, tmp_path, case):
    few = [f"--knob={kind}{'pairs' if case == 'multimnist' else 'samples'}=64" for kind in ("", "val_", "test_")]
    command = ("train", "--case", case, *few, "--out", tmp_path, "--picture", tmp_path / "run.png", "--json")
    _, lines, _ = run(capsys, *command, "--steps", 2)
    first = json.loads(lines[-1])
    assert {name.partition("/")[0] for name in first if "/" in name} == {t.name for t in find_case(case).make_tasks({})}
    status, lines, _ = run(capsys, "evaluate", tmp_path / "checkpoint.safetensors", "--json")
    scores = json.loads(lines[-1])
    assert status == 0 and scores == {name: first[name] for name in scores}
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    status, lines, _ = run(capsys, "train", "--resume", "--out", tmp_path, "--steps", 4, "--json")
    assert status == 0 and json.loads(lines[-1])["steps"] == 4
    status, lines, _ = run(capsys, "memory", "--case", case, *few, "--json")
    assert json.loads(lines[-1])["peak_mb"] > json.loads(lines[-1])["parameters_mb"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--data", "imagenet"), "unknown case 'imagenet'"),
        (("train", "--data", "voc:/nowhere"), "there is no folder /nowhere"),
        (
            ("train", "--case", "text", "--scene-class", "count"),
            "'text' has no knob 'scene_class'; it has samples",
        ),
        (("train", "--knob", "size=huge"), "size is 'huge': expected int"),
        (("train", "--knob", "size=8"), "size is '8': expected at least 32"),
        (("train", "--scene-class", "colour"), "scene_class is 'colour': expected one of texture, count, random"),
        (("train", "--resume"), "--resume needs --out"),
        (("train", "--device", "gpu"), "unknown device 'gpu': expected auto, cpu, cuda"),
        (("train", "--device", "cuda:7"), "there is no"),
        (("train", "--compile", "fast"), "compile='fast': expected one of default"),
        (("train", "--compile", "--recompute"), "use compile or recompute, not both"),
        (("train", "--picture", "run.bmp"), "cannot draw run.bmp: its ending must be one of"),
        (("train", "--picture", "run"), "cannot draw run: its ending"),
        (("data", "look", "/nowhere"), "there is no folder /nowhere"),
        (("train", "--steps", 1, "--weights", "segment=1"), "weight for 'segment'"),
        (("train", "--steps", 1, "--out", "/dev/null/x"), "cannot write to /dev/null"),
        (("evaluate", "/nowhere.safetensors"), "no checkpoint"),
        (("data", "get", "imagenet"), "unknown data set 'imagenet'"),
    ],
)
def test_an_error_is_one_line_in_words(capsys, arguments, said):
    status, _, err = run(capsys, *arguments)
    assert status == 1 and said in err and err.startswith("mtlkit: ") and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("train", "--weights", "classify"),
        *(
            ("train", option, value)
            for option in ("--seconds", "--epochs", "--timeout")
            for value in ("-1", "0", "nan", "x")
        ),
        *(
            ("train", option, value)
            for option in ("--steps", "--batch-size", "--accumulate", "--scenes", "--size")
            for value in ("-1", "0", "1.5", "x")
        ),
        ("train", "--seed", "-1"),
        ("data", "export", "x", "--n", "-3"),
        ("experiments", "text", "--seeds", "0"),
        ("experiments", "text", "--workers", "-2"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_faults_of_the_test_images_are_said_before_the_training(capsys, tmp_path):
    voc(tmp_path, 9)
    (tmp_path / "JPEGImages/008.png").write_bytes(b"no image")
    status, lines, err = run(capsys, "train", "--data", f"voc:{tmp_path}", "--size", 64, "--steps", 10**6)
    assert status == 1 and not lines and "008.png: cannot be read as an image" in err
    with warnings.catch_warnings():
        warnings.simplefilter("default", DataWarning)
        (tmp_path / "Annotations/000.xml").write_text(xml("000.png", [obj(), obj()]), encoding="utf-8")
        command = ("train", "--data", f"voc:{tmp_path}", "--size", 64, "--steps", 2, "--repair", "--json")
        status, lines, err = run(capsys, *command)
    assert "mtlkit: note: " in err and "marked twice" in err
    assert status == 0 and "mtlkit: mended: " in err and "008.png" in err and json.loads(lines[-1])["steps"] == 2


def test_a_warning_is_a_note_for_who_runs_a_command(tmp_path):
    """In a process of its own: pytest would turn the warning into an error."""
    voc(tmp_path, 9, lists=("default",))
    command = [sys.executable, "-m", "mtlkit", "data", "look", str(tmp_path), "--picture", str(tmp_path / "sheet.png")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
    assert "about a fifth of all is used" in said.stdout and not said.stderr
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    command = [sys.executable, "-m", "mtlkit", "train", "--data", f"voc:{tmp_path}", "--size", "64", "--steps", "2"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stderr.startswith("mtlkit: note: ") and said.stderr.count("about a fifth") == 1


def test_data_list_and_export(capsys, tmp_path):
    _, lines, _ = run(capsys, "data", "list")
    assert {line.split()[0] for line in lines} >= {"scenes", "text", "multimnist", "pets", "bccd", "voc2007"}
    status, _, _ = run(capsys, "data", "export", tmp_path, "--layout", "voc", "--n", 3, "--scene-class", "count")
    assert status == 0 and len(list((tmp_path / "Annotations").iterdir())) == 3


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    voc(tmp_path, 9)
    command = f"{sys.executable} -u -m mtlkit data look {tmp_path} --picture {tmp_path / 'look.png'}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -1"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("train: ") and "Traceback" not in done.stderr


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
