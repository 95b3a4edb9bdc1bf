"""What all widgets share: their scripts and styles, and how they show themselves in a notebook."""

from pathlib import Path
from typing import Any

from IPython.display import display, publish_display_data

FOLDER = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
# Of a notebook that is opened again: a widget that is gone says "Error displaying widget" below the picture that stays.
QUIET = """<style class="mtl-quiet">
.jp-OutputArea-child:has(.mtl-words) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*)),
.jp-OutputArea-child:has(> .jp-RenderedMarkdown) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*)),
.jp-OutputArea-child:has(.mtl-quiet) { display: none; }
</style>"""


def script(*names: str) -> str:
    """Return a widget's JavaScript, e.g. of "steering/curves" and "steering/live", after what all of them share."""
    return "".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("canvas", *names))


def style(*names: str) -> str:
    """Return a widget's CSS, after what all of them share."""
    return "".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in ("front", *names))


class Shown:
    """Shows itself in a notebook as something that stays, and the widget.

    Where the widget lives, its style hides the output before it. Where it cannot (no kernel any more, no front end,
    an export to HTML, a page on the web), the first output is what the reader sees.

    Attributes:
        widget: with the class `mtl-live`, or something of that class in it.
    """

    widget: Any

    def still(self) -> Any:
        """Return what stays: a picture, or text."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        display(self.still())
        self.show_widget()

    def show_widget(self) -> None:
        """Show the widget alone."""
        view = self.widget._repr_mimebundle_()
        data = view[0] if isinstance(view, tuple) else view
        publish_display_data({WIDGET: data[WIDGET]})
        publish_display_data({"text/html": QUIET})
