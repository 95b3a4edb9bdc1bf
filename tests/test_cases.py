"""Cases: what everybody may rely on for each of them, and that a new one works everywhere (toy.py holds its data and
its case).
"""

import copy
import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import TOY

from mtlkit.cases import CASES, Knob, SeenImage, SeenText, find_case
from mtlkit.cli import main
from mtlkit.data import DigitScenes, export
from mtlkit.lab import LossWeightingLab
from mtlkit.training import (
    evaluate,
    fetch,
    load_checkpoint,
    measure_memory,
    predict_memory,
    read_checkpoint,
    save_checkpoint,
    train,
)
from mtlkit.weighting import METHODS, PCGrad, StaticWeights

SMALL = {
    "scenes": {"scenes": 32, "val_scenes": 8, "test_scenes": 8},
    "multimnist": {"pairs": 32, "val_pairs": 8, "test_pairs": 8},
    "text": {"samples": 64, "val_samples": 40, "test_samples": 40, "width": 16},
}


@pytest.fixture(params=["scenes", "multimnist", "text", "pets", "voc", "toy"])
def case(request):
    if request.param == "toy":
        return TOY
    if request.param in SMALL:
        return find_case(request.param, **SMALL[request.param])
    real_data: Path = request.getfixturevalue("real_data")
    if request.param == "pets":
        return find_case(f"pets:{real_data}", size=64, encoder="conv")
    return find_case(f"voc:{real_data / 'bccd/BCCD'}", size=64, repair=True)


def test_a_case_trains_is_scored_checkpointed_resumed_and_told_its_memory(case, tmp_path):
    setup = case.setup(seed=2, batch_size=8)
    names = [task.name for task in setup.tasks]
    records = list(train(*setup.parts, average=setup.average, steps=4, device="cpu"))
    assert {name for record in records for name in record.losses} <= set(names) and records[-1].losses
    few = [case.open("test")[k] for k in range(4)] if case.name in ("pets", "voc") else case.open("test", 2)
    scores = evaluate(setup.average, setup.tasks, few, device="cpu")
    assert {task.score_name for task in setup.tasks} <= scores.keys()
    assert {name.partition("/")[0] for name in scores} == set(names)

    save_checkpoint(tmp_path / "c", records[-1], setup.config, **setup.states)
    config = json.loads(json.dumps(read_checkpoint(tmp_path / "c").config))
    again = find_case(config["case"], **config["knobs"]).setup(
        **{name: config[name] for name in ("seed", "batch_size", "method")}
    )
    progress = load_checkpoint(tmp_path / "c", **again.states)
    assert progress.step == 4
    for one, two in zip(setup.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    on, on_again = (
        list(train(*one.parts, average=one.average, steps=6, device="cpu", after=progress)) for one in (setup, again)
    )
    assert on[-1].losses == on_again[-1].losses

    batch = next(setup.loader)
    step = setup.model, setup.tasks, batch
    predicted = predict_memory(*step, optimizer=case.optimizer)["peak"]
    if case.name in ("scenes", "text"):
        assert predicted == pytest.approx(measure_memory(*step, optimizer=case.optimizer, device="cpu"), rel=0.15)
    assert predicted > sum(p.nbytes for p in setup.model.parameters())


def test_a_learner_sees_what_is_given_what_is_right_and_what_the_model_says(case):
    setup = case.setup(batch_size=4)
    bare, answered = (case.see(setup.train_set, range(3), model) for model in (None, setup.model.eval()))
    assert len(bare) == len(answered) == 3
    for one, two in zip(bare, answered, strict=True):
        if isinstance(one, SeenImage):
            assert one.image.shape[0] == 3 and not one.answers and set(two.answers) <= {t.name for t in setup.tasks}
            assert two.truth == one.truth and all(0 <= sure <= 1 for _, sure in two.answers.values())
        else:
            assert isinstance(one, SeenText) and one.answer is None and two.answer and two.right == one.right


def test_the_seed_decides_the_model_and_nothing_else_does():
    case = find_case("multimnist", pairs=64)
    torch.manual_seed(5)
    one = case.setup(seed=3).model.state_dict()
    torch.manual_seed(6)
    assert all(torch.equal(t, one[name]) for name, t in case.setup(seed=3).model.state_dict().items())
    assert not all(torch.equal(t, one[name]) for name, t in case.setup(seed=4).model.state_dict().items())


def test_a_setup_can_be_of_some_tasks_with_any_method():
    scenes = DigitScenes("train", 16)
    alone = find_case("scenes").setup(only=["detect"], train_set=scenes)
    assert [task.name for task in alone.tasks] == list(alone.model.heads) == ["detect"]
    assert alone.weighting.weights == {"detect": 1.0}
    whole = find_case("scenes").setup(train_set=scenes, method=PCGrad(seed=3))
    assert whole.method == "PCGrad" and isinstance(whole.weighting, PCGrad)
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name])
    with pytest.raises(ValueError, match="no task 'segment': expected classify, detect"):
        find_case("scenes").setup(only=["segment"], train_set=scenes)
    with pytest.raises(ValueError, match="unknown method 'Magic': expected one of EqualWeights"):
        find_case("scenes").setup(method="Magic", train_set=scenes)
    with pytest.raises(ValueError, match="UPGrad finds the weights itself"):
        find_case("scenes").setup(method="UPGrad", weights={"detect": 2.0}, train_set=scenes)


def test_knobs_are_checked_and_text_becomes_what_it_says():
    case = find_case("scenes", size="96", missing={"classify": 0.5}, encoder=None)
    assert case.values()["size"] == 96 and case.values()["missing"] == {"classify": 0.5}
    assert case.values()["encoder"] == "conv" and "encoder" not in case.settings
    assert CASES["scenes"].values()["size"] == 64  # the kit's own case stays as it is
    for knobs, said in (
        ({"sice": 64}, "'scenes' has no knob 'sice'; it has scenes, "),
        ({"size": "big"}, "size is 'big': expected int"),
        ({"size": 16}, "size is 16: expected at least 32"),
        ({"missing": 1.5}, "missing is 1.5: expected 0 to 1"),
        ({"missing": {"detect": -1}}, "missing of detect is -1"),
        ({"scene_class": "colour"}, "expected one of texture, count, random"),
    ):
        with pytest.raises(ValueError, match=said):
            find_case("scenes", **knobs)
    assert [Knob(False, "").check("repair", text) for text in ("true", "No", True)] == [True, False, True]


def test_a_case_is_found_by_name_by_module_or_is_itself():
    assert find_case("text").name == "text" and find_case(TOY) is not None and find_case(TOY).name == "toy"
    assert find_case("voc:/some/folder").values()["folder"] == "/some/folder"
    assert find_case("toy:TOY", width=8).values()["width"] == 8
    for wrong in ("imagenet", "toy:NOTHING", "no_such_module:CASE", "json:dumps"):
        with pytest.raises(ValueError, match=f"unknown case '{wrong}': expected one of .*scenes.* or my_module:CASE"):
            find_case(wrong)
    with pytest.raises(ValueError, match="say where the photographs are"):
        find_case("voc").open("train")


def test_labels_are_missing_or_wrong_in_training_only():
    case = find_case("scenes", **SMALL["scenes"], missing=1.0)
    assert (case.open("train").labels == -1).all() and (case.open("val").labels >= 0).all()


# the new case, where a user meets it


def test_the_command_line_takes_a_new_case(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    out = tmp_path / "run"
    command = f"train --case toy:TOY --knob pairs=60 --seed 1 --method PCGrad --out {out} --json --steps"
    assert main([*command.split(), "5", "--picture", str(tmp_path / "toy.png")]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["steps"] == 5 and {"sum/error", "larger/accuracy"} <= first.keys()
    assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", f"{out}/checkpoint.safetensors", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == {name: first[name] for name in ("sum/error", "larger/accuracy")}
    assert main(["train", "--resume", "--out", str(out), "--steps", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 8
    assert main(["memory", "--case", "toy:TOY", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak_mb"] > 0


@pytest.mark.parametrize("which", ["toy", "text", "multimnist"])
def test_the_lab_trains_any_case(which):
    knobs = {"text": {"samples": 200, "width": 16}, "multimnist": {"pairs": 64}, "toy": {"pairs": 60}}[which]
    lab = LossWeightingLab("any", case=TOY if which == "toy" else which, start=False, **knobs)
    frames = []
    lab.widget.send = lambda content, buffers=(): frames.append((copy.deepcopy(content), buffers))
    tasks = list(lab.weights)
    lab.run(40, {0: {tasks[0]: 0.5}, 20: {"method": "UPGrad"}})
    lab._link.send_all()
    content, (rows, _, images) = frames[-1]
    assert content["t"] == "all" and content["tasks"] == tasks and len(content["samples"]) == 9
    assert len(rows) == 4 * (1 + len(tasks)) * len(lab.records) and bool(images) == (which == "multimnist")
    assert lab.records[-1].weights[tasks[0]] == 0.5 and set(lab.session.score_names) <= set(lab.records[-1].scores)
    json.dumps(content)
    picture = lab.picture()
    assert tasks[0] in picture.alt and picture.png().startswith(b"\x89PNG")
    first = [record.losses for record in lab.records]
    lab.replay()
    assert [record.losses for record in lab.run(40).records] == first
    live = [name for name, knob in lab.session.case.knobs.items() if knob.live]
    if live:
        lab.set(data={live[0]: 1.0})
        before = lab.session.branch.setup.loader.dataset
        lab.run(1)
        assert lab.session.branch.setup.loader.dataset is not before
    lab.close()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_the_new_case(method):
    setup = TOY.setup(method=method)
    before = evaluate(setup.model, setup.tasks, TOY.open("test"), device="cpu")
    for _ in train(*setup.parts, steps=60, schedule=lambda _: 1.0, device="cpu"):
        pass
    after = evaluate(setup.model, setup.tasks, TOY.open("test"), device="cpu")
    assert after["sum/error"] < before["sum/error"] or after["larger/accuracy"] > before["larger/accuracy"]


def test_two_tasks_may_have_scores_of_one_name():
    setup = find_case("multimnist", pairs=64).setup()
    scores = evaluate(setup.model, setup.tasks, find_case("multimnist", test_pairs=20).open("test"), device="cpu")
    assert scores.keys() == {"left/accuracy", "right/accuracy"}


def test_a_batch_of_any_data_set_is_fetched():
    scenes = DigitScenes("val", 4)
    batch = fetch(scenes, [0, 2])
    assert torch.equal(batch["image"], scenes.batch([0, 2])["image"])
    assert torch.equal(fetch([scenes[k] for k in range(4)], [0, 2])["image"], batch["image"])


def test_scripts_from_before_there_were_cases_go_on_working():
    from mtlkit.recipe import Case, Recipe

    recipe = Recipe.for_data("scenes", scenes=16, batch_size=8, method="GradNorm", size=None)
    assert len(recipe.open("train")) == 16
    setup = Case(recipe)
    (record,) = train(setup.model, setup.tasks, setup.loader, setup.weighting, setup.optimizer, steps=1, device="cpu")
    assert record.weights.keys() == {"classify", "detect"} and setup.method == "GradNorm"


def test_a_run_of_one_task_is_resumed_and_scored_as_such(tmp_path):
    setup = TOY.setup(only="sum")
    (*_, last) = train(*setup.parts, steps=3, device="cpu")
    save_checkpoint(tmp_path / "c", last, setup.config, **setup.states)
    config = read_checkpoint(tmp_path / "c").config
    again = find_case(config["case"]).setup(only=config["only"])
    load_checkpoint(tmp_path / "c", **again.states)
    assert [task.name for task in again.tasks] == list(again.model.heads) == ["sum"]
    assert main(["evaluate", str(tmp_path / "c"), "--json"]) == 0
    with pytest.raises(ValueError, match=r"give the weights to the method itself: StaticWeights"):
        TOY.setup(method=StaticWeights(), weights={"sum": 2.0})


def test_a_checkpoint_is_scored_on_the_data_that_are_named(tmp_path, capsys):
    for name, seed in (("one", 0), ("two", 1)):
        for split in ("train", "test"):
            export(DigitScenes(split, 40, seed=seed), tmp_path / name, "voc", split)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    command = f"train --case voc:{tmp_path / 'one'} --size 64 --steps 30 --json --out {tmp_path / 'run'}"
    assert main(command.split()) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = []
    for more in (
        [],
        ["--case", f"voc:{tmp_path / 'one'}", "--size", "64"],
        ["--case", f"voc:{tmp_path / 'two'}", "--size", "64"],
    ):
        assert main(["evaluate", str(checkpoint), "--json", *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == {name: trained[name] for name in found[0]} and found[2] != found[0]
    assert main(["evaluate", str(checkpoint), "--case", "scenes", "--json"]) == 1  # the classes are in another order
    assert "knows the classes checks, clouds" in capsys.readouterr().err


def test_the_command_finds_a_case_in_the_folder_where_it_is_called(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\nfrom toy import TOY\n"
    )
    command = [str(Path(sys.executable).with_name("mtlkit")), "memory", "--case", "mine:TOY", "--json"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert json.loads(said)["peak_mb"] > 0
    (tmp_path / "broken.py").write_text("import no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        find_case("broken:TOY")


def test_a_lab_says_what_is_wrong_with_a_case_and_stops():
    def see(dataset, indices, model=None, **_):
        if model is not None:
            raise KeyError("the tenth word")
        return TOY.see(dataset, indices)

    lab = LossWeightingLab("broken", case=replace(TOY, see=see))
    refusals = []
    lab.widget.send = lambda content, buffers=(): refusals.append(content)
    lab._link.receive(lab.widget, {"t": "hello", "seen": 0}, [])
    refused = [content["why"] for content in list(refusals) if content["t"] == "refused"]  # frames may follow already
    assert len(refused) == 1 and "the tenth word" in refused[0]
    with pytest.raises(RuntimeError, match="the tenth word"):
        lab.wait(10**6)
    assert not lab.session.running and gc.get_threshold()[2] < 100
    lab.close()


def test_a_lab_takes_runs_of_its_own_case_only(tmp_path):
    lab = LossWeightingLab("toy", case=TOY, start=False).run(3)
    lab.save(tmp_path / "toy.json")
    other = LossWeightingLab("other", case="multimnist", pairs=64, start=False)
    with pytest.raises(ValueError, match=r"a run of the case 'toy:TOY'; this lab trains 'multimnist'"):
        other.load(tmp_path / "toy.json")
    assert other.runs == [other.session.run_now]
    for made in (lab, other):
        made.close()


def test_data_that_are_set_during_a_step_count_from_the_next_one_on(monkeypatch):
    """So a replay has them at the same step."""
    lab = LossWeightingLab("during", case=TOY, start=False)
    measure = lab.session.branch._measure

    def meanwhile(record):
        if record.step == 2:
            lab.set(data={"noise": 0.5})
        measure(record)

    monkeypatch.setattr(lab.session.branch, "_measure", meanwhile)
    first = [record.losses for record in lab.run(5).records]
    assert lab.session.run_now.schedule == {2: {"data": {"noise": 0.5}}}
    monkeypatch.undo()
    lab.replay()
    assert [record.losses for record in lab.run(5).records] == first
    lab.close()


def test_data_of_another_length_may_take_the_place_of_those_in_a_loader():
    loader = TOY.setup().loader
    next(loader)
    loader.dataset = TOY.with_knobs(pairs=40).open("train")
    assert len(next(loader)["pair"]) == 20
