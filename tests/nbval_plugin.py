"""Loaded with `pytest --nbval -p tests.nbval_plugin`: progress bars and warnings of a kernel are not compared."""


def pytest_collectstart(collector):
    if collector.path is not None and collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
