"""A widget that shows what sharing an encoder saves."""

from mtlkit import plots
from mtlkit.lab.sliders.base import SliderExplorer

TASKS, ENCODER, HEAD = "number of tasks", "encoder, thousands", "each head, thousands"


class SharingExplorer(SliderExplorer):
    """Sliders for the number of tasks and the sizes of encoder and heads; bars of what must be stored."""

    def __init__(self, tasks: int = 2, encoder: int = 181, head: int = 40) -> None:
        super().__init__({TASKS: (tasks, 1, 10, 1), ENCODER: (encoder, 1, 1000, 1), HEAD: (head, 1, 1000, 1)})

    @property
    def ratio(self) -> float:
        """Parameters of the joint model as a fraction of those of separate ones."""
        heads = self[TASKS] * self[HEAD]
        return (self[ENCODER] + heads) / (self[TASKS] * self[ENCODER] + heads)

    def draw(self) -> tuple[plots.Picture, str]:
        """Return bars of the parameters, and their ratio."""
        K, encoder, head = int(self[TASKS]), self[ENCODER], self[HEAD]
        groups = {
            "one joint network": {"encoder": encoder, "heads": K * head},
            f"{K} separate networks": {"encoder": K * encoder, "heads": K * head},
        }
        says = f"the joint network has {100 * self.ratio:.0f} % of the parameters of the separate networks"
        return plots.bars(groups, ylabel="parameters, thousands", top=None), says
