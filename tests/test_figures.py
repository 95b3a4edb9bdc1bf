"""The pictures of README and pages: none is stale, all can be read, light or dark."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlkit.upkeep.figures import FRAME, drawn
from mtlkit.upkeep.house import needed, rooms

FIGURES = Path(__file__).parents[1] / "figures"


@pytest.mark.parametrize("name", drawn(FIGURES))
def test_a_picture_is_what_code_and_numbers_draw_today(name):
    fresh = io.BytesIO()
    drawn(FIGURES)[name]().savefig(fresh, dpi=100)
    new, old = (np.asarray(Image.open(file).convert("RGB"), float) for file in (fresh, FIGURES / name))
    assert new.shape == old.shape, "run `make figures`"
    assert abs(new - old).mean() < 1, "run `make figures`"  # of 255: other machines smooth letters otherwise


def test_a_stale_picture_would_be_noticed():
    """A tenth of a picture painted over is more than the tolerance."""
    old = np.asarray(Image.open(FIGURES / "scenes.png").convert("RGB"), float)
    changed = old.copy()
    changed[: len(changed) // 10] = 255
    assert abs(changed - old).mean() > 1


def test_every_picture_has_its_source():
    photographs = {"lab.gif", "lab.png", "lab_phone.png"}  # of the lab in a browser
    assert {file.name for file in FIGURES.glob("*.[pg][ni][gf]")} - {"demo.png"} == {*drawn(FIGURES), *photographs}


@pytest.mark.parametrize("file", sorted(FIGURES.glob("*.png")), ids=lambda file: file.name)
def test_no_picture_lets_a_dark_page_shine_through(file):
    alpha = np.asarray(Image.open(file).convert("RGBA"))[..., 3]
    assert alpha.min() == 255


def test_the_lab_moves_and_is_light():
    assert (FIGURES / "lab.gif").stat().st_size < 1_500_000
    with Image.open(FIGURES / "lab.gif") as picture:
        assert picture.n_frames >= 20 and picture.width == FRAME[0]
        first = np.asarray(picture.convert("RGB"), float)
        picture.seek(picture.n_frames - 1)
        assert abs(np.asarray(picture.convert("RGB"), float) - first).mean() > 2


def test_an_arrow_of_the_house_is_an_import_that_follows_from_no_other():
    assert needed({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == {"a": set(), "b": {"a"}, "c": {"b"}}
    assert "data" in rooms()["model"] and "lab" not in rooms()["training"]
