"""Convexity of a cost on f(B): the terms of its Hessian, along curves and over regions."""

import autograd.numpy as anp
import numpy as np
import pytest
from zoo import linear, network, sphere, targets

import gnmanifold as gn
from gnmanifold.diagnostics.convexity import (
    along_geodesic,
    along_path,
    extreme_eigenvalues,
    hessian_terms,
)
from gnmanifold.diagnostics.region import region_convexity


def posed(model, y, metric=None):
    return gn.CompositeProblem(gn.ParameterManifold(model, metric), gn.SquaredError(y))


@pytest.fixture
def problem():
    model = network()
    return posed(model, targets(model, model.initial_parameters + 0.3, 0.5))


def test_terms_add_up_to_the_hessian(problem):
    w = problem.model.initial_parameters
    terms = hessian_terms(problem, w)
    manifold, loss = problem.manifold, problem.loss
    np.testing.assert_allclose(
        terms.eigenvalues, manifold.riemannian_hessian_eigenvalues(w, loss), rtol=1e-9, atol=1e-11
    )
    a = terms.worst
    assert manifold.norm(w, a) == pytest.approx(1, rel=1e-10)
    image = problem.riemannian_hessian(w, a)
    assert manifold.inner_product(w, a, image) == pytest.approx(terms.eigenvalues[0], rel=1e-8)
    assert terms.loss_part + terms.surface_part == pytest.approx(terms.eigenvalues[0], rel=1e-9)
    # the surface's part is the second fundamental form along the gradient of the loss
    bent = manifold.second_fundamental_form(w, a, a) @ loss.gradient(problem.model(w))
    assert terms.surface_part == pytest.approx(bent, rel=1e-8)
    assert terms.loss_part == pytest.approx(1.0, rel=1e-9)  # of the squared error
    np.testing.assert_allclose(terms.loss_range, 1.0, rtol=1e-9)


def test_who_spoils_convexity():
    """On the circle of radius one, beyond the target, the surface does; a linear model never."""
    circle = gn.AutogradModel(lambda w: anp.array([anp.cos(w[0]), anp.sin(w[0])]), 1)
    far = posed(circle, np.array([3.0, 0.0]))
    terms = hessian_terms(far, np.array([np.pi]))
    # h = ½(cos t - 3)² + ½ sin² t = 5 - 3 cos t: h'' = 3 cos t
    np.testing.assert_allclose(terms.eigenvalues, [-3.0], rtol=1e-12)
    assert terms.cause == "surface"
    assert terms.surface_part == pytest.approx(-4.0)
    near = hessian_terms(far, np.array([0.1]))
    assert near.convex
    assert near.cause == ""
    model = linear()
    flat = hessian_terms(posed(model, np.ones(model.num_outputs)), np.ones(model.num_parameters))
    np.testing.assert_allclose(flat.eigenvalues, 1.0, rtol=1e-10)
    np.testing.assert_allclose(flat.surface_range, 0.0, atol=1e-10)


@pytest.mark.parametrize("metric", [gn.GaussNewtonMetric(), gn.GaussNewtonMetric(0.3)], ids=str)
def test_lanczos_agrees_with_all_eigenvalues(problem, metric, monkeypatch):
    problem = gn.CompositeProblem(gn.ParameterManifold(problem.model, metric), problem.loss)
    w = problem.model.initial_parameters
    dense = extreme_eigenvalues(problem, w)
    monkeypatch.setattr("gnmanifold.diagnostics.convexity._DENSE", 2)
    np.testing.assert_allclose(extreme_eigenvalues(problem, w), dense, rtol=1e-7)


def test_along_a_geodesic(problem):
    """The second derivative is that of the cost, by differences of it."""
    w = problem.model.initial_parameters
    direction = np.random.default_rng(0).standard_normal(len(w))
    a = 0.5 * direction / problem.manifold.norm(w, direction)
    found = along_geodesic(problem, w, a, samples=65)
    step = found.times[1]
    differences = (found.costs[2:] - 2 * found.costs[1:-1] + found.costs[:-2]) / step**2
    np.testing.assert_allclose(differences, found.second[1:-1], rtol=2e-3)
    assert found.length == pytest.approx(0.5)
    assert found.modulus == pytest.approx(np.min(found.second) / 0.25)
    share = found.times / found.times[-1]
    chord = (1 - share) * found.costs[0] + share * found.costs[-1]
    assert found.excess == np.max(found.costs - chord)
    assert np.all(found.second > 0)  # convex here, so that the cost stays below its chord
    assert found.excess <= 1e-12 * found.costs[0]
    circle = gn.AutogradModel(lambda w: anp.array([anp.cos(w[0]), anp.sin(w[0])]), 1)
    over = along_geodesic(posed(circle, np.array([3.0, 0.0])), np.array([2.0]), np.array([2.0]))
    np.testing.assert_allclose(over.costs, 5 - 3 * np.cos(2 + 2 * over.times), rtol=1e-9)
    np.testing.assert_allclose(over.second, 12 * np.cos(2 + 2 * over.times), rtol=1e-7, atol=1e-7)
    assert over.excess > 1
    with pytest.raises(gn.ArgumentError, match="tangent_vector"):
        along_geodesic(problem, w, np.zeros(len(w)))


def test_along_a_path(problem):
    w = problem.model.initial_parameters
    flow = gn.flows.integrate(problem, w, 1.0, step=0.1, every=5)
    found = along_path(problem, flow.parameters)
    for k, point in enumerate(flow.parameters):
        terms = hessian_terms(problem, point)
        assert found.smallest[k] == terms.eigenvalues[0]
        assert found.surface_part[k] == terms.surface_part
    bad = np.flatnonzero(found.smallest < 0)
    assert found.first_indefinite == (bad[0] if bad.size else None)


def test_quickstart_loses_convexity_late_and_by_its_surface():
    """At α = 16 the Hessian becomes indefinite at flow time 7 or so; at α = 64 it does not."""
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(256, rng)
    net = gn.FeedforwardNetwork(X, 18, normalization="none", rng=rng)
    for alpha, first in ((16.0, 7.0), (64.0, None)):
        problem = posed(gn.Scaled(net, alpha), y)
        flow = gn.flows.integrate(problem, net.initial_parameters, 10.0, step=0.02, every=50)
        found = along_path(problem, flow.parameters)
        if first is None:
            assert found.first_indefinite is None
            assert np.min(found.smallest[1:]) == pytest.approx(0.86, abs=0.01)
            continue
        assert abs(flow.times[found.first_indefinite] - first) <= 1.0
        k = found.first_indefinite
        assert found.surface_part[k] < -1 < found.loss_part[k] == pytest.approx(1.0)


def test_the_surface_term_falls_like_one_over_alpha():
    model = network()
    base = model.model
    w = base.initial_parameters + 0.1
    y = targets(base, w, 0.5)
    parts = []
    alphas = np.array([4.0, 16.0, 64.0, 256.0])
    for alpha in alphas:
        scaled = gn.Scaled(base, alpha)
        residual = base(w) - y  # the same residual for all α
        found = hessian_terms(posed(scaled, scaled(w) - residual), w)
        parts.append(max(abs(end) for end in found.surface_range))
    slope = np.polyfit(np.log(alphas), np.log(parts), 1)[0]
    assert slope == pytest.approx(-1, abs=1e-6)


# regions


def test_region_of_a_sphere_is_the_known_one():
    """½|ψ - y|² from the north pole of a sphere: h'' = <y, ψ>/r² along every great circle."""
    r, height = 2.0, 5.0
    model = sphere(r)
    # near the equator of the coordinates, where these are regular
    center = np.array([np.pi / 2, 0.0])
    problem = posed(model, height / r * model(center))
    level = 0.5 * (r**2 + height**2)  # reached at a right angle, where h'' = 0
    found = region_convexity(problem, center, level=level, directions=4, samples=3, ascents=3)
    assert found.reached == found.directions == 4
    assert found.smoothness == pytest.approx(height / r, rel=1e-6)
    assert 0 <= found.modulus < 0.2 * height / r
    assert found.negative_share == 0
    assert "No violation found" in str(found)
    assert found.distance == pytest.approx(r * np.pi / 2, rel=0.06)
    beyond = region_convexity(
        problem, center, level=1.3 * level, directions=4, samples=3, ascents=3
    )
    assert beyond.modulus < 0 < beyond.negative_share
    assert beyond.worst.cause == "surface"
    assert "Not geodesically convex" in str(beyond)


def test_a_linear_model_is_within_theorem_22():
    model = linear()
    p = model.num_parameters
    problem = posed(model, np.ones(model.num_outputs))
    found = region_convexity(problem, np.zeros(p), radius=2.0, directions=5, samples=3)
    assert found.modulus == pytest.approx(1.0)
    assert found.smoothness == pytest.approx(1.0)
    assert "within Theorem 22's [0.5, 1.5]" in str(found)


def test_regions_are_deterministic_and_nested(problem):
    w = problem.model.initial_parameters
    options = {"radius": 0.05, "directions": 4, "samples": 3, "ascents": 5}
    first, again = (region_convexity(problem, w, **options) for _ in range(2))
    assert first.modulus == again.modulus
    np.testing.assert_array_equal(first.worst_parameters, again.worst_parameters)
    assert np.linalg.norm(first.worst_parameters - w) <= 0.05
    at_the_center = hessian_terms(problem, w).eigenvalues
    assert first.modulus <= at_the_center[0]
    assert first.smoothness >= at_the_center[-1]
    without = region_convexity(problem, w, **{**options, "ascents": 1})
    assert first.modulus <= without.modulus


def test_rounding_is_not_negative_curvature():
    """A linear model with the singular Hessian of softmax is convex."""
    design = np.linspace(-1, 1, 6)
    model = gn.AutogradModel(lambda w: (anp.outer(design, w[:3]) + w[3:6]).ravel(), 6)
    problem = gn.CompositeProblem(gn.ParameterManifold(model), gn.Softmax([0, 1, 2, 0, 1, 2], 3))
    found = region_convexity(
        problem, 0.1 * np.ones(6), radius=3.0, directions=3, samples=2, ascents=2
    )
    assert found.negative_share == 0
    assert "No violation found" in str(found)


def test_geodesics_that_end_do_not_reach_the_boundary():
    x = np.linspace(0.1, 3, 8)
    model = gn.AutogradModel(lambda w: anp.exp(-w[0] * x) + anp.exp(-w[1] * x), 2)
    center = np.array([1.0, 1.1])  # near the fold w0 = w1
    found = region_convexity(
        posed(model, model(center)), center, radius=1.0, directions=2, samples=1, ascents=1
    )
    assert found.reached < found.directions == 2


def test_regions_refuse_what_is_none(problem):
    w = problem.model.initial_parameters
    with pytest.raises(gn.ArgumentError, match="say which region"):
        region_convexity(problem, w)
    with pytest.raises(gn.ArgumentError, match="centre lies outside"):
        region_convexity(problem, w, level=0.0)
    with pytest.raises(gn.ArgumentError):
        region_convexity(problem, w, radius=-1.0)
    with pytest.raises(gn.NotAnImmersionError):
        hessian_terms(posed(problem.model, problem.loss.targets, gn.HessianMetric(problem.loss)), w)
