"""What autograd's graph tells: which parameters a loss depends on, and which of them the tasks share."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mtlkit.machine import tensors_of
from mtlkit.weighting.checks import WeightingError

Shared = Iterable[nn.Parameter] | nn.Module | None


def reached(loss: Tensor, until: Sequence[Tensor] = ()) -> dict[Tensor, int]:
    """Return parameter → number of the operation that used it last, for all parameters that `loss` depends on.

    Args:
        loss: has a graph.
        until: tensors behind which nothing is looked for.
    """
    if loss.grad_fn is None:
        return {loss: 0}
    ends = {tensor.grad_fn for tensor in until}
    found: dict[Tensor, int] = {}
    seen, waiting = {loss.grad_fn}, [loss.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        for before, _ in node.next_functions:
            if hasattr(before, "variable"):
                found[before.variable] = max(found.get(before.variable, 0), node._sequence_nr())
            elif before is not None and before not in seen and before not in ends:
                seen.add(before)
                waiting.append(before)
    return found


def shared_parameters(model: Any, losses: Any, shared: Shared = None) -> list[nn.Parameter]:
    """Return the parameters that the tasks share and that are trained.

    Args:
        model: has a method `shared_parameters`; without it they are those that more than one of the `losses` reach.
        losses: task → loss.
        shared: the parameters themselves, or the module that holds them.
    """
    if shared is not None:
        chosen = list(shared.parameters() if isinstance(shared, nn.Module) else shared)
    elif hasattr(model, "shared_parameters"):
        chosen = list(model.shared_parameters())
    else:
        if not isinstance(losses, Mapping):
            raise WeightingError(
                f"{type(model).__name__} does not say which parameters its tasks share: give it a method "
                "shared_parameters(), or pass shared=..."
            )
        counts = Counter(parameter for loss in losses.values() for parameter in reached(loss))
        least = min(2, len(losses))  # of one loss alone: all that it reaches
        chosen = [parameter for parameter in model.parameters() if counts[parameter] >= least]
    return [parameter for parameter in dict.fromkeys(chosen) if parameter.requires_grad]


def last_shared(losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter]) -> nn.Parameter | None:
    """Return the weights of the last layer that the tasks share, in the order of the forward pass.

    Of what most of the losses reach, matrices and kernels come before vectors; `None` if no loss reaches any.
    """
    uses = [reached(loss) for loss in losses.values()]
    number = Counter(parameter for use in uses for parameter in use)
    order = {parameter: max(use.get(parameter, 0) for use in uses) for parameter in shared if number[parameter]}
    return max(reversed(order), key=lambda p: (number[p], p.ndim > 1, order[p]), default=None)


def feature_tensors(model: Any, method: str) -> list[Tensor]:
    """Return the shared features of the last forward pass that have a graph, whatever they are packed in.

    Raises:
        WeightingError: if `model` keeps none.
    """
    features = getattr(model, "features", None)
    if features is None:
        raise WeightingError(
            f"{method} takes gradients at the shared features, and this model has kept none: build it as a "
            "SharedEncoderModel and let it run in training mode, or take a method at='parameters'"
        )
    if getattr(model, "shares_a_part", False):
        raise WeightingError(
            f"{method} takes gradients at what the encoder gives, but the tasks share a part of it only (shared=...): "
            "take a method at='parameters', or an encoder that is shared as a whole"
        )
    return [tensor for tensor in tensors_of(features) if tensor.requires_grad]
