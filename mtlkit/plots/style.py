"""How every static picture looks, and how it shows itself in a notebook."""

import io
from base64 import b64encode
from typing import Any
from uuid import uuid4

from IPython.display import publish_display_data
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from mtlkit.plots.words import folded

# Okabe, Ito: eight colours that people with any colour vision tell apart
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
LINES: Any = (
    (BLUE, "-"),
    (RED, "--"),
    (GREEN, "-."),
    (PINK, ":"),
    (ORANGE, (0, (6, 2))),
    (SKY, (0, (1, 1))),
)
HATCHES = ("", "//", "..", "xx", "--", "\\\\")
LARGE = 100_000  # bytes of a PNG
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


class Picture(Figure):
    """A figure with a text that says what it shows, for those who cannot see it.

    In a notebook the text stands below it, folded, as an output of its own: neither JupyterLab nor nbconvert's standard
    template nor myst-nb reads out the text that comes with an image.

    Attributes:
        alt: what it shows, numbers included; the first line says what it is.
    """

    alt = ""

    def png(self) -> bytes:
        """Return the picture as a PNG file; a large one with fewer colours, so that notebooks stay small."""
        buffer = io.BytesIO()
        with rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=80)
        if buffer.tell() > LARGE:
            image, buffer = Image.open(buffer).convert("RGB"), io.BytesIO()
            image.quantize(64).save(buffer, format="png", optimize=True)
        return buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        png = b64encode(self.png()).decode()
        return {"image/png": png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}

    def outputs(self) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Return data and metadata of what stands in a notebook: the picture, and below it its words."""
        return [self._repr_mimebundle_(), ({"text/html": folded(self.alt)}, {})]

    def _ipython_display_(self) -> None:
        for data, metadata in self.outputs():
            publish_display_data(data, metadata)


class Kept:
    """A picture in a cell's output that can be exchanged for another."""

    def __init__(self, picture: Picture) -> None:
        self._id = uuid4().hex
        self._publish(picture, update=False)

    def update(self, picture: Picture) -> None:
        """Show another one."""
        self._publish(picture, update=True)

    def _publish(self, picture: Picture, update: bool) -> None:
        for part, (data, metadata) in enumerate(picture.outputs()):
            transient = {"display_id": f"{self._id}-{part}"}
            publish_display_data(data, metadata, transient=transient, update=update)
