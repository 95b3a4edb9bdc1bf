"""Text tasks, the small language model, its adapters, and what is counted on paper."""

import copy
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtlkit.cases.text import text_model
from mtlkit.data import Loader
from mtlkit.data.loader import mixture
from mtlkit.data.text import _MADE, LENGTH, SIZES, TASKS, VOCABULARY, TextTasks, decode, encode
from mtlkit.experiments import read
from mtlkit.experiments import text as text_experiments
from mtlkit.model import LowRank, add_adapters, flops_of, parameters_of
from mtlkit.tasks import mixed_task, text_tasks
from mtlkit.training import evaluate, train

ANSWERS = {
    "reverse": lambda word: word[::-1],
    "sort": lambda word: "".join(sorted(word)),
    "add": lambda sum_: str(sum(map(int, sum_.split("+"))))[::-1],
    "count": lambda word: str(word.count("a")),
}


@pytest.fixture(scope="module")
def samples():
    return TextTasks("train", 2000, temperature=5.0)


def test_what_is_to_be_predicted_is_the_answer_or_the_next_letter(samples):
    seen = set()
    for sample in (samples[k] for k in range(200)):
        text = decode(sample["tokens"])
        task, _, rest = text.partition(":")
        wanted = [(place, VOCABULARY[token]) for place, token in enumerate(sample["target"].tolist()) if token >= 0]
        seen.add(task)
        assert task == TASKS[int(sample["task"])] and len(sample["tokens"]) == LENGTH - 1
        if task == "english":
            assert "".join(letter for _, letter in wanted)[:-1] == rest and len(wanted) == LENGTH - 1
            continue
        question, answer = rest.rstrip("|").split("=")
        assert "".join(letter for _, letter in wanted) == answer + "|"
        assert wanted[0][0] == 1 + len(question)  # right after "="
        assert answer == ANSWERS[task](question)
    assert seen == set(TASKS)


def test_splits_share_no_sample_and_the_seed_decides_all():
    rows = {split: {bytes(row) for row in TextTasks(split, 4000, 5.0).rows} for split in ("train", "val", "test")}
    assert not rows["train"] & rows["val"] and not rows["train"] & rows["test"] and not rows["val"] & rows["test"]
    twin, other = TextTasks("train", 50, 5.0), TextTasks("train", 50, 5.0, seed=1)
    assert (TextTasks("train", 50, 5.0).rows == twin.rows).all() and (twin.rows != other.rows).any()


def test_every_split_of_every_task_has_its_own_samples():
    """A split by a sum of the characters had given "count" a test set of eight pairs of words and their mirrors."""
    splits = {split: TextTasks(split, 40_000, math.inf) for split in ("train", "val", "test")}
    seen = {}
    for split, texts in splits.items():
        for task in TASKS:
            seen[split, task] = {bytes(row) for row in texts.rows if row[0] == encode(f"{task}:")[0]}
            assert len(seen[split, task]) == 500 or split == "train"
    for task in TASKS:
        assert not seen["train", task] & seen["val", task] and not seen["val", task] & seen["test", task]
    lengths = {bytes(row).find(encode("=")[0]) for row in seen["test", "count"]}
    assert len(lengths) > 6  # words of all lengths
    text = splits["train"].rows[:, 1:]
    assert not {bytes(row[1:]) for row in splits["val"].rows} & {bytes(row) for row in text}


def test_more_samples_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"9,000 distinct samples of 'count' for 'train', but there are only 6,623"):
        TextTasks("train", 10, sizes={"count": 9000})
    with pytest.raises(ValueError, match=r"'english' for 'train', but there are only \d+"):
        TextTasks("train", 10, sizes={"english": 1_000_000})


def test_the_temperature_goes_from_the_sizes_to_equal_shares():
    total = sum(SIZES.values())
    assert mixture(SIZES, 1.0) == pytest.approx({task: size / total for task, size in SIZES.items()})
    assert mixture(SIZES, math.inf) == pytest.approx(dict.fromkeys(SIZES, 0.2))
    assert mixture({"a": 100, "b": 1}, 2.0) == pytest.approx({"a": 10 / 11, "b": 1 / 11})
    drawn = TextTasks("train", 20_000, 2.0)
    shares = torch.bincount(drawn.batch(torch.arange(20_000))["task"], minlength=len(TASKS)) / 20_000
    assert shares.tolist() == pytest.approx(list(drawn.proportions.values()), abs=0.015)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="unknown split 'all'"):
        TextTasks("all")
    with pytest.raises(ValueError, match="no text task 'divide'"):
        TextTasks("train", sizes={"divide": 3})
    for wrong in ({"n": 0}, {"temperature": 0.0}, {"sizes": {"add": 0}}):
        with pytest.raises(ValueError, match="must be above 0"):
            TextTasks("train", **wrong)
    assert decode(torch.tensor(encode("sort:bca=abc|"))) == "sort:bca=abc|"


def test_no_place_sees_what_follows(samples):
    model = text_model().eval()
    tokens = samples.batch(torch.arange(4))["tokens"]
    changed = tokens.clone()
    changed[:, 20:] = 7
    before, after = model(tokens)["all"], model(changed)["all"]
    assert torch.allclose(before[:, :20], after[:, :20], atol=1e-6) and not torch.allclose(before, after)


@pytest.mark.parametrize(("width", "layers"), [(16, 1), (64, 2), (96, 4)])
def test_parameters_and_operations_are_those_counted_on_paper(samples, width, layers):
    model = text_model(width, layers)
    assert sum(p.numel() for p in model.parameters()) == parameters_of(width, layers)
    batch = samples.batch(torch.arange(8))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # the others are not counted
        task = mixed_task()
        task.loss(model(batch["tokens"])["all"], batch).backward()
    assert flops_of(width, layers, 8) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_tasks_losses_weighted_by_their_tokens_are_the_mixed_loss(samples):
    model, batch = text_model(), samples.batch(torch.arange(64))
    outputs = model(batch["tokens"])
    tokens = {task.name: task.count(batch)[1] for task in text_tasks()}
    parts = sum(tokens[task.name] * task.loss(outputs[task.name], batch) for task in text_tasks())
    mixed = mixed_task()
    whole = mixed.loss(outputs["all"], batch).item()
    assert whole == pytest.approx(parts.item() / mixed.count(batch)[1], rel=1e-5)


def test_scores_are_those_of_the_right_tokens(samples):
    batch = samples.batch(torch.arange(32))
    scores = text_tasks(["sort"])[0].metric()
    perfect = 50 * torch.nn.functional.one_hot(batch["target"].clamp(min=0), len(VOCABULARY)).float()
    scores.update(perfect, batch)
    found = scores.compute()
    assert found["accuracy"] == 1 and found["loss"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(text_tasks(["add"])[0].metric().compute()["accuracy"])


def test_adapters_begin_at_nothing_and_change_their_own_task_only(samples):
    model = text_model().eval()
    batch = samples.batch(torch.arange(40))
    before = model(batch["tokens"])["all"]
    plain = parameters_of(64, 2)
    adapted = add_adapters(copy.deepcopy(model), len(TASKS), rank=2).eval()
    assert torch.equal(adapted(batch["tokens"])["all"], before)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == len(TASKS) * 2 * 2 * (4 * 64 + 2 * 64 + 5 * 64 + 5 * 64)
    assert sum(p.numel() for p in adapted.parameters()) == plain + trained
    for module in adapted.modules():
        if isinstance(module, LowRank):
            module.B.data[TASKS.index("add")] = 1.0
    after = adapted(batch["tokens"])["all"]
    add = batch["task"] == TASKS.index("add")
    assert torch.equal(after[~add], before[~add]) and not torch.allclose(after[add], before[add])


def test_a_frozen_model_trains_its_adapters_alone(samples):
    model = add_adapters(text_model(32), len(TASKS))
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    records = list(train(model, [mixed_task()], Loader(samples, 16), None, optimizer, steps=12, device="cpu"))
    assert records[-1].losses["all"] < records[0].losses["all"]
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


def test_it_learns():
    model = text_experiments.fit(text_model(48), {"sort": 500}, steps=60)
    found = evaluate(model, text_tasks(["sort"]), TextTasks("val", 100, sizes={"sort": 1}), device="cpu")
    assert found["sort/loss"] < 0.8 * math.log(27)


def test_every_setting_of_the_experiment_gives_every_column(monkeypatch):
    experiment = text_experiments.text_experiment()
    monkeypatch.setattr(text_experiments, "STEPS", 3)
    monkeypatch.setattr(text_experiments, "fit", lambda model, *args, **options: model)
    rows = {name: setting(0) for name, setting in experiment.settings.items()}
    assert all(set(row) == set(experiment.columns) for row in rows.values())
    trained = {name: row["trained"] for name, row in rows.items()}
    assert trained["width 16"] < trained["T = 1"] == trained["all weights"] and trained["adapters"] < trained["T = 1"]
    assert rows["adapters"]["parameters"] > rows["T = 1"]["parameters"]


def test_the_kept_table_is_complete():
    rows = read("text")
    assert {(row.setting, row.seed) for row in rows} == {
        (setting, seed) for setting in text_experiments.text_experiment().settings for seed in range(5)
    }
    sizes = text_experiments.losses_by_size(rows)
    assert len(sizes) == 6 and f"{max(sizes):,}" == "231,744" and all(len(losses) == 5 for losses in sizes.values())


def test_a_task_with_too_few_different_questions_says_how_many_there_are(monkeypatch):
    monkeypatch.setitem(_MADE, "count", lambda random: (str(random.randrange(9)), "1"))
    with pytest.raises(ValueError, match=r"asks for 20 distinct samples of 'count' for 'train', .* are only [1-9]:"):
        TextTasks("train", 10, sizes={"count": 20})
