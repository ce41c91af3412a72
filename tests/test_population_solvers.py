"""pymanopt's solvers without derivatives on our manifolds."""

import numpy as np
import pymanopt.optimizers as host
import pytest
from zoo import Symbolic, cylinder, saturation, sphere

import gnmanifold as gn


def problems(model, target, **options):
    for make in (gn.OutputManifold, gn.ParameterManifold):
        manifold = make(model, rng=4, **options)
        yield manifold, gn.CompositeProblem(manifold, gn.SquaredError(target))


@pytest.fixture
def draws():
    np.random.seed(3)  # noqa: NPY002 - pymanopt's own generator


@pytest.fixture
def model():
    """A sheet of a hyperboloid over all of R², any two points of which have a geodesic."""
    import sympy as sp

    return Symbolic(lambda s, t: (s, t, sp.sqrt(1 + s**2 + t**2) / 2), 2)


@pytest.mark.parametrize("solver", ["NelderMead", "ParticleSwarm"])
def test_true_logarithms(draws, model, solver):
    if solver == "NelderMead":  # hundreds of distances for each centroid: cheap ones
        model = cylinder()
    target = np.array([0.3, -0.2, 0.5])
    for manifold, problem in problems(model, target):
        same = type(manifold)(model, rng=4)  # draws the same starting points
        starts = [problem.cost(manifold.as_point(same.random_point())) for _ in range(4)]
        if solver == "NelderMead":
            starts, options = starts[:3], {"max_iterations": 2}
        else:
            options = {"max_iterations": 5, "population_size": 4}
        run = getattr(host, solver)(verbosity=0, **options).run(problem)
        assert run.cost < min(starts)
        assert manifold.evaluations.integrations > 10


@pytest.mark.parametrize("solver", ["NelderMead", "ParticleSwarm"])
def test_first_order_logarithms(draws, model, solver):
    w = np.array([0.3, -0.2])
    for manifold, problem in problems(model, model(w), logarithm="first_order"):
        options = {"population_size": 10} if solver == "ParticleSwarm" else {}
        run = getattr(host, solver)(max_iterations=60, verbosity=0, **options).run(problem)
        assert run.cost < 1e-4
        assert manifold.evaluations.integrations == 0


def test_first_order_logarithm_inverts_its_retraction():
    for model, ends in (
        (sphere(), ([1.1, 0.4], [0.7, 0.9])),
        (saturation(), ([3.0, 1.2, 0.5], [2.5, 1.0, 0.7])),
    ):
        for make in (gn.OutputManifold, gn.ParameterManifold):
            manifold = make(model, logarithm="first_order")
            start, end = (manifold.point(w) for w in ends)
            reached = manifold.retraction(start, manifold.log(start, end))
            np.testing.assert_allclose(np.asarray(reached), np.asarray(end), atol=1e-12)
            middle = manifold.pair_mean(start, end)
            parameters = middle.parameters if make is gn.OutputManifold else middle
            np.testing.assert_allclose(parameters, np.mean(ends, axis=0), atol=1e-15)
            length = manifold.norm(start, manifold.log(start, end))
            assert manifold.dist(start, end) == length
