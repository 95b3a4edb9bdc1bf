"""What the explorers with sliders share: a picture and a sentence that follow the sliders."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from mtlkit.lab.front import Shown, script, style
from mtlkit.plots import Picture


class _View(anywidget.AnyWidget):
    """What the browser sees: sliders, a sentence, a picture."""

    _esm, _css = script("sliders/sliders"), style("sliders/sliders")
    sliders: Any = traitlets.List().tag(sync=True)
    points: Any = traitlets.List().tag(sync=True)
    axes: Any = traitlets.List().tag(sync=True)
    values: Any = traitlets.List().tag(sync=True)
    says = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)

    def __repr__(self) -> str:
        return "sliders"


class SliderExplorer(Shown):
    """Sliders over a sentence and a picture. Without a widget, the picture at the first setting stands in its place.

    Args:
        sliders: name → (value, low, high, step); when one is let go, `draw` gives the new picture and sentence.
        powers: names of sliders whose positions are powers of ten of their values; low and high are those, too.
        points: (number, x, y) each, to be clicked in place of moving the first slider to that number.
        axes: what x and y of the points are.
    """

    def __init__(
        self,
        sliders: Mapping[str, tuple[float, float, float, float]],
        powers: tuple[str, ...] = (),
        points: Sequence[Sequence[float]] = (),
        axes: Sequence[str] = ("", ""),
    ) -> None:
        self._names = list(sliders)
        places = [
            {"name": name, "low": low, "high": high, "step": step, "power": name in powers}
            for name, (_, low, high, step) in sliders.items()
        ]
        values = [float(value) for value, *_ in sliders.values()]
        self.widget = _View(sliders=places, values=values, points=[list(one) for one in points], axes=list(axes))
        self._follow()
        self.widget.observe(self._follow, "values")

    def __getitem__(self, name: str) -> float:
        return float(self.widget.values[self._names.index(name)])

    def __setitem__(self, name: str, value: float) -> None:
        """Set a slider, as by hand.

        Raises:
            ValueError: if the value is beyond its ends.
        """
        place = self.widget.sliders[self._names.index(name)]
        at = (math.log10(value) if value > 0 else -math.inf) if place["power"] else value
        if not place["low"] - 1e-9 <= at <= place["high"] + 1e-9:
            raise ValueError(f"{name} is {value}: it is outside the range of its slider")
        self.widget.values = [float(value) if one == name else self[one] for one in self._names]

    def draw(self) -> tuple[Picture, str]:
        """Return the picture at the present setting, and a sentence."""
        raise NotImplementedError

    def _follow(self, _: object = None) -> None:
        self._picture, says = self.draw()
        with self.widget.hold_sync():
            self.widget.says, self.widget.alt, self.widget.image = says, self._picture.alt, self._picture.png()

    @property
    def says(self) -> str:
        """The sentence at the present setting."""
        return str(self.widget.says)

    def picture(self) -> Picture:
        """Return what is seen now as a static picture."""
        return self._picture

    still = picture
