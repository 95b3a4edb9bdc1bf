"""The scripts and styles of the widgets, as the browser gets them."""

from pathlib import Path

FOLDER = Path(__file__).parent


def script(name: str) -> str:
    """Return a widget's JavaScript, after what all of them share."""
    return (FOLDER / "canvas.js").read_text() + (FOLDER / f"{name}.js").read_text()


def style(name: str) -> str:
    """Return a widget's CSS."""
    return (FOLDER / f"{name}.css").read_text()
