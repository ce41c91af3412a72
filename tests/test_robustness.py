"""Hard cases: every optimizer ends with a result, a finite cost and a reason, whatever comes."""

import autograd.numpy as anp
import numpy as np
import pytest

import gnmanifold as gn
from gnmanifold.damping import Adaptive, Marquardt, TrustRadius
from gnmanifold.optimizers import (
    BFGS,
    KFAC,
    LBFGS,
    Adam,
    BackTracking,
    ConstantStep,
    FilteredNewton,
    GaussNewton,
    GradientDescent,
    HessianFree,
    LevenbergMarquardt,
    NaturalGradient,
    Newton,
    SharpnessAware,
    TrustRegions,
)

LIMITS = {"verbosity": 0, "max_iterations": 60}
SOLVERS = {
    "gauss_newton": GaussNewton(**LIMITS),
    "gauss_newton_backtracking": GaussNewton(BackTracking(), **LIMITS),
    "gauss_newton_damped": GaussNewton(BackTracking(), damping=Adaptive(), **LIMITS),
    "gauss_newton_basic": GaussNewton(BackTracking(), solution="basic", **LIMITS),
    "natural_gradient": NaturalGradient(BackTracking(), damping=0.1, **LIMITS),
    "levenberg_marquardt": LevenbergMarquardt(**LIMITS),
    "levenberg_marquardt_marquardt": LevenbergMarquardt(Marquardt(), scaling="marquardt", **LIMITS),
    "levenberg_marquardt_radius": LevenbergMarquardt(TrustRadius(), **LIMITS),
    "newton": Newton(**LIMITS),
    "newton_saddle_free": Newton(BackTracking(), saddle_free=True, **LIMITS),
    "filtered_newton": FilteredNewton(BackTracking(), tolerance=1e-3, **LIMITS),
    "hessian_free": HessianFree(**LIMITS),
    "bfgs": BFGS(**LIMITS),
    "lbfgs": LBFGS(**LIMITS),
    "gradient_descent": GradientDescent(**LIMITS),
    "momentum": GradientDescent(ConstantStep(1e-3), momentum=0.9, **LIMITS),
    "adam": Adam(0.1, **LIMITS),
    "sharpness_aware": SharpnessAware(**LIMITS),
    "trust_regions": TrustRegions(**LIMITS),
    "trust_regions_gauss_newton": TrustRegions(hessian="gauss_newton", **LIMITS),
}


def autograd(function, p):
    return gn.AutogradModel(function, p)


def beyond(w):
    """A model that is not defined where the first parameter exceeds one."""
    return anp.array([anp.sqrt(1.0 - w[0]) - 0.1 * w[1], w[1] + w[0], w[0] * w[1]])


T = np.linspace(0, 1, 6)
CASES = {
    # model, start, targets
    "overflow": (lambda: autograd(lambda w: anp.exp(w[0] * anp.exp(T * w[1])), 2), [1, 1], 0 * T),
    "undefined beyond a region": (lambda: autograd(beyond, 2), [0.5, 0.2], [0.0, 3.0, 2.0]),
    "flat valley": (
        lambda: autograd(lambda w: anp.array([(w[0] + w[1]) ** 3, (w[0] + w[1]) ** 2]), 2),
        [1, 0.5],
        [0, 0],
    ),
    "start at a minimizer": (
        lambda: autograd(lambda w: anp.array([w[0], w[1], w[0] * w[1]]), 2),
        [0, 0],
        [0, 0, 3],
    ),
    "zero residual": (
        lambda: autograd(lambda w: anp.array([w[0], w[1], w[0] * w[1]]), 2),
        [2, 3],
        [2, 3, 6],
    ),
    "useless parameter": (
        lambda: autograd(lambda w: anp.array([w[0], w[0] ** 2, anp.sin(w[0])]), 2),
        [2, 3],
        [1, 1, 1],
    ),
    "no parameter matters": (
        lambda: autograd(lambda w: 0 * w[0] + anp.array([1.0, 2.0, 3.0]), 1),
        [2],
        [1, 1, 1],
    ),
    "duplicate columns": (
        lambda: autograd(lambda w: anp.exp(-T * (w[0] + w[1])) * w[2], 3),
        [1, 1, 2],
        np.exp(-T),
    ),
    "one sample": (lambda: autograd(lambda w: anp.array([w[0] * w[1] + w[2]]), 3), [1, 2, 3], [7]),
    "one parameter": (lambda: autograd(lambda w: anp.exp(-T * w[0]), 1), [3], np.exp(-T)),
    "one of each": (lambda: autograd(lambda w: w**2, 1), [3.0], [2.0]),
    "huge targets": (lambda: autograd(lambda w: w[0] + w[1] * T, 2), [1, 1], 1e150 * (1 + T)),
    "tiny targets": (
        lambda: autograd(lambda w: 1e-150 * (w[0] + w[1] * T), 2),
        [1, 1],
        1e-150 * T,
    ),
    "a saddle": (lambda: autograd(lambda w: anp.array([w[0] ** 2 - 1, w[1]]), 2), [0, 0], [0, 0]),
    "cancelling": (lambda: autograd(lambda w: 1e8 + 1e-8 * w * T[:2], 2), [1, 1], [1e8, 1e8]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_run_ends_with_a_result_and_a_reason(solver, case):
    build, start, y = CASES[case]
    model, w = build(), np.array(start, dtype=float)
    loss = gn.SquaredError(np.array(y, dtype=float))
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.EuclideanMetric()), loss)
    with np.errstate(all="ignore"):  # those of the model itself, in autograd
        before = float(loss.value(model(w)))
        run = SOLVERS[solver].run(problem, initial_point=w)
    assert np.all(np.isfinite(run.point))
    assert np.isfinite(run.cost)
    assert run.cost <= before * (1 + 1e-12) or "max_iterations" in run.stopping_criterion
    assert run.stopping_criterion.startswith(("Converged", "Stopped"))
    if run.stopping_criterion.startswith("Converged"):
        J, z = model.jacobian(run.point), loss.gradient(model(run.point))
        with np.errstate(all="ignore"):
            size, rounding = np.linalg.norm(J), 1e-13 * np.linalg.norm(model(run.point))
            slope = np.linalg.norm(J.T @ z)
            assert slope <= 1e-5 * max(1.0, size * np.linalg.norm(z)) + size * rounding
    assert "Traceback" not in run.stopping_criterion
    for word in ("SVD did not converge", "array must not contain", "illegal value"):
        assert word not in run.stopping_criterion


@pytest.mark.parametrize(
    ("case", "metric"),
    [
        ("overflow", "surface"),
        ("overflow", "gauss_newton"),
        ("overflow", "damped"),
        ("undefined beyond a region", "surface"),
        ("undefined beyond a region", "gauss_newton"),
        ("undefined beyond a region", "damped"),
        ("flat valley", "damped"),  # the undamped metrics are degenerate at its start
    ],
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_in_other_metrics_too(solver, case, metric):
    build, start, y = CASES[case]
    model, w = build(), np.array(start, dtype=float)
    manifold = {
        "surface": lambda: gn.OutputManifold(model, retraction="second_order"),
        "gauss_newton": lambda: gn.ParameterManifold(model, gn.GaussNewtonMetric()),
        "damped": lambda: gn.ParameterManifold(model, gn.GaussNewtonMetric(0.1)),
    }[metric]()
    problem = gn.CompositeProblem(manifold, gn.SquaredError(np.array(y, dtype=float)))
    with np.errstate(all="ignore"):
        run = SOLVERS[solver].run(problem, initial_point=w)
    assert np.isfinite(run.cost)
    assert run.stopping_criterion.startswith(("Converged", "Stopped"))


NETWORKS = {
    "saturated": (100.0, 1.0, 1.0),
    "huge targets": (1.0, 1e150, 1.0),
    "tiny targets": (1.0, 1e-150, 1e-150),
    "one sample": (1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("split", ["factored", "exact"])
def test_kfac_in_hard_cases(case, split):
    size, scale, alpha = NETWORKS[case]
    rng = np.random.default_rng(0)
    samples = 1 if case == "one sample" else 5
    net = gn.FeedforwardNetwork(rng.standard_normal((samples, 3)), (4, 3), train_output=True)
    model = gn.Scaled(net, alpha)
    y = scale * rng.standard_normal(samples)
    problem = gn.CompositeProblem(
        gn.ParameterManifold(model, gn.EuclideanMetric()), gn.SquaredError(y)
    )
    w = size * net.initial_parameters
    before = float(problem.loss.value(model(w)))
    run = KFAC(split=split, **LIMITS).run(problem, initial_point=w)
    assert np.all(np.isfinite(run.point))
    assert run.cost <= before
    assert run.stopping_criterion.startswith(("Converged", "Stopped"))


def test_parameters_that_overflow_are_refused():
    """A cost can be finite where a parameter is not: e^-inf = 0."""
    t = np.linspace(0.1, 3, 9)
    model = gn.AutogradModel(lambda w: anp.exp(w[0] * t * 8) + w[1], 2)
    loss = gn.SquaredError(1e3 * np.arange(1.0, 10.0))
    surface = gn.OutputManifold(model, retraction="second_order")
    for solver in (GradientDescent(**LIMITS), BFGS(**LIMITS), LBFGS(**LIMITS)):
        run = solver.run(gn.CompositeProblem(surface, loss), initial_point=np.array([0.01, 0.0]))
        assert np.all(np.isfinite(run.point.parameters))
        assert np.isfinite(run.gradient_norm)


def test_a_run_that_ends_at_the_edge_of_the_domain_has_a_gradient():
    t = np.linspace(0, 3, 7)
    model = gn.AutogradModel(lambda w: anp.sqrt(w[0] - w[1] * t), 2)
    loss = gn.SquaredError(0.3 - 0.2 * t)
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.GaussNewtonMetric()), loss)
    with np.errstate(all="ignore"):
        for solver in (GradientDescent(**LIMITS), BFGS(**LIMITS), SharpnessAware(**LIMITS)):
            run = solver.run(problem, initial_point=np.array([4.0, 1.0]))
            assert np.isfinite(run.gradient_norm)
            assert run.cost < float(problem.cost(np.array([4.0, 1.0])))


@pytest.mark.parametrize("start", [1.0, 1e150])
@pytest.mark.parametrize("name", SOLVERS)
def test_huge_targets_raise_no_warning(name, start):
    t = np.linspace(0, 3, 9)
    model = gn.CallableModel(
        lambda w: w[0] * np.exp(-w[1] * t),
        2,
        jacobian=lambda w: np.column_stack([np.exp(-w[1] * t), -w[0] * t * np.exp(-w[1] * t)]),
        second_derivative=lambda w, a, b: (
            (-t * (a[0] * b[1] + a[1] * b[0]) + w[0] * t**2 * a[1] * b[1]) * np.exp(-w[1] * t)
        ),
    )
    y = 1e150 * (2 * np.exp(-0.7 * t) + 0.1 * np.sin(7 * t))
    problem = gn.CompositeProblem(
        gn.ParameterManifold(model, gn.EuclideanMetric()), gn.SquaredError(y)
    )
    run = SOLVERS[name].run(problem, initial_point=np.array([start, 1.0]))
    assert np.isfinite(run.gradient_norm)
    assert np.isfinite(run.cost)


def test_a_run_that_rose_says_so():
    model = gn.AutogradModel(lambda w: anp.array([w[0], w[0] ** 2, anp.sin(w[0]) + 0 * w[1]]), 2)
    loss = gn.SquaredError(np.ones(3))
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.EuclideanMetric()), loss)
    solver = GradientDescent(ConstantStep(0.9), verbosity=0, max_iterations=4)
    run = solver.run(problem, initial_point=np.array([0.9, 0.0]))
    assert "above the start's" in run.stopping_criterion
    assert run.cost == run.log["iterations"]["cost"][-1]


def test_softmax_costs_are_never_negative():
    loss = gn.Softmax([0, 1], 2)
    assert loss.value(np.array([800.0, 0.0, 0.0, 800.0])) == 0.0
    assert loss.value(np.array([40.0, 0.0, 0.0, 40.0])) >= 0.0
