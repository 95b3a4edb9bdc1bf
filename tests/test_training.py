from itertools import count

import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data import DigitScenes, Loader
from mtlkit.tasks import Task
from mtlkit.training import TrainingError, evaluate, train
from mtlkit.weighting import EqualWeights, StaticWeights


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 64)


def run(setup, steps, **options):
    return list(train(*setup.parts, steps=steps, device="cpu", **options))


def test_records_tell_what_happened(scenes):
    setup = find_case("scenes").setup(batch_size=8, weights={"classify": 0.5}, train_set=scenes)
    records = run(setup, 3, cosine_every=2)
    assert [record.step for record in records] == [1, 2, 3]
    assert records[0].seconds < records[1].seconds < records[2].seconds
    assert records[0].weights == {"classify": 0.5, "detect": 1.0}
    assert records[0].losses.keys() == {"classify", "detect"} and all(v > 0 for v in records[0].losses.values())
    assert -1 <= records[0].cosine <= 1 and records[1].cosine is None


def test_weights_may_change_between_steps(scenes):
    setup = find_case("scenes").setup(batch_size=8, weights={"classify": 1.0}, train_set=scenes)
    head = [p.detach().clone() for p in setup.model.task_parameters("classify")]
    records = []
    for record in train(setup.model, setup.tasks, setup.loader, setup.weighting, steps=4, device="cpu"):
        records.append(record)
        setup.weighting.weights["classify"] = 0.0
        if record.step == 1:
            after_one = [p.detach().clone() for p in setup.model.task_parameters("classify")]
    assert [record.weights["classify"] for record in records] == [1.0, 0.0, 0.0, 0.0]
    assert any(not torch.equal(a, b) for a, b in zip(head, after_one, strict=True))


def test_on_a_cpu_products_stay_at_full_precision_and_images_come_with_channels_last(scenes):
    setup, seen = find_case("scenes").setup(batch_size=8, train_set=scenes), []
    setup.model.encoder.register_forward_pre_hook(
        lambda _, x: seen.append((x[0].is_contiguous(memory_format=torch.channels_last), x[0].is_contiguous()))
    )
    run(setup, 2)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.benchmark
    assert seen == [(True, False)] * 2


def test_both_losses_fall():
    setup = find_case("scenes", scenes=64).setup(batch_size=16, weights={"classify": 1.0})
    records = run(setup, 100)
    for name in ("classify", "detect"):
        first, last = (sum(r.losses[name] for r in part) for part in (records[:10], records[-10:]))
        assert last < 0.8 * first, name


def test_it_stops_by_steps_or_seconds_and_needs_one(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    assert len(run(setup, 2, seconds=1000)) == 2
    records = list(train(setup.model, setup.tasks, setup.loader, seconds=0.2, device="cpu"))
    assert records and records[-1].seconds >= 0.2 and (len(records) == 1 or records[-2].seconds < 0.2)
    with pytest.raises(ValueError, match="never end"):
        next(train(setup.model, setup.tasks, setup.loader))


def test_the_seconds_of_a_record_are_those_of_its_steps(scenes):
    """By a clock that goes two seconds on whenever somebody looks; a resumed run counts on."""
    setup, clock = find_case("scenes").setup(batch_size=4, train_set=scenes), count(0, 2).__next__
    records = list(train(*setup.parts, steps=3, device="cpu", clock=clock))
    assert [record.seconds for record in records] == [2, 4, 6]
    more = list(train(*setup.parts, steps=5, device="cpu", clock=clock, after=records[-1]))
    assert [(record.step, record.seconds) for record in more] == [(4, 8), (5, 10)]


def test_the_learning_rate_follows_the_schedule(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    rates = [record.rate for record in run(setup, 20)]
    assert rates.index(max(rates)) == 2 and rates[-1] < 0.05 and min(rates) > 0


def test_the_same_seed_gives_the_same_run(scenes):
    losses = [
        [record.losses for record in run(find_case("scenes").setup(batch_size=8, train_set=scenes), 4)]
        for _ in range(2)
    ]
    assert losses[0] == losses[1]


def test_time_between_steps_does_not_count(scenes):
    import time

    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    started = time.perf_counter()
    for record in train(setup.model, setup.tasks, setup.loader, steps=3, device="cpu"):
        last = record
        time.sleep(0.2)
    assert last.seconds <= time.perf_counter() - started - 3 * 0.2


def test_a_nan_loss_names_the_task_and_a_task_without_head_is_named(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    nan = Task("classify", lambda logits, _: logits.sum() * float("nan"), lambda: None, "accuracy")
    with pytest.raises(TrainingError, match=r"'classify' is nan.*at step 1"):
        next(train(setup.model, [nan, setup.tasks[1]], setup.loader, steps=1, device="cpu"))
    other = Task("segment", setup.tasks[0].loss, setup.tasks[0].metric, "iou")
    with pytest.raises(ValueError, match=r"'segment' has no head.*classify, detect"):
        next(train(setup.model, [other], setup.loader, steps=1, device="cpu"))


@pytest.mark.parametrize("options", [{}, {"cosine_every": 1}, {"accumulate": 2}], ids=str)
def test_a_nan_gradient_names_the_task_whose_loss_is_fine(scenes, options):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    bad = Task("classify", lambda logits, _: Poisoned.apply(logits).square().mean(), None, "accuracy")
    with pytest.raises(TrainingError, match=r"gradient of the task 'classify' is nan.*at step 1"):
        next(train(setup.model, [bad, setup.tasks[1]], setup.loader, steps=1, device="cpu", **options))


def test_a_batch_without_any_label_trains_the_other_task(scenes):
    unlabelled = DigitScenes("train", 16, missing={"classify": 1.0})
    setup = find_case("scenes").setup(batch_size=8, train_set=unlabelled)
    records = run(setup, 2)
    assert all(record.tasks == ("detect",) and record.losses["detect"] > 0 for record in records)
    assert all(p.isfinite().all() for p in setup.model.parameters())


def test_static_weights_scale_the_gradient(scenes):
    def gradient(weighting):
        setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
        batch = next(Loader(scenes, 8))
        outputs = setup.model(batch["image"])
        weighting.backward({task.name: task.loss(outputs[task.name], batch) for task in setup.tasks}, setup.model)
        return torch.cat([p.grad.flatten() for p in setup.model.shared_parameters()])

    equal, double = gradient(EqualWeights()), gradient(StaticWeights({"classify": 2, "detect": 2}))
    assert torch.allclose(double, 2 * equal, rtol=1e-3, atol=1e-5)
    parts = gradient(StaticWeights({"detect": 0})) + gradient(StaticWeights({"classify": 0}))
    assert torch.allclose(parts, equal, rtol=1e-3, atol=1e-4)


def test_wrong_weights_are_named():
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'classify'"):
            StaticWeights({"classify": bad})
    setup = find_case("scenes").setup(batch_size=8, train_set=DigitScenes("train", 8))
    with pytest.raises(ValueError, match="'segment', but the tasks are classify, detect"):
        next(train(setup.model, setup.tasks, setup.loader, StaticWeights({"segment": 1.0}), steps=1))


def test_an_unknown_precision_or_an_absent_device_is_said(scenes, monkeypatch):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    with pytest.raises(ValueError, match="unknown precision 'half'"):
        next(train(setup.model, setup.tasks, setup.loader, steps=1, precision="half"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device here"):
        next(train(setup.model, setup.tasks, setup.loader, steps=1, device="cuda:0"))


def test_evaluate_returns_every_score_and_leaves_the_mode_alone(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    setup.model.train()
    scores = evaluate(setup.model, setup.tasks, DigitScenes("val", 20), device="cpu")
    assert scores.keys() == {"classify/accuracy", "detect/ap", "detect/ap50"} and setup.model.training
