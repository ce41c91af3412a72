"""The contract table: every case of the zoo against every identity that must hold for it."""

import numpy as np
import pytest
from zoo import METRICS, ZOO, targets

import gnmanifold as gn

every_case = pytest.mark.parametrize("case", ZOO, ids=str)
every_metric = pytest.mark.parametrize("metric", METRICS, ids=str)


def manifolds(case, retraction="second_order"):
    yield gn.OutputManifold(case.model, retraction=retraction)
    for metric in METRICS:
        yield gn.ParameterManifold(case.model, metric, retraction=retraction)


def losses(model, w):
    y = targets(model, w)
    yield gn.SquaredError(y, weight=2.0)
    yield gn.StronglyConvex(gn.PseudoHuber(y, delta=0.2), nu=0.1)


@every_case
def test_every_manifold_keeps_pymanopts_contract(case):
    for manifold in manifolds(case):
        check = gn.check_manifold(manifold, manifold.point(case.w))
        assert check, str(check)


# A geodesic takes a while; the other cases and metrics share the code.
@pytest.mark.parametrize("case", [ZOO[i] for i in (0, 3, 6, 7)], ids=str)
@pytest.mark.parametrize("order", [1, 2])
def test_retractions_have_their_order(case, order):
    retraction = "first_order" if order == 1 else "second_order"
    for manifold in (
        gn.OutputManifold(case.model, retraction=retraction),
        gn.ParameterManifold(case.model, gn.GaussNewtonMetric(0.3), retraction=retraction),
    ):
        check = gn.check_retraction(manifold, manifold.point(case.w), order=order)
        assert check, f"{manifold}: {check}"


@every_case
def test_gradients_have_slope_two(case):
    for manifold in manifolds(case):
        for loss in losses(case.model, case.w):
            problem = gn.CompositeProblem(manifold, loss)
            check = gn.check_gradient(problem, manifold.point(case.w), rng=1)
            assert check, f"{manifold}: {check}"
            assert np.isinf(check.slope) or abs(check.slope - 2) <= 0.05


@every_case
def test_hessians_have_slope_three_and_are_symmetric(case):
    for manifold in manifolds(case):
        for loss in losses(case.model, case.w):
            problem = gn.CompositeProblem(manifold, loss)
            check = gn.check_hessian(problem, manifold.point(case.w), rng=1)
            assert check, f"{manifold}: {check}"
            assert check.identities["symmetry"] <= 1e-12


@every_case
def test_first_order_retraction_spoils_the_hessian_slope_of_a_curved_surface(case):
    manifold = gn.OutputManifold(case.model, retraction="first_order")
    problem = gn.CompositeProblem(manifold, gn.SquaredError(targets(case.model, case.w)))
    check = gn.check_hessian(problem, manifold.point(case.w), rng=1)
    assert bool(check) == (case.name in ("linear", "cylinder", "flat torus"))


@every_case
def test_the_two_manifolds_are_isometric(case):
    surface, parameters = gn.OutputManifold(case.model), gn.ParameterManifold(case.model)
    psi, w = surface.point(case.w), parameters.point(case.w)
    lin = parameters.at(w).lin
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, case.w.size))
    u, v = lin.push(a), lin.push(b)
    assert surface.inner_product(psi, u, v) == pytest.approx(
        parameters.inner_product(w, a, b), rel=1e-10
    )
    loss = gn.SquaredError(targets(case.model, case.w))
    on_surface, on_parameters = (
        gn.CompositeProblem(manifold, loss) for manifold in (surface, parameters)
    )
    for image, velocity in (
        (on_surface.riemannian_gradient(psi), on_parameters.riemannian_gradient(w)),
        (on_surface.riemannian_hessian(psi, u), on_parameters.riemannian_hessian(w, a)),
    ):
        # absolute against the size of the vectors: differences of order cond² eps remain
        np.testing.assert_allclose(image, lin.push(velocity), atol=1e-10 * np.linalg.norm(u))


@every_case
def test_weingarten_map_is_self_adjoint_and_dual_to_the_second_fundamental_form(case):
    manifold = gn.OutputManifold(case.model)
    psi = manifold.point(case.w)
    lin = manifold.at(psi).lin
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, case.w.size))
    u, v, noise = lin.push(a), lin.push(b), rng.standard_normal(case.model.num_outputs)
    normal = noise - manifold.projection(psi, noise)
    left = manifold.inner_product(psi, manifold.weingarten(psi, u, normal), v)
    right = manifold.inner_product(psi, u, manifold.weingarten(psi, v, normal))
    bent = case.model.second_derivative(case.w, a, b)
    size = np.linalg.norm(normal) * np.linalg.norm(bent) + np.linalg.norm(u) * np.linalg.norm(v)
    assert abs(left - right) <= 1e-10 * size
    assert abs(left - normal @ bent) <= 1e-10 * size


@every_case
@every_metric
def test_damped_metrics_are_those_of_their_graphs(case, metric):
    """The metric and its connection, from the plain Gauss-Newton metric of an explicit graph."""
    if metric == gn.EuclideanMetric():
        graph = gn.Graph(case.model, multiple=1.0, output_multiple=0.0)
    elif isinstance(metric, gn.GaussNewtonMetric):
        multiple = np.sqrt(metric.damping) * case.model.scale
        graph = gn.Graph(case.model, multiple, output_multiple=np.sqrt(1 - metric.damping))
    else:
        graph = gn.Graph(case.model, multiple=np.sqrt(metric.damping))
    local = metric.at(gn.Linearization(case.model, case.w))
    plain = gn.GaussNewtonMetric().at(gn.Linearization(graph, case.w))
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, case.w.size))
    assert local.inner_product(a, b) == pytest.approx(plain.inner_product(a, b), rel=1e-10)
    np.testing.assert_allclose(local.lower(a), plain.lower(a), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(local.raise_index(c), plain.raise_index(c), rtol=1e-9, atol=1e-10)
    size = np.linalg.norm(plain.christoffel(a, b))
    difference = local.christoffel(a, b) - plain.christoffel(a, b)
    assert np.linalg.norm(difference) <= 1e-9 * max(size, 1.0)
