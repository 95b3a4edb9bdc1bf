import numpy as np
import pytest

from mtlkit.lab import GradientExplorer, LandscapeExplorer
from mtlkit.lab.landscape.landscape import Landscape
from mtlkit.weighting import MGDA, NashMTL, StaticWeights


def test_the_jacobian_is_the_slope_of_the_losses():
    place, theta = Landscape(), np.array([0.3, -1.2])
    for k, move in enumerate(1e-6 * np.eye(2)):
        slope = (place.losses(theta + move) - place.losses(theta - move)) / 2e-6
        assert slope == pytest.approx(place.jacobian(theta)[:, k], rel=1e-6)


def test_on_the_pareto_set_the_gradients_oppose_each_other():
    place = Landscape()
    for point in place.pareto()[1:-1]:
        a, b = place.jacobian(point)
        assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) == pytest.approx(-1, abs=1e-6)


def test_the_weights_alone_decide_where_the_weighted_sum_ends():
    place = Landscape()
    ends = [place.path(StaticWeights(), np.array(start))[-1] for start in ((-0.5, 1.8), (1.0, -2.0), (-2.0, 1.0))]
    assert np.ptp(ends, axis=0).max() < 0.05
    short_of_b = place.path(MGDA(), np.array([-0.5, 1.8]))[-1]
    assert place.losses(short_of_b)[1] < 0.01 < place.losses(short_of_b)[0]  # the short gradient is heard


def test_every_start_can_be_followed():
    place = Landscape()
    for start in np.random.default_rng(0).uniform(place.extent[::2], place.extent[1::2], (60, 2)):
        assert np.isfinite(place.path(NashMTL(), start)).all()


def test_weights_and_start_redraw_the_paths_and_leave_a_picture():
    explorer = LandscapeExplorer(("PCGrad",))
    before = bytes(explorer.widget.paths)
    explorer.weights = {"A": 0.01}
    assert explorer.weights == {"A": 0.01, "B": 1.0} and explorer.widget.paths != before
    explorer.widget.start = [1.0, 1.0]  # as a click does
    paths = explorer.paths()
    assert list(paths) == ["weighted sum", "PCGrad"]
    assert all(path[0].tolist() == [1.0, 1.0] for path in paths.values())
    sent = np.frombuffer(explorer.widget.paths, np.float32).reshape(2, -1, 2)
    assert sent == pytest.approx(np.stack(list(paths.values())), abs=1e-5)
    data, metadata = explorer.still()._repr_mimebundle_()
    assert {"image/png", "text/plain"} <= data.keys()
    assert "PCGrad" in metadata["image/png"]["alt"]
    with pytest.raises(ValueError, match="'A' is -1"):
        explorer.weights = {"A": -1}


def test_the_gradient_explorer_shows_who_is_hurt():
    explorer = GradientExplorer(angle=120.0, ratio=3.0)
    J = explorer.jacobian().numpy()
    assert np.allclose(np.linalg.norm(J, axis=1), [1, 3]) and np.isclose(J[0] @ J[1], 3 * np.cos(2 * np.pi / 3))
    assert J[0] @ explorer.directions()["sum"] < 0 < J[0] @ explorer.directions()["PCGrad"]
    assert "sum hurts A" in explorer.picture().alt
    explorer.widget.angle = 60.0
    assert np.allclose(explorer.widget.directions[0], explorer.directions()["PCGrad"])
    assert "None hurts a task" in explorer.picture().alt
    with pytest.raises(ValueError, match="angle"):
        GradientExplorer(angle=200)
    data, _ = explorer.still()._repr_mimebundle_()
    assert {"image/png", "text/plain"} <= data.keys()


def ends_apart(w):
    """Return how far apart the ends of the weighted sum's path lie, from starts all over the landscape."""
    landscape = Landscape()
    left, right, bottom, top = landscape.extent
    starts = [np.array([x, y]) for x in np.linspace(left, right, 7) for y in np.linspace(bottom, top, 7)]
    ends = np.array([landscape.path(StaticWeights({"A": w}), start)[-1] for start in starts])
    return np.linalg.norm(ends[:, None] - ends, axis=-1).max()


def test_the_end_of_the_weighted_sum_depends_on_the_weights_only_once_it_arrives():
    """What notebook 02 says of the black path; how far apart at w_A = 0.01 is in test_numbers.py."""
    assert all(ends_apart(w) < 0.05 for w in (0.1, 1.0, 10.0))
