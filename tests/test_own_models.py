"""Anybody's model, batches, losses and loop: right, or refused in words."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from mtlkit.cases import find_case
from mtlkit.cases.text import text_model
from mtlkit.data import DataError, DigitScenes, Loader, collate
from mtlkit.losses import classification_loss
from mtlkit.machine import Group, Machine
from mtlkit.model import Pick, SharedEncoderModel, add_adapters
from mtlkit.tasks import Task, text_tasks
from mtlkit.training import MovingAverage, MuonAdamW, TrainingError, evaluate, train
from mtlkit.training.forward import Forward
from mtlkit.weighting import METHODS, GradNorm, PCGrad, UPGrad, WeightingError, WeightingWarning, jacobian
from mtlkit.weighting.graph import last_shared, reached, shared_parameters

GRADIENTS = [name for name in METHODS if not METHODS[name]().one_pass(1)]
NAMES = ("t0", "t1")


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))


def setting(encoder=None, heads=None, seed=0, **more):
    torch.manual_seed(seed)
    heads = heads or {name: nn.Linear(8, 1) for name in NAMES}
    model = SharedEncoderModel(encoder() if encoder else mlp(), heads, reads="x", **more)
    return model, [regression(name) for name in heads]


def regression(name, target=None, **more):
    return Task(name, lambda o, b: mse_loss(o[:, 0], b[target or name]), None, "error", **more)


def batches(number=10, size=8, names=NAMES):
    stream = torch.Generator().manual_seed(1)
    for _ in range(number):
        x = torch.randn(size, 6, generator=stream)
        yield {"x": x} | {name: x[:, k % 6] for k, name in enumerate(names)}


def go(model, tasks, loader=None, method="EqualWeights", steps=3, **more):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.05)
    method = METHODS[method]() if isinstance(method, str) else method
    loader = batches() if loader is None else loader
    return list(train(model, tasks, loader, method, optimizer, steps=steps, device="cpu", **more))


def losses_of(model, tasks, batch):
    outputs = model(batch["x"])
    return {task.name: task.loss(outputs[task.name], batch) for task in tasks}


# frozen, tied, unused


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_stays_and_the_rest_learns(method):
    model, tasks = setting()
    model.encoder[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    go(model, tasks, method=method)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", METHODS)
def test_the_heads_of_a_frozen_encoder_learn_from_their_own_losses(method):
    model, tasks = setting()
    model.encoder.requires_grad_(False)
    batch = next(batches())
    METHODS[method]().backward(losses_of(model, tasks, batch), model)
    alone = torch.autograd.grad(losses_of(model, tasks, batch)["t0"], model.heads["t0"].weight)[0]
    got = model.heads["t0"].weight.grad
    assert torch.allclose(got * alone.norm(), alone * got.norm()) and model.encoder[0].weight.grad is None
    if method in GRADIENTS:
        scale = float(losses_of(model, tasks, batch)["t0"].detach()) if method == "DBMTL" else 1.0  # of log l
        assert torch.allclose(got, alone / scale)


@pytest.mark.parametrize("method", ["EqualWeights", "PCGrad", "GradNorm", "MGDA"])
def test_frozen_parts_with_cosine_every_and_the_kits_own_adapters(method):
    model, tasks = setting()
    model.encoder[0].requires_grad_(False)
    assert go(model, tasks, method=method, cosine_every=1)[-1].conflict.cosines.shape == (2, 2)
    model.encoder.requires_grad_(False)
    assert go(model, tasks, method=method, cosine_every=1)[-1].cosine == 0
    adapted = add_adapters(text_model(16), 5)
    loader = Loader(find_case("text", samples=200).open("train"), 8)
    assert len(go(adapted, text_tasks(), loader, method, steps=2)) == 2


def test_the_last_use_of_a_parameter_is_known_where_it_is_used_twice():
    first, last = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    early = first * 2
    loss = (early * last * first).sum()
    used = loss.grad_fn.next_functions[0][0]
    found = reached(loss)
    assert found[first] == used._sequence_nr() > found[last] and set(found) == {first, last}


def test_a_loss_that_reaches_nothing_shared_has_the_gradient_0():
    model, _ = setting()
    own = nn.Parameter(torch.ones(()))
    model.heads["t1"].register_parameter("own", own)
    losses = {"t0": losses_of(model, [regression("t0")], next(batches()))["t0"], "t1": own**2}
    J = jacobian(losses, model)
    assert (J[1] == 0).all() and (J[0] != 0).any()
    PCGrad().backward(losses, model)
    assert own.grad == 2


def test_a_model_without_anything_to_train_is_refused():
    model, tasks = setting()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model is trained"):
        list(train(model, tasks, batches(), steps=1, device="cpu"))


@pytest.mark.parametrize("method", METHODS)
def test_unused_layers_and_heads_without_a_task_get_no_gradient(method):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = mlp(), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    model, tasks = setting(Encoder, {"t0": nn.Linear(8, 1), "t1": nn.Linear(8, 1), "later": nn.Linear(8, 2)})
    go(model, tasks[:2], method=method)
    assert model.encoder.spare.weight.grad is None and model.heads["later"].weight.grad is None
    assert model.encoder.used[0].weight.grad is not None


def test_gradnorm_looks_at_the_last_layer_that_the_losses_reach():
    """Not at the last one that was registered: in the kit's ResNet that one feeds nothing."""

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(16, 8), nn.Linear(6, 16)

        def forward(self, x):
            return self.last(self.first(x).relu())

    model, tasks = setting(Backwards)
    losses = losses_of(model, tasks, next(batches()))
    assert last_shared(losses, list(model.shared_parameters())) is model.encoder.last.weight
    setup = find_case("scenes", encoder="resnet18", scenes=8).setup(batch_size=2, method="GradNorm")
    list(train(*setup.parts, steps=1, device="cpu"))
    names = {id(p): name for name, p in setup.model.encoder.named_parameters()}
    assert names[id(setup.weighting._layers["classify", "detect"])] == "pyramid.layer_blocks.0.0.weight"


def test_gradnorm_lets_a_task_without_a_gradient_starve_no_other():
    model, tasks = setting()
    tasks[1] = Task("t1", lambda o, b: (o * 0).sum(), None, "error")
    method = GradNorm()
    go(model, tasks, batches(60), method, steps=60)
    assert method.w["t0"] == pytest.approx(1) and method.w["t1"] == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_tied_weights_get_both_gradients_or_it_is_said(method):
    model, tasks = setting(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8)), {"t0": nn.Linear(8, 8), "t1": nn.Linear(8, 1)}
    )
    model.heads["t0"].weight = model.encoder[1].weight
    losses = losses_of(model, tasks, next(batches()))
    if METHODS[method]().one_pass(1) is False and getattr(METHODS[method](), "at", "") == "features":
        with pytest.raises(WeightingError, match=r"'t0' uses a shared parameter after the shared features"):
            METHODS[method]().backward(losses, model)
        return
    J = jacobian(losses, model)
    plain = torch.autograd.grad(losses["t0"], model.encoder[1].weight, retain_graph=True)[0]
    start = sum(p.numel() for p in model.encoder[0].parameters())
    assert torch.allclose(J[0, start : start + 64], plain.flatten())
    METHODS[method]().backward(losses, model)


# several maps, several inputs, other modules


class Pyramid(nn.Module):
    """The second map is made of the first."""

    def __init__(self, kind):
        super().__init__()
        self.low, self.high, self.kind = nn.Linear(6, 8), nn.Linear(8, 8), kind

    def forward(self, x):
        low = self.low(x)
        high = self.high(low.relu())
        return {"tuple": (low, high), "list": [low, high], "dict": {"low": low, "high": high}}[self.kind]


def pyramid(kind):
    keys = ("low", "high") if kind == "dict" else (0, 1)
    return setting(lambda: Pyramid(kind), {n: Pick(key, nn.Linear(8, 1)) for n, key in zip(NAMES, keys, strict=True)})


@pytest.mark.parametrize("kind", ["tuple", "list", "dict"])
@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_may_give_several_maps(kind, method):
    model, tasks = pyramid(kind)
    assert len(go(model, tasks, method=method)) == 3


def test_gradients_at_several_maps_are_those_of_the_heads():
    """Each map counts by itself, though one is made of the other; the sum then goes back through both."""
    model, tasks = pyramid("tuple")
    batch = next(batches())
    losses = losses_of(model, tasks, batch)
    low, high = (map_.detach().requires_grad_() for map_ in model.encoder(batch["x"]))
    rows = []
    for task, head in zip(tasks, model.heads.values(), strict=True):
        loss = task.loss(head((low, high)), batch)
        gradients = torch.autograd.grad(loss, [low, high], allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    G = torch.stack(rows) @ torch.stack(rows).T
    seen = []

    class Sum(UPGrad):
        def weigh(self, J, tasks):
            seen.append(J @ J.T)
            return np.ones(len(J))

    Sum(at="features").backward(losses, model)
    assert np.allclose(seen[0], G.double().detach().numpy(), rtol=1e-5)
    plain = torch.autograd.grad(sum(losses_of(model, tasks, batch).values()), list(model.parameters()))
    for p, expected in zip(model.parameters(), plain, strict=True):
        assert torch.allclose(p.grad, expected, atol=1e-6)


def test_a_model_may_read_several_inputs_by_name_or_as_one_dictionary():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 8)

        def forward(self, a, b=None):
            return self.layer(a["a"] + a["b"] if b is None else a + b)

    one, tasks = setting(Two)
    several = SharedEncoderModel(Two(), copy.deepcopy(dict(one.heads.items())), reads=("a", "b"))
    several.load_state_dict(one.state_dict())
    nested = [{"x": {"a": b["x"], "b": b["x"]}, "t0": b["t0"], "t1": b["t1"]} for b in batches()]
    flat = [{"a": b["x"], "b": b["x"], "t0": b["t0"], "t1": b["t1"]} for b in batches()]
    for how in ({}, {"accumulate": 2}):
        first, second = go(one, tasks, nested, **how), go(several, tasks, flat, **how)
        assert first[-1].losses == second[-1].losses
    with pytest.raises(ValueError, match="the model reads 'a', but the batch has 'x'"):
        go(several, tasks, batches())


class Net(nn.Module):
    """One module with two outputs."""

    def __init__(self):
        super().__init__()
        self.trunk, self.a, self.b = mlp(), nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.a(h), self.b(h)


@pytest.mark.parametrize("method", METHODS)
def test_any_module_may_say_what_is_shared_or_leave_it_to_the_losses(method):
    def gradients(how):
        torch.manual_seed(0)
        net, batch = Net(), next(batches())
        outputs = net(batch["x"])
        losses = {n: mse_loss(o[:, 0], batch[n]) for n, o in zip(NAMES, outputs, strict=True)}
        METHODS[method]().backward(losses, net, **how(net))
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    if METHODS[method].__name__ == "MGDAUB":
        with pytest.raises(WeightingError, match="this model has kept none"):
            gradients(lambda net: {})
        return
    torch.manual_seed(0)
    net = Net()
    model = SharedEncoderModel(net.trunk, {"t0": net.a, "t1": net.b}, reads="x")
    METHODS[method]().backward(losses_of(model, [regression(n) for n in NAMES], next(batches())), model)
    expected = torch.cat([p.grad.flatten() for p in net.parameters()])
    found = [lambda net: {}, lambda net: {"shared": net.trunk}, lambda net: {"shared": net.trunk.parameters()}]
    for how in found:
        assert torch.allclose(gradients(how), expected, atol=1e-7)


@pytest.mark.parametrize("method", ["EqualWeights", "PCGrad", "GradNorm"])
def test_a_network_that_gives_all_outputs_trains_as_one_with_heads(method):
    torch.manual_seed(0)
    net = Net()
    whole = SharedEncoderModel(net, {"t0": Pick(0), "t1": Pick(1)}, reads="x", shared=net.trunk)
    apart = copy.deepcopy(SharedEncoderModel(net.trunk, {"t0": net.a, "t1": net.b}, reads="x"))
    tasks = [regression(name) for name in NAMES]
    assert go(whole, tasks, method=method)[-1].losses == go(apart, tasks, method=method)[-1].losses
    assert len(list(copy.deepcopy(whole).shared_parameters())) == 4
    net = Net()
    losses = dict(zip(NAMES, (o.mean() for o in net(next(batches())["x"])), strict=True))
    assert shared_parameters(net, losses) == list(net.trunk.parameters())


@pytest.mark.parametrize("name", ["head.left", "a b", "train", "type", "keys", "names", "é", "~", "x.y~z"])
def test_tasks_may_have_any_name(name, tmp_path):
    model = SharedEncoderModel(mlp(), {name: nn.Linear(8, 1), "other": nn.Linear(8, 1)}, reads="x")
    assert list(model.heads) == [name, "other"] == list(model.heads.keys()) and name in model.heads
    tasks = [regression(name, "t0"), regression("other", "t1")]
    assert set(go(model, tasks)[-1].losses) == {name, "other"}
    again = SharedEncoderModel(mlp(), {name: nn.Linear(8, 1), "other": nn.Linear(8, 1)}, reads="x")
    again.load_state_dict(copy.deepcopy(model).state_dict())
    x = next(batches())["x"]
    assert torch.equal(again(x)[name], model(x)[name])
    del again.heads[name]
    assert list(again.heads) == ["other"]


def test_names_that_look_alike_stay_apart_and_empty_or_double_ones_are_refused():
    names = ("train", "~train", ".train", "~", ".", "..")
    model = SharedEncoderModel(mlp(), {name: nn.Linear(8, 1) for name in names}, reads="x")
    assert len({id(model.heads[name]) for name in names}) == len(names) == len(list(model.heads.items()))
    with pytest.raises(ValueError, match="give each task a name"):
        SharedEncoderModel(mlp(), {"": nn.Linear(8, 1)})
    with pytest.raises(ValueError, match="a task has the name ''"):
        regression("")
    model, _ = setting()
    with pytest.raises(ValueError, match="two tasks have the name 't0'"):
        go(model, [regression("t0"), regression("t0")])


@pytest.mark.parametrize("average", [False, True])
def test_frozen_batch_normalisation_survives_evaluate_and_train(average):
    setup = find_case("scenes", scenes=32).setup(batch_size=8)
    setup.model.train()
    setup.model.encoder.eval()
    statistics = copy.deepcopy(dict(setup.model.encoder.named_buffers()))
    for _ in train(*setup.parts, average=setup.average if average else None, steps=2, device="cpu"):
        evaluate(setup.model, setup.tasks, DigitScenes("val", 8), device="cpu")
        setup.model.eval()  # a caller who forgets to go back
    assert not setup.model.encoder.training and setup.model.heads["classify"].training is False
    for name, value in setup.model.encoder.named_buffers():
        assert torch.equal(value, statistics[name]), name


# batches


def test_a_dataloader_over_tensors_names_its_columns_after_input_and_tasks():
    x = torch.randn(32, 6)
    columns = DataLoader(TensorDataset(x, x[:, 0], x[:, 1]), 8)
    pairs = [(a, {"t0": b, "t1": c}) for a, b, c in columns]
    dictionaries = [{"x": a, "t0": b, "t1": c} for a, b, c in columns]
    found = [go(*setting(), loader)[-1].losses for loader in (columns, pairs, dictionaries)]
    assert found[0] == found[1] == found[2]
    for wrong in ([[x, x]], [x], ["text"]):
        with pytest.raises(DataError, match=r"expected a dictionary of tensors, or a list of the input x and"):
            go(*setting(), wrong)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_is_no_tensor_travels_along(accumulate):
    seen = []

    def loss(o, b):
        seen.append((list(b["file"]), b["meta"]["scale"], len(b["meta"]["id"])))
        return mse_loss(o[:, 0], b["t0"])

    model, _ = setting(heads={"t0": nn.Linear(8, 1)})
    more = {"file": [f"{k}.jpg" for k in range(8)], "meta": {"id": torch.arange(8), "scale": 2.0}}
    task = Task("t0", loss, None, "e", labelled=lambda b: b["t0"] > -9)
    go(model, [task], [batch | more for batch in batches()], steps=1, accumulate=accumulate)
    assert [file for files, _, _ in seen for file in files] == more["file"]
    assert all(scale == 2.0 and number == len(files) for files, scale, number in seen)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_may_hold_one_tasks_targets_only(method):
    def alternating():
        for k, batch in enumerate(batches(6)):
            yield {"x": batch["x"], f"t{k % 2}": batch[f"t{k % 2}"]}

    model, tasks = setting()
    records = go(model, tasks, alternating(), method, steps=6)
    assert [record.tasks for record in records] == [("t0",), ("t1",)] * 3


def test_finding_out_what_a_task_needs_changes_nothing():
    def with_noise():
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 8))

    states = []
    for more in ({}, {"labelled": lambda b: torch.ones(8, dtype=torch.bool)}):
        model, _ = setting(with_noise)
        go(model, [regression(name, **more) for name in NAMES])
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_target_that_never_comes_is_named():
    model, tasks = setting()
    tasks[1] = regression("t1", "typo")
    with pytest.warns(UserWarning, match=r"'t1' has not taken part in any step so far: it needs 'typo'"):
        go(model, tasks)
    with pytest.warns(UserWarning, match="'t1' has not taken part"):
        go(model, tasks, batches(2), steps=5)  # the data end first
    with pytest.raises(DataError, match=r"'t1' asks for 'typo', but the batch has 'x', 't0', 't1'"):
        labelled = Task("t1", tasks[1].loss, None, "e", labelled=lambda b: b["t1"] > -9)
        go(model, [tasks[0], labelled])
    own = Task("t1", tasks[1].loss, None, "e")  # in parts it must be known beforehand who takes part
    with pytest.raises(DataError, match=r"'t1' asks for 'typo'.*Task\(labelled=...\) ask for the same"):
        go(model, [tasks[0], own], accumulate=2)
    forward = Forward(model, [tasks[0], own], Machine(device="cpu"))
    forward.group = Likewise(0, 2)
    with pytest.raises(DataError, match="ask for the same"):
        list(forward(next(batches())))


class Likewise(Group):
    """As if the other processes had the same."""

    def sum(self, tensor):
        return self.size * tensor


def test_a_part_without_a_label_is_not_asked_for_a_loss():
    """A mean over none of its samples would be NaN."""

    def labelled(batch):
        return ~batch["t1"].isnan()

    batch = next(batches())
    batch["t1"] = torch.cat([torch.full((4,), float("nan")), batch["t1"][4:]])
    states = []
    for accumulate in (1, 2):
        model, tasks = setting()
        tasks[1] = Task(
            "t1", lambda o, b: mse_loss(o[labelled(b), 0], b["t1"][labelled(b)]), None, "e", labelled=labelled
        )
        go(model, tasks, [batch], accumulate=accumulate)
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-6), name


class Table(torch.utils.data.Dataset):
    """Rows with a number and a class, some of which are missing."""

    def __len__(self):
        return 30

    def __getitem__(self, k):
        x = torch.randn(6, generator=torch.Generator().manual_seed(k))
        row = {"x": x, "name": f"row {k}", "number": float(x[0])}
        return row | ({"kind": int(x[1] > 0)} if k % 3 else {})


def test_own_data_go_through_loader_and_evaluate():
    class Error:
        def __init__(self):
            self.all = []

        def update(self, output, batch):
            self.all += (output[:, 0] - batch["number"]).abs().tolist()

        def compute(self):
            return {"error": sum(self.all) / len(self.all)}

    number = Task("number", lambda o, b: mse_loss(o[:, 0], b["number"]), Error, "error", higher_is_better=False)
    kind = Task("kind", lambda o, b: classification_loss(o, b, "kind"), None, "a", labelled=lambda b: b["kind"] >= 0)
    model = SharedEncoderModel(mlp(), {"number": nn.Linear(8, 1), "kind": nn.Linear(8, 2)}, reads="x")
    loader = Loader(Table(), 10)
    batch = next(loader)
    torch.manual_seed(0)
    assert batch["name"][0].startswith("row") and -1 in batch["kind"]
    before = evaluate(model, [number, kind], Table(), device="cpu")
    go(model, [number, kind], loader, steps=300)
    after = evaluate(model, [number, kind], Table(), device="cpu")
    assert set(after) == {"number/error"} and after["number/error"] < 0.7 * before["number/error"]
    batches = [collate([Table()[k] for k in range(start, start + 10)]) for start in (0, 10, 20)]
    assert evaluate(model, [number, kind], iter(batches), device="cpu") == pytest.approx(after)
    lists = [[batch["x"], batch["number"], batch["kind"]] for batch in batches]
    for network in (model, MovingAverage(model)):
        assert evaluate(network, [number, kind], iter(lists), device="cpu") == pytest.approx(after)
    rows = TensorDataset(torch.randn(9, 6), torch.randn(9), torch.ones(9).long())
    assert len(go(model, [number, kind], Loader(rows, 3))) == 3


def test_what_is_missing_is_marked():
    samples = [{"a": 1, "b": 2.0, "c": "x"}, {"a": 3, "d": torch.tensor([True])}, {"b": 1.0, "e": {"f": 1}}]
    batch = collate(samples)
    assert batch["a"].tolist() == [1, 3, -1] and batch["c"] == ["x", None, None]
    assert batch["b"].isnan().tolist() == [False, True, False] and batch["d"].tolist() == [[False], [True], [False]]
    assert batch["e"]["f"].tolist() == [-1, -1, 1]
    assert collate([{"a": torch.tensor(200, dtype=torch.uint8)}, {}])["a"].tolist() == [200, -1]
    with pytest.raises(DataError, match="'a' in one batch differ in size"):
        collate([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])
    with pytest.raises(DataError, match="a sample is a str"):
        collate(["text"])


# own loops


@pytest.mark.parametrize("method", METHODS)
def test_two_calls_add_up_in_grad(method):
    one, two = list(batches(2))

    def gradients(groups):
        model, tasks = setting()
        model.train()
        weighting, found = METHODS[method](), []
        for group in groups:
            model.zero_grad()
            for batch in group:
                weighting.backward(losses_of(model, tasks, batch), model)
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        return sum(found)

    together, apart = gradients([[one, two]]), gradients([[one], [two]])
    assert torch.allclose(together, apart, rtol=1e-5, atol=1e-6 * float(apart.abs().max()))


# losses


@pytest.mark.parametrize("method", ["EqualWeights", "Uncertainty", "FAMO", "PCGrad", "GradNorm", "MGDAUB"])
@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, b: mse_loss(o[:, 0], b["t1"], reduction="none"), r"'t1' has the shape \[8\]: expected one number"),
        (lambda o, b: torch.tensor(0.0), "'t1' is a constant that depends on no trained parameter: .* leave it out"),
        (lambda o, b: 0.0, "'t1' is the float 0.0: expected a tensor with a graph"),
        (lambda o, b: o[b["t1"] > 99].mean(), "'t1' is nan: .* a mean over no samples"),
    ],
)
def test_a_loss_that_is_none_is_refused_with_its_task_and_the_mend(method, loss, said):
    model, tasks = setting()
    tasks[1] = Task("t1", loss, None, "e")
    with pytest.raises(TrainingError, match=said):
        go(model, tasks, method=method)


def test_labels_out_of_range_are_named():
    model, tasks = setting(heads={"t0": nn.Linear(8, 1), "t1": nn.Linear(8, 3)})
    labels = [b | {"t1": torch.randint(1, 4, (64,))[:8]} for b in batches(size=8)]
    labels[0]["t1"][0] = 3
    tasks[1] = Task("t1", lambda o, b: classification_loss(o, b, "t1"), None, "e")
    with pytest.raises(DataError, match="the task 't1': 't1' holds the label 3, but there are 3 classes"):
        go(model, tasks, labels)
    tasks[1] = Task("t1", lambda o, b: cross_entropy(o, b["t1"]), None, "e")
    with pytest.raises(DataError, match="the labels of the task 't1' do not fit its output"):
        go(model, tasks, labels)
    with pytest.raises(DataError, match="holds the label -2"):
        classification_loss(torch.zeros(1, 3), {"label": torch.tensor([-2])})


@pytest.mark.parametrize("method", ["Uncertainty", "IMTLL", "GradNorm"])
def test_the_first_negative_loss_is_said_once(method):
    model, tasks = setting()
    tasks[1] = Task("t1", lambda o, b: mse_loss(o[:, 0], b["t1"]) - 3, None, "e")
    with pytest.warns(WeightingWarning, match=rf"'t1' is -\d.*below 0: {method} .*Add a constant") as said:
        go(model, tasks, method=method)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go(*setting(), method=method)


def test_a_hidden_state_from_the_step_before_is_named():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.state = nn.Linear(6, 8), 0

        def forward(self, x):
            self.state = torch.tanh(self.layer(x) + self.state)
            return self.state

    for method in ("EqualWeights", "PCGrad"):
        with pytest.raises(TrainingError, match=r"\(at step 2\): .* detach\(\) what is kept"):
            go(*setting(Stateful), method=method)


# limits and optimisers


@pytest.mark.parametrize("limit", [{"steps": 0}, {"steps": -3}, {"seconds": 0}, {"seconds": float("nan")}])
def test_a_limit_of_0_or_less_is_refused(limit):
    (name,) = limit
    with pytest.raises(ValueError, match=f"{name}=.*: expected a limit above 0"):
        next(train(*setting(), batches(), device="cpu", **limit))


def test_an_optimiser_that_wants_a_closure_is_refused():
    model, tasks = setting()
    with pytest.raises(ValueError, match="LBFGS wants a closure"):
        list(train(model, tasks, batches(), None, torch.optim.LBFGS(model.parameters()), steps=1, device="cpu"))


def test_an_optimiser_of_ones_own_need_not_list_its_parameters():
    model, tasks = setting()

    class Descent:
        """As little as the loop asks for."""

        def __init__(self):
            self.param_groups = [{"lr": 0.1}]

        def zero_grad(self):
            for parameter in model.parameters():
                parameter.grad = None

        @torch.no_grad()
        def step(self):
            for parameter in model.parameters():
                parameter -= self.param_groups[0]["lr"] * parameter.grad

    before = next(model.parameters()).clone()
    list(train(model, tasks, batches(), None, Descent(), steps=2, device="cpu"))
    assert not torch.equal(before, next(model.parameters()))
    other, _ = setting()
    with pytest.raises(ValueError, match="holds no parameter of the model"):
        next(train(model, tasks, batches(), None, torch.optim.SGD(other.parameters(), 0.1), steps=1, device="cpu"))


def test_batch_normalisation_of_a_single_sample_is_refused():
    model, tasks = setting(lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)))
    with pytest.raises(TrainingError, match="batch normalisation got a single sample"):
        go(model, tasks, accumulate=8)


def test_an_unknown_mode_of_compilation_and_an_unknown_device_are_refused_before_the_first_step():
    with pytest.raises(ValueError, match="compile='fast': expected one of default"):
        next(train(*setting(), batches(), steps=1, device="cpu", compile="fast"))
    for device in ("gpu", "cuda:99", "xpu"):
        with pytest.raises(ValueError, match=r"unknown device|no CUDA device|no device|cannot be used here"):
            next(train(*setting(), batches(), steps=1, device=device))


def test_the_default_method_and_optimiser_take_any_model():
    for model in (setting()[0], SharedEncoderModel(nn.Conv2d(4, 8, 3), {"t0": nn.Flatten()}, reads="x")):
        optimizer = MuonAdamW(model)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
        again = MuonAdamW(model)
        again.load_state_dict(optimizer.state_dict())
    assert len(list(train(*setting(), batches(), steps=2, device="cpu"))) == 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_task_that_no_sample_of_a_batch_has_takes_no_part_and_its_head_is_left_alone(accumulate):
    model, tasks = setting()
    tasks[1] = regression("t1", labelled=lambda b: ~b["t1"].isnan())
    batch, asked = next(batches()), []
    model.heads["t1"].register_forward_hook(lambda *_: asked.append("t1"))
    model.heads["t0"].register_forward_hook(lambda *_: asked.append("t0"))
    batch["t1"] = torch.full_like(batch["t1"], float("nan"))
    (record,) = go(model, tasks, [batch], accumulate=accumulate)
    assert set(record.losses) == {"t0"} and asked == ["t0"] * accumulate
    assert model.heads["t1"].weight.grad is None


# found by trying


class Flat(nn.Module):
    """A small network as many write it: `view` between convolutions and the rest."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Dropout(0.2)
        self.rest = nn.Linear(4 * 3 * 3, 8)

    def forward(self, x):
        h = self.drop(self.norm(self.conv(x)))
        return self.rest(h.view(h.size(0), -1))


def test_a_network_that_cannot_live_with_channels_last_trains_all_the_same():
    """And the step at which that shows leaves no trace in drop-out or statistics."""

    def batches_of_images():
        stream = torch.Generator().manual_seed(0)
        for _ in range(4):
            x = torch.randn(6, 3, 8, 8, generator=stream)
            yield {"x": x, "t0": x[:, 0, 0, 0], "t1": x[:, 1, 0, 0]}

    model, tasks = setting(Flat)
    plain = copy.deepcopy(model)
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    limits = {"steps": 4, "schedule": lambda _: 1.0, "clip": None, "device": "cpu"}
    list(train(model, tasks, batches_of_images(), None, optimizer, **limits))
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(plain.parameters(), 0.05)
    for batch in batches_of_images():
        optimizer.zero_grad()
        sum(losses_of(plain, tasks, batch).values()).backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name
    model(torch.randn(2, 3, 8, 8))  # by itself, too
    assert len(go(model, tasks, batches_of_images(), "PCGrad", steps=4)) == 4
    model, asked = setting(Flat)[0], []
    model.heads["t1"].register_forward_hook(lambda *_: asked.append("t1"))
    batch = next(batches_of_images()) | {"t1": torch.full((6,), float("nan"))}
    go(model, [tasks[0], regression("t1", labelled=lambda b: ~b["t1"].isnan())], [batch])
    assert asked == []


def test_what_the_optimiser_does_not_hold_piles_up_nowhere():
    model, tasks = setting()
    optimizer = torch.optim.SGD(model.heads.parameters(), 0.0)
    alone = {}
    for record in train(model, tasks, [next(batches())] * 5, None, optimizer, steps=5, device="cpu", clip=None):
        alone[record.step] = model.encoder[0].weight.grad.clone()
    assert torch.equal(alone[1], alone[5])
    stranger = torch.optim.SGD(copy.deepcopy(model).parameters(), 0.1)
    with pytest.raises(ValueError, match="holds no parameter of the model"):
        list(train(model, tasks, batches(), None, stranger, steps=1, device="cpu"))


@pytest.mark.parametrize("clip", [0, -1, float("nan")])
def test_a_clip_of_0_or_less_is_refused(clip):
    with pytest.raises(ValueError, match=r"clip=.*above 0"):
        next(train(*setting(), batches(), steps=1, device="cpu", clip=clip))


def test_keys_that_only_sound_like_ours_stay_what_they_are():
    boxes = [
        {"image": torch.zeros(3, 4, 4), "boxes": torch.ones(1, 4) * k, "labels": torch.tensor([k])} for k in (1, 2)
    ]
    assert collate(boxes)["boxes"][1].tolist() == [[2.0] * 4] and "box_labels" not in collate(boxes)
    assert collate([{"ignored": True}, {"ignored": False}])["ignored"].tolist() == [True, False]
    assert collate([{"a": None}, {"a": None}])["a"] == [None, None]
    dates = [{"d": np.datetime64("2026-01-01"), "s": np.str_("x"), "n": np.float32(2)}]
    assert collate(dates)["s"] == ["x"] and collate(dates)["n"].tolist() == [2]
    mixed = collate([{"image": torch.zeros(3, 2, 2)}, {"text": "no image"}])
    assert mixed["image"][1].isnan().all() and mixed["text"] == [None, "no image"]


def test_named_tuples_are_named_by_their_fields_and_doubtful_lists_are_refused():
    from collections import namedtuple

    Row = namedtuple("Row", ["x", "t1", "t0"])
    rows = [Row(b["x"], b["t1"], b["t0"]) for b in batches()]
    assert go(*setting(), rows)[-1].losses == go(*setting())[-1].losses
    assert collate([Row(1, 2, 3)])["t0"].tolist() == [3]
    model = SharedEncoderModel(mlp(), {"x": nn.Linear(8, 1)}, reads="x")
    with pytest.raises(DataError, match="'x' is both an input and a target"):
        go(model, [regression("x")], [[torch.randn(8, 6), torch.zeros(8)]])


@pytest.mark.parametrize("method", ["EqualWeights", "PCGrad", "GeometricMean"])
def test_parts_of_any_batch_give_the_update_of_the_whole(method):
    """Something else than a row a sample comes first; lists and arrays hold one entry a sample."""

    def loss(o, b):
        weight = torch.tensor(np.asarray(b["w"]), dtype=o.dtype)
        length = torch.tensor([len(one) for one in b["rows"]], dtype=o.dtype)
        return ((o[:, 0] - b["t0"]) ** 2 * weight * length).mean()

    def change(parts):
        model, tasks = setting()
        before = [p.detach().clone() for p in model.parameters()]
        more = {"w": np.arange(7.0), "rows": [torch.ones(k + 1) for k in range(7)]}
        given = [{"prior": torch.ones(3)} | batch | more for batch in batches(size=7)]
        go(model, [Task("t0", loss, None, "e"), tasks[1]], given, method, steps=1, accumulate=parts)
        return torch.cat([(p.detach() - old).flatten() for p, old in zip(model.parameters(), before, strict=True)])

    whole = change(1)
    for parts in (2, 3, 20):
        assert torch.allclose(change(parts), whole, rtol=1e-4, atol=1e-7)


def test_gradnorm_balances_and_resumes_whatever_tasks_came_first():
    def run(order, stop=None):
        model, tasks = pyramid("tuple")
        method = GradNorm()
        given = [
            {k: v for k, v in batch.items() if k in ("x", *names)}
            for batch, names in zip(batches(12), order, strict=True)
        ]
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        list(
            train(
                model,
                tasks,
                given[: stop or 12],
                method,
                optimizer,
                steps=stop or 12,
                schedule=lambda _: 1.0,
                device="cpu",
            )
        )
        if stop:
            again = GradNorm()
            again.load_state_dict(method.state_dict())
            method = again
            list(train(model, tasks, given[stop:], method, optimizer, steps=12, schedule=lambda _: 1.0, device="cpu"))
        return method.w

    both = [NAMES] * 11
    assert run([("t0",), *both])["t0"] != 1
    assert run([("t0",), *both], stop=4) == run([("t0",), *both])


@pytest.mark.parametrize("method", GRADIENTS)
def test_parameters_of_a_loss_learn_too(method):
    if method == "MGDAUB":
        return
    heat = nn.Parameter(torch.zeros(()))
    model, tasks = setting()
    tasks[0] = Task("t0", lambda o, b: mse_loss(o[:, 0] * heat.exp(), b["t0"]), None, "e")
    losses = losses_of(model, tasks, next(batches()))
    expected = torch.autograd.grad(losses["t0"].log() if method == "DBMTL" else losses["t0"], heat, retain_graph=True)[
        0
    ]
    METHODS[method]().backward(losses, model)
    assert torch.allclose(heat.grad, expected)
    optimizer = torch.optim.SGD([*model.parameters(), heat], 0.1)
    list(train(model, tasks, batches(), METHODS[method](), optimizer, steps=2, device="cpu"))
    assert heat != 0


def test_losses_that_differentiate_look_at_the_mode_or_take_options():
    """A gradient penalty, an auxiliary output in training only, a key that is there at times."""

    def penalty(o, b):
        (slope,) = torch.autograd.grad(o.sum(), b["x"], create_graph=True)
        return slope.square().mean()

    class Aux(nn.Linear):
        def forward(self, h):
            return {"main": super().forward(h), "aux": super().forward(h)} if self.training else super().forward(h)

    def optional(o, b):
        return (mse_loss(o["main"][:, 0], b["t1"], reduction="none") * b.get("w", 1)).mean()

    model = SharedEncoderModel(mlp(), {"t0": nn.Linear(8, 1), "t1": Aux(8, 1)}, reads="x")
    tasks = [Task("t0", penalty, None, "e"), Task("t1", optional, None, "e")]
    given = [
        batch | {"x": batch["x"].requires_grad_()} | ({"w": torch.ones(8)} if k == 0 else {})
        for k, batch in enumerate(batches())
    ]
    assert all(record.tasks == NAMES for record in go(model, tasks, given))


def test_shared_parameters_count_once_and_must_be_the_encoders():
    net = Net()
    outputs = net(next(batches())["x"])
    losses = {n: o.square().mean() for n, o in zip(NAMES, outputs, strict=True)}
    once = jacobian(losses, net, shared=net.trunk)
    assert torch.equal(jacobian(losses, net, shared=[*net.trunk.parameters(), net.trunk[0].weight]), once)
    with pytest.raises(ValueError, match="not a part of the encoder"):
        SharedEncoderModel(net, {"t0": Pick(0)}, shared=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="1 parameters that are not the encoder's"):
        SharedEncoderModel(net, {"t0": Pick(0)}, shared=[nn.Parameter(torch.zeros(1))])
    model = SharedEncoderModel(net, {"t0": Pick(0), "t1": Pick(1)}, reads="x", shared=net.trunk)
    net.trunk[0].requires_grad_(False)
    net.trunk.append(nn.Linear(8, 8))  # such as an adapter
    assert len(list(model.shared_parameters())) == 6
    with pytest.raises(TrainingError, match="share a part of it only"):
        go(model, [regression(n) for n in NAMES], method="MGDAUB")


@pytest.mark.parametrize("method", METHODS)
def test_sparse_embeddings_and_mixed_precision_of_the_parameters(method):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.next = nn.Embedding(20, 8, sparse=True), nn.Linear(8, 8).bfloat16()

        def forward(self, x):
            return self.next(self.embed(x).mean(1).bfloat16()).float()

    model, _ = setting(Words)
    x = torch.randint(0, 20, (8, 3), generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    losses = {name: (outputs[name][:, 0] - k).square().mean() for k, name in enumerate(NAMES)}
    METHODS[method]().backward(losses, model)
    for parameter in model.parameters():
        assert parameter.grad.dtype == parameter.dtype and parameter.grad.shape == parameter.shape


def test_features_may_be_of_any_kind_of_dictionary_or_a_data_class():
    from collections import OrderedDict
    from dataclasses import dataclass

    class Output(OrderedDict):
        @property
        def last(self):
            return self["h"]

    @dataclass
    class Maps:
        h: torch.Tensor

    for made in (lambda h: Output(h=h), Maps):

        class Encoder(nn.Module):
            def __init__(self, made=made):
                super().__init__()
                self.net, self.made = mlp(), made

            def forward(self, x):
                return self.made(self.net(x))

        class Head(nn.Linear):
            def forward(self, features):
                return super().forward(features.last if isinstance(features, Output) else features.h)

        for method in ("EqualWeights", "PCGrad", "MGDAUB"):
            model, tasks = setting(Encoder, {name: Head(8, 1) for name in NAMES})
            assert len(go(model, tasks, method=method)) == 3


def test_evaluate_takes_loaders_and_says_what_it_cannot_score():
    class Typo:
        def update(self, output, batch):
            batch["typo"]

        def compute(self):
            raise AssertionError("nothing was scored")

    model = SharedEncoderModel(mlp(), {"number": nn.Linear(8, 1)}, reads="x")
    with pytest.warns(UserWarning, match="'number' has no score: its metric needs 'typo'"):
        assert evaluate(model, [Task("number", None, Typo, "e")], Table(), device="cpu") == {}

    class Count:
        def __init__(self):
            self.number = 0

        def update(self, output, batch):
            self.number += len(output)

        def compute(self):
            return {"n": self.number}

    def number(data):
        return evaluate(model, [Task("number", None, Count, "n")], data, batch_size=7, device="cpu")["number/n"]

    assert number(Table()) == number(Loader(Table(), 10)) == number(DataLoader(Table(), 4, collate_fn=collate)) == 30

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([collate([Table()[k]]) for k in range(5)])

    assert number(Stream()) == 5


def test_a_transforms_random_numbers_of_any_library_are_part_of_the_seed():
    import random

    def jitter(sample):
        return {"x": sample["x"] + random.random() + np.random.rand(), "number": sample["number"]}

    one, two = Loader(Table(), 4, transform=jitter), Loader(Table(), 4, transform=jitter)
    first = next(one)["x"]
    np.random.rand(3)
    before = random.getstate()
    assert torch.equal(next(two)["x"], first) and random.getstate() == before
