"""The names from before there were cases, for scripts that use them. New scripts use `mtlkit.cases`."""

from collections.abc import Mapping
from typing import Any

from mtlkit import cases
from mtlkit.machine import ALONE, Group


class Recipe:
    """A case with its knobs, and how it is trained: `Recipe("voc:FOLDER", size=64)`."""

    def __init__(
        self,
        data: str = "scenes",
        *,
        seed: int = 0,
        batch_size: int | None = None,
        method: str = "StaticWeights",
        **knobs: Any,
    ) -> None:
        self.case, self.seed = cases.find_case(data, **knobs), seed
        self.batch_size, self.method = batch_size, method

    @classmethod
    def for_data(cls, data: str, **changes: Any) -> "Recipe":
        """Return the recipe of a kind of data, with what is not `None` of `changes`."""
        return cls(data, **{name: value for name, value in changes.items() if value is not None})

    def open(self, split: str) -> Any:
        """Return the data set of a split."""
        return self.case.open(split, self.seed)


def Case(
    recipe: Recipe, weights: Mapping[str, float] | None = None, train_set: Any = None, group: Group = ALONE
) -> cases.Setup:
    """Return what a training run of a recipe needs."""
    return recipe.case.setup(
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        method=recipe.method,
        weights=weights,
        train_set=train_set,
        group=group,
    )
