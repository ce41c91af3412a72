"""The papers' ball B of parameters: membership, exit times, and reports of leaving it."""

import warnings

import numpy as np
import pymanopt
import pytest
from scipy.optimize import brentq
from zoo import Symbolic, network, saturation, sphere, targets

import gnmanifold as gn

W0 = np.array([1.1, 0.4])


def manifolds(**options):
    options = {"center": W0, "radius": 0.5, **options}
    for make in (gn.OutputManifold, gn.ParameterManifold):
        manifold = make(sphere(), **options)
        yield manifold, manifold.point(W0)


def test_membership_is_by_the_distance_of_the_parameters():
    for manifold, point in manifolds():
        assert manifold.contains(point)
        assert manifold.contains(manifold.point(W0 + np.array([0.3, 0.39])))
        assert not manifold.contains(manifold.point(W0 + np.array([0.3, 0.41])))
    for make in (gn.OutputManifold, gn.ParameterManifold):
        everywhere = make(sphere())
        assert everywhere.contains(everywhere.point([40.0, 3.0]))


def test_centre_defaults_to_the_initial_parameters():
    model = network()
    manifold = gn.OutputManifold(model, radius=2.0)
    np.testing.assert_array_equal(manifold.ball.center, model.initial_parameters)


def test_exit_time_of_a_meridian():
    """Along a meridian of a sphere of radius 2 the colatitude grows at half the speed."""
    for manifold, point in manifolds():
        u = manifold.tangent(manifold.at(point), np.array([1.0, 0.0]))
        assert manifold.norm(point, u) == pytest.approx(2)
        assert manifold.exit_time(point, u) == pytest.approx(0.5, rel=1e-9)
        assert manifold.exit_time(point, 0.1 * u) == np.inf
        assert manifold.exit_time(point, 0.1 * u, until=6.0) == pytest.approx(5.0, rel=1e-9)


def test_exit_time_is_where_an_oblique_geodesic_crosses():
    for manifold, point in manifolds():
        u = manifold.tangent(manifold.at(point), np.array([0.5, 0.9]))
        time = manifold.exit_time(point, u)
        free = type(manifold)(sphere())
        end = free.geodesic(free.point(W0), u).parameters(time)
        assert np.linalg.norm(end - W0) == pytest.approx(0.5, rel=1e-9)


def test_geodesics_end_at_the_ball():
    for manifold, point in manifolds():
        u = manifold.tangent(manifold.at(point), np.array([1.0, 0.0]))
        manifold.exp(point, 0.4 * u)
        with pytest.raises(gn.GeodesicError, match=r"leaves the ball of radius 0\.5 at time 0\.5"):
            manifold.exp(point, u)
        geodesic = manifold.geodesic(point, u)
        for t in (0.4, -0.3):
            geodesic(t)
        for t in (0.6, -0.7):
            with pytest.raises(gn.GeodesicError, match="leaves the ball"):
                geodesic(t)


def test_sampling_a_geodesic_in_a_ball_looks_for_its_exit_once():
    for manifold, point in manifolds():
        u = manifold.tangent(manifold.at(point), np.array([1.0, 0.0]))
        geodesic = manifold.geodesic(point, u)
        before = manifold.evaluations.integrations
        for t in np.linspace(0, 0.49, 20):
            geodesic(t)
        assert manifold.evaluations.integrations - before == 2  # the geodesic, and its exit
        with pytest.raises(gn.GeodesicError, match="leaves the ball"):
            geodesic(0.51)


def test_excursions_out_of_the_ball_and_back_are_seen():
    """A straight line of the plane in skew coordinates, a parabola of the parameters."""
    plane = Symbolic(lambda x, y: (x, y - x**2), 2)
    w, a = np.array([-1.0, 0.0]), np.array([2.0, -4.0])
    for radius in (1.2, np.sqrt(2.25 - 0.1)):
        manifold = gn.ParameterManifold(plane, center=[0.0, 0.5], radius=radius)

        def excess(t, radius=radius):
            x, y = -1 + 2 * t, (-1 + 2 * t) ** 2 - 1
            return x**2 + (y - 0.5) ** 2 - radius**2

        times = np.linspace(0, 1, 10001)
        first = times[np.argmax([excess(t) > 0 for t in times])]
        exact = brentq(excess, first - 1e-4, first)
        assert manifold.exit_time(w, a) == pytest.approx(exact, rel=1e-8)
        with pytest.raises(gn.GeodesicError, match="leaves the ball"):
            manifold.exp(w, a)
        with pytest.raises(gn.GeodesicError, match="leaves the ball"):
            manifold.geodesic(w, a)(1.0)
    wide = gn.ParameterManifold(plane, center=[0.0, 0.5], radius=1.51)
    assert wide.exit_time(w, a) == np.inf


def test_random_points_lie_in_the_ball():
    for make in (gn.OutputManifold, gn.ParameterManifold):
        manifold = make(network(), radius=0.1)
        assert all(manifold.contains(manifold.random_point()) for _ in range(5))


@pytest.mark.parametrize("retraction", ["first_order", "second_order", "exponential"])
def test_retractions_report_that_they_leave(retraction):
    for manifold, point in manifolds(retraction=retraction):
        u = manifold.tangent(manifold.at(point), np.array([1.0, 0.0]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            manifold.retraction(point, 0.4 * u)
        with pytest.warns(gn.LeftBallWarning, match=r"radius 0.5: \|w - center\| = 1"):
            outside = manifold.retraction(point, u)
        assert not manifold.contains(outside)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            manifold.retraction(point, u)
        assert manifold.departures == 2


def test_a_run_says_that_it_left():
    model = saturation()
    start = np.array([3.0, 1.2, 0.5])
    loss = gn.SquaredError(targets(model, start + 0.5))
    manifold = gn.OutputManifold(model, center=start, radius=0.2)
    problem = gn.CompositeProblem(manifold, loss)
    with pytest.warns(gn.LeftBallWarning):
        result = pymanopt.optimizers.SteepestDescent(verbosity=0).run(
            problem, initial_point=manifold.point(start)
        )
    assert manifold.departures > 0
    assert not manifold.contains(result.point)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": None}, "needs its radius"),
        ({"center": None}, "needs its centre"),
        ({"radius": -1.0}, "radius must be"),
        ({"center": [1.0]}, "center must have shape"),
        ({"center": [np.nan, 0.0]}, "center must be finite"),
    ],
)
def test_bad_balls_are_refused(options, message):
    with pytest.raises(gn.ArgumentError, match=message):
        list(manifolds(**options))


def test_exit_times_need_a_ball_around_the_point():
    for manifold, _ in manifolds():
        outside = manifold.point(W0 + 1.0)
        with pytest.raises(gn.ArgumentError, match="outside the ball already"):
            manifold.exit_time(outside, manifold.zero_vector(outside))
    free = gn.ParameterManifold(sphere())
    with pytest.raises(gn.ArgumentError, match="no ball to leave"):
        free.exit_time(W0, [0.1, 0.0])
