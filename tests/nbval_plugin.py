"""Loaded with `pytest --nbval -p tests.nbval_plugin`: how outputs of notebooks are compared.

Progress bars and warnings of a kernel are not. What a short training comes to depends on the kind of processor, as sums
are rounded in another order: decimals and percentages may differ as `near` says. In a cell with the tag "trained"
numbers hang on a single step or a few samples, and only the words are compared. Pictures are not compared, nor what
they are in words. Everything else must be the same.
Jupyter's own files go where they can be written, whatever the home folder is.
"""

import os
import re
import tempfile

from nbval import plugin

NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?: ?%)?")


def near(ref, test, trained=False):
    """Return whether two texts are the same but for numbers that are near each other."""
    if NUMBER.sub("N", ref) != NUMBER.sub("N", test):
        return False
    return trained or all(_alike(a, b) for a, b in zip(NUMBER.findall(ref), NUMBER.findall(test), strict=True))


def _alike(a, b):
    if a == b:
        return True
    x, y = (float(one.replace(",", "").rstrip("% ")) for one in (a, b))
    part = 0.25 * max(abs(x), abs(y))
    if "." in a and "." in b:
        return abs(x - y) <= max(0.15, part)
    return "%" in a and abs(x - y) <= max(6, part)


def _is_picture(output):
    """Return whether an output is a picture, or the words below one: they say what is seen, which no one compares."""
    data = output.get("data", {})
    return "image/png" in data or "mtl-words" in data.get("text/html", "")


def _compare(self, test, ref, skip_compare=None, exactly=plugin.IPyNbCell.compare_outputs):
    """Compare as nbval does, after what is near enough was made the same."""
    trained = "trained" in self.cell.metadata.get("tags", [])
    for one, other in zip(test, ref, strict=False):
        if _is_picture(one) and _is_picture(other):
            one["data"] = dict(other["data"])
        for new, old in ((one, other), (one.get("data", {}), other.get("data", {}))):
            for key in new.keys() & old.keys() & {"text", "text/plain"}:
                if near(old[key], new[key], trained):
                    new[key] = old[key]
    return exactly(self, test, ref, skip_compare)


def pytest_configure(config):
    plugin.IPyNbCell.compare_outputs = _compare
    os.environ["MTLKIT_PROGRESS"] = ""  # what the learner has solved is no part of a notebook
    if not os.access(os.path.expanduser("~"), os.W_OK):
        folder = tempfile.mkdtemp(prefix="jupyter-")
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            os.environ.setdefault(name, f"{folder}/{name}")


def pytest_collectstart(collector):
    if collector.path is not None and collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
