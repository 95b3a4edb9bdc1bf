"""Loaded with `pytest --nbval -p tests.nbval_plugin`: progress bars and warnings of a kernel are not compared.

Jupyter's own files go where they can be written, whatever the home folder is.
"""

import os
import tempfile


def pytest_configure(config):
    os.environ["MTLKIT_PROGRESS"] = ""  # what the learner has solved is no part of a notebook
    if not os.access(os.path.expanduser("~"), os.W_OK):
        folder = tempfile.mkdtemp(prefix="jupyter-")
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            os.environ.setdefault(name, f"{folder}/{name}")


def pytest_collectstart(collector):
    if collector.path is not None and collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
