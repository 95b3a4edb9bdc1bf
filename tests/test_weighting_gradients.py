"""Where the gradients are taken, and how they come back as `.grad`."""

import copy

import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data import DigitScenes, Loader
from mtlkit.tasks import Task
from mtlkit.tasks.metrics import delta_m
from mtlkit.training import TrainingError, train
from mtlkit.weighting import MGDA, AlignedMTL, EqualWeights, PCGrad, UPGrad, WeightingError, conflict, jacobian


class Sum(UPGrad):
    """d = Σ g_i by way of the Jacobian: must equal a plain sum of losses."""

    def weigh(self, G, tasks):
        import numpy as np

        return np.ones(len(G))


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 32)


def setting(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    setup.model.train().to(memory_format=torch.channels_last)
    batch = next(Loader(scenes, 8))
    outputs = setup.model(batch["image"])
    return setup.model, {task.name: task.loss(outputs[task.name], batch) for task in setup.tasks}


@pytest.mark.parametrize("at", ["parameters", "features"])
def test_the_sum_of_the_gradients_is_the_gradient_of_the_sum(scenes, at):
    gradients = []
    for method in (Sum(at=at), EqualWeights()):
        model, losses = setting(scenes)
        method.backward(losses, model)
        for p in model.parameters():
            assert p.grad.stride() == p.stride()  # the optimiser's views rely on it
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4 * float(gradients[1].abs().max()))


def test_the_jacobian_has_one_row_a_task_and_leaves_the_graph(scenes):
    model, losses = setting(scenes)
    J = jacobian(losses, model)
    assert J.shape == (2, sum(p.numel() for p in model.shared_parameters()))
    parameters = list(model.shared_parameters())
    expected = torch.autograd.grad(losses["detect"], parameters)
    row = torch.cat([g.as_strided((g.numel(),), (1,)) for g in expected])
    assert torch.allclose(J[1], row, rtol=1e-4, atol=1e-5)


def test_of_a_model_that_does_not_say_what_is_shared_it_is_what_two_losses_reach():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    first, last = model(torch.randn(4, 3)).square().mean(0)
    J = jacobian({"first": first, "last": last, "early": model[0].weight.sum()}, model)
    assert J.shape == (3, sum(p.numel() for p in model.parameters()))
    assert torch.equal(J[2], torch.tensor([1.0] * 6 + [0.0] * 8))
    model.requires_grad_(False)
    x = torch.ones(2, requires_grad=True)
    assert jacobian({"first": x[0], "last": x[1]}, model).shape == (2, 0)


def test_heads_get_their_own_plain_gradients(scenes):
    model, losses = setting(scenes)
    PCGrad().backward(losses, model)
    got = [p.grad.clone() for p in model.task_parameters("detect")]
    model, losses = setting(scenes)
    expected = torch.autograd.grad(losses["detect"], list(model.task_parameters("detect")))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(got, expected, strict=True))


def test_feature_gradients_give_the_weights_of_the_upper_bound(scenes):
    model, losses = setting(scenes)
    rows = [torch.autograd.grad(loss, model.features, retain_graph=True)[0].flatten() for loss in losses.values()]
    expected = MGDA()
    expected.combine(torch.stack(rows), list(losses))
    method = MGDA(at="features")
    method.backward(losses, model)
    assert method.weights == pytest.approx(expected.weights, abs=1e-6)


def test_a_model_can_be_copied_after_a_step(scenes):
    model, losses = setting(scenes)
    AlignedMTL(at="features").backward(losses, model)
    assert copy.deepcopy(model).features is None


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="'heads': expected 'parameters' or 'features'"):
        MGDA(at="heads")


def test_training_says_at_which_step_and_task_a_gradient_broke(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)

    def broken(logits, batch):  # a finite loss with an infinite slope: the square root at 0
        return (logits - logits.detach()).abs().sum().sqrt()

    bad = Task("classify", broken, setup.tasks[0].metric, "accuracy")
    for method in (EqualWeights(), PCGrad()):
        with pytest.raises(TrainingError, match=r"gradient.*'classify'.*at step 1"):
            next(train(setup.model, [bad, setup.tasks[1]], setup.loader, method, steps=1, device="cpu"))


def test_conflict_measures_angle_size_and_dominance():
    found = conflict(torch.tensor([[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0], [0.0, 0.0]]))
    assert torch.allclose(found.norms, torch.tensor([5.0, 10.0, 5.0, 0.0], dtype=torch.double))
    assert found.cosines[0, 1] == -1 and found.cosines[0, 2] == 0 and found.cosines[3, 0] == 0
    assert found.dominance[1, 0] == 2 and found.dominance[0, 1] == 0.5
    assert conflict(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).mean_cosine == pytest.approx(0.5**0.5)
    assert conflict(torch.ones(1, 3)).mean_cosine != conflict(torch.ones(1, 3)).mean_cosine  # NaN


def test_delta_m_is_positive_where_joint_training_is_better():
    alone = {"accuracy": 0.5, "error": 0.2}
    assert delta_m({"accuracy": 0.55, "error": 0.2}, alone, ["error"]) == pytest.approx(5)
    assert delta_m({"accuracy": 0.5, "error": 0.25}, alone, ["error"]) == pytest.approx(-12.5)
    assert delta_m({"r2": -0.5}, {"r2": -1.0}) == pytest.approx(50)  # better, also below 0
    with pytest.raises(ValueError, match="lower_is_better has 'eror'"):
        delta_m({"error": 0.3}, {"error": 0.2}, ["eror"])
    assert delta_m({"error": 0.3}, {"error": 0.2}, "error") == pytest.approx(-50)
    with pytest.raises(ValueError, match="there is no score"):
        delta_m({}, {})
    with pytest.raises(ValueError, match="baseline of 'a' is 0"):
        delta_m({"a": 1.0}, {"a": 0.0})
    with pytest.raises(ValueError, match="cannot be compared with"):
        delta_m({"a": 1.0}, {"b": 1.0})


def test_no_task_no_answer():
    with pytest.raises(WeightingError, match="no task"):
        PCGrad().backward({}, torch.nn.Linear(1, 1))
    with pytest.raises(WeightingError, match="no task"):
        EqualWeights().backward({}, torch.nn.Linear(1, 1))
