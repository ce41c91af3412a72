import numpy as np
import pytest
from zoo import linear, network

import gnmanifold as gn
from gnmanifold.metrics.induced import induced


def wide_model():
    X = np.random.default_rng(0).standard_normal((5, 3))
    return gn.Scaled(gn.FeedforwardNetwork(X, (8,), rng=1), 3.0)


def tensor(metric, model, w):
    """The metric as a matrix, from its definition."""
    J = model.jacobian(w)
    p = model.num_parameters
    if isinstance(metric, gn.EuclideanMetric):
        return np.eye(p)
    if isinstance(metric, gn.GaussNewtonMetric):
        rho = metric.damping
        return (1 - rho) * J.T @ J + rho * model.scale**2 * np.eye(p)
    D = np.eye(p) if metric.scaling is None else np.diag(np.diag(J.T @ J))
    return J.T @ J + metric.damping * D


METRICS = [
    gn.EuclideanMetric(),
    gn.GaussNewtonMetric(0.2),
    gn.GaussNewtonMetric(1.0),
    gn.LevenbergMarquardtMetric(0.7),
    gn.LevenbergMarquardtMetric(0.7, scaling="marquardt"),
]


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("build", [network, wide_model])
def test_metric_is_its_formula(metric, build):
    model = build()
    rng = np.random.default_rng(0)
    w = model.initial_parameters + 0.1 * rng.standard_normal(model.num_parameters)
    a, b, c = rng.standard_normal((3, w.size))
    z = rng.standard_normal(model.num_outputs)
    G = tensor(metric, model, w)
    local = metric.at(gn.Linearization(model, w))
    assert local.inner_product(a, b) == pytest.approx(a @ G @ b, rel=1e-11)
    assert local.length(a) == pytest.approx(np.sqrt(a @ G @ a), rel=1e-11)
    np.testing.assert_allclose(local.lower(a), G @ a, rtol=1e-10)
    np.testing.assert_allclose(local.raise_index(c), np.linalg.solve(G, c), rtol=1e-9)
    gradient = np.linalg.solve(G, model.jacobian(w).T @ z)
    np.testing.assert_allclose(local.gradient(z), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS[:4], ids=str)
def test_christoffel_symbols_by_differences_of_the_metric(metric):
    model = network()
    p = model.num_parameters
    rng = np.random.default_rng(0)
    w = model.initial_parameters + 0.1 * rng.standard_normal(p)
    a, b = rng.standard_normal((2, p))
    h = 1e-5
    D = [
        (tensor(metric, model, w + h * e) - tensor(metric, model, w - h * e)) / (2 * h)
        for e in np.eye(p)
    ]
    along = lambda v: sum(v[k] * D[k] for k in range(p))  # noqa: E731
    first_kind = 0.5 * (along(a) @ b + along(b) @ a - np.array([a @ Dk @ b for Dk in D]))
    expected = np.linalg.solve(tensor(metric, model, w), first_kind)
    local = metric.at(gn.Linearization(model, w))
    np.testing.assert_allclose(local.christoffel(a, b), expected, atol=1e-7)


def test_damping_one_and_the_euclidean_metric_need_no_jacobian():
    model = network()
    for metric in (gn.EuclideanMetric(), gn.GaussNewtonMetric(1.0)):
        lin = gn.Linearization(model, model.initial_parameters)
        local = metric.at(lin)
        local.gradient(np.ones(model.num_outputs))
        local.christoffel(np.ones(12), np.ones(12))
        assert (lin.counts.jacobians, lin.counts.factorizations) == (0, 0)


def test_marquardts_scaling_has_no_connection():
    model = network()
    metric = gn.LevenbergMarquardtMetric(0.5, scaling="marquardt")
    local = metric.at(gn.Linearization(model, model.initial_parameters))
    with pytest.raises(gn.NotAnImmersionError, match="no fixed immersion"):
        induced(local)
    manifold = gn.ParameterManifold(model, metric)
    with pytest.raises(gn.NotAnImmersionError, match="descent and flows"):
        manifold.christoffel(model.initial_parameters, np.ones(12), np.ones(12))
    with pytest.raises(gn.ArgumentError, match="retraction must be 'first_order'"):
        gn.ParameterManifold(model, metric, retraction="second_order")


def test_marquardts_scaling_stands_a_useless_parameter():
    J = np.random.default_rng(0).standard_normal((5, 3))
    J[:, 2] = 0
    model = gn.CallableModel(lambda w: J @ w, 3, jacobian=lambda w: J)
    metric = gn.LevenbergMarquardtMetric(0.5, scaling="marquardt")
    gradient = metric.at(gn.Linearization(model, np.zeros(3))).gradient(np.ones(5))
    assert gradient[2] == 0
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.GaussNewtonMetric(-0.1), r"damping must be a number in \[0, 1\]"),
        (lambda: gn.GaussNewtonMetric(1.1), "damping"),
        (lambda: gn.GaussNewtonMetric(np.nan), "damping"),
        (lambda: gn.LevenbergMarquardtMetric(-1.0), "damping must be a finite number >= 0"),
        (lambda: gn.LevenbergMarquardtMetric(1.0, "more"), "scaling must be one of 'marquardt'"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(gn.ArgumentError, match=message):
        make()


def test_undamped_metrics_refuse_more_parameters_than_outputs():
    for metric in (gn.GaussNewtonMetric(), gn.LevenbergMarquardtMetric()):
        with pytest.raises(gn.UnderdeterminedError, match="p = 24 parameters and only n = 5"):
            gn.ParameterManifold(wide_model(), metric)


def test_linearization_is_lazy_and_counts():
    model = linear()
    lin = gn.Linearization(model, np.ones(3))
    assert vars(lin.counts) == dict.fromkeys(vars(lin.counts), 0)
    lin.push(np.ones(3))
    assert (lin.counts.values, lin.counts.jacobians, lin.counts.products) == (0, 0, 1)
    lin.pull(np.ones(7))
    lin.lift(np.ones(3))
    lin.project(np.ones(7))
    lin.push(np.ones(3))
    assert vars(lin.counts) == {
        "values": 0,
        "jacobians": 1,
        "products": 1,
        "second_derivatives": 0,
        "factorizations": 1,
        "integrations": 0,
    }
    assert lin.rank == 3
    assert lin.condition == pytest.approx(
        np.linalg.cond(lin.jacobian / np.linalg.norm(lin.jacobian, axis=0)), rel=1e-10
    )
