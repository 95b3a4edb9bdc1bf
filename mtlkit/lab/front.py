"""The scripts and styles of the widgets, as the browser gets them."""

from pathlib import Path

FOLDER = Path(__file__).parent


def script(*names: str) -> str:
    """Return a widget's JavaScript, e.g. of "live/drawing" and "live/live", after what all of them share."""
    return "".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("canvas", *names))


def style(name: str) -> str:
    """Return a widget's CSS."""
    return (FOLDER / f"{name}.css").read_text(encoding="utf-8")
