import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["MTLKIT_PROGRESS"] = ""  # tests are not the learner's progress


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real test data, which lies beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real test data (../shared/data) is not on this machine")
    return folder


@pytest.fixture(autouse=True)
def _fresh_random_stream() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lab():
    """A small live lab; nothing of it is left afterwards."""
    from test_lab import SMALL, LossWeightingLab, trainers

    made = LossWeightingLab("test", **SMALL)
    yield made
    made.close()
    assert not trainers()


@pytest.fixture
def browser(lab):
    """What stands in for the view of `lab`."""
    from test_lab import Browser

    return Browser(lab)
