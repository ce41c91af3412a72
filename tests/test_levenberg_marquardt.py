"""Levenberg and Marquardt's method: its equalities, its rules, and what must not break it."""

import warnings

import numpy as np
import pymanopt.optimizers as host
import pytest
import sympy as sp
from scipy.optimize import least_squares
from zoo import CASES, Symbolic, network, rank_deficient, saturation, targets

import gnmanifold as gn
from gnmanifold.damping import (
    ConstantLambda,
    DelayedGratification,
    Marquardt,
    Nielsen,
    TrustRadius,
)
from gnmanifold.optimizers import GaussNewton, LevenbergMarquardt, UnitStep

RULES = (Nielsen(), Marquardt(), DelayedGratification(), TrustRadius(), ConstantLambda(1e-3))


def problem(model, y, metric=None, loss=gn.SquaredError):
    manifold = gn.ParameterManifold(model, gn.EuclideanMetric() if metric is None else metric)
    return gn.CompositeProblem(manifold, loss(y))


def one_step(posed, w, damping, **options):
    solver = LevenbergMarquardt(damping, offset=0.0, max_iterations=1, verbosity=0, **options)
    return solver.run(posed, initial_point=w).point


def decaying():
    """A model with a point that fits it well, for least squares that converge fast."""
    model, w = saturation(), np.array([3.0, 1.2, 0.5])
    return model, w, targets(model, w, noise=0.02)


# --- equalities -----------------------------------------------------------------------------


def test_without_damping_it_is_gauss_newton():
    model, w, y = decaying()
    posed = problem(model, y)
    expected = GaussNewton(max_iterations=1, verbosity=0).run(posed, initial_point=w).point
    found = one_step(posed, w, ConstantLambda(0.0), acceleration=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [gn.SquaredError, gn.PseudoHuber])
def test_a_step_is_unit_descent_in_its_metric(loss):
    model, w, y = decaying()
    metric = gn.LevenbergMarquardtMetric(0.3)
    if loss is gn.PseudoHuber:  # Jᵀ∇²g J + λ I is a damped generalized Gauss-Newton metric
        model = gn.Scaled(model, 1.0)
        metric = gn.GeneralizedGaussNewtonMetric(gn.PseudoHuber(y), damping=0.3 / 1.3)
    descent = host.SteepestDescent(line_searcher=UnitStep(), max_iterations=1, verbosity=0)
    posed = problem(model, y, metric, loss)
    expected = descent.run(posed, initial_point=w).point
    if loss is gn.PseudoHuber:  # its 1 - ρ = 1/1.3 scales the step
        expected = w + (expected - w) / 1.3
    found = one_step(posed, w, ConstantLambda(0.3), scaling=None, acceleration=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_an_accelerated_step_is_the_second_order_retraction_of_its_metric():
    model, w, y = decaying()
    metric = gn.LevenbergMarquardtMetric(0.3)
    manifold = gn.ParameterManifold(model, metric, retraction="second_order")
    posed = gn.CompositeProblem(manifold, gn.SquaredError(y))
    expected = manifold.retraction(w, -posed.riemannian_gradient(w))
    found = one_step(posed, w, ConstantLambda(0.3), scaling=None, acceleration=10.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_steps_with_more_parameters_than_outputs_are_those_of_the_formula():
    model = network(widths=(9,))
    w, p = model.initial_parameters, model.num_parameters
    y, J = targets(model, w), model.jacobian(w)
    step = np.linalg.solve(J.T @ J + 0.3 * np.eye(p), J.T @ (y - model(w)))
    found = one_step(problem(model, y), w, ConstantLambda(0.3), scaling=None, acceleration=0.0)
    np.testing.assert_allclose(found - w, step, rtol=1e-9, atol=1e-12)


def test_both_manifolds_give_the_same_run():
    model, w, y = decaying()
    loss = gn.SquaredError(y)
    ends = []
    for manifold in (gn.OutputManifold(model), gn.ParameterManifold(model)):
        posed = gn.CompositeProblem(manifold, loss)
        run = LevenbergMarquardt(verbosity=0).run(posed, initial_point=w + 0.3)
        ends.append(np.asarray(getattr(run.point, "parameters", run.point)))
    np.testing.assert_array_equal(ends[0], ends[1])


# --- rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("scaling", ["more", "marquardt", None])
def test_every_rule_reaches_the_minimum(rule, scaling):
    model, w, y = decaying()
    exact = least_squares(
        lambda v: model(v) - y, w, model.jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    start = w + 0.3 if rule == ConstantLambda(1e-3) else [1.0, 3.0, 0.0]  # it has no safeguard
    run = LevenbergMarquardt(rule, scaling=scaling, verbosity=0).run(
        problem(model, y), initial_point=start
    )
    assert run.stopping_criterion.startswith("Converged"), run
    np.testing.assert_allclose(run.point, exact.x, rtol=1e-8)


def test_a_trust_radius_bounds_the_steps():
    model, w, y = decaying()
    solver = LevenbergMarquardt(TrustRadius(0.05), scaling=None, acceleration=0.0, verbosity=0)
    lengths = []
    solver.run(
        problem(model, y),
        initial_point=w,
        callback=lambda state: lengths.append(state.step_size),
    )
    bound = 0.05 * np.linalg.norm(w)
    assert lengths[1] <= 1.1 * bound
    rule = TrustRadius(0.5)
    start = rule.start(2.0)
    assert start.radius == 1.0
    assert rule.accepted(start, 0.9, 0.8).radius == 1.6
    assert rule.accepted(start, 0.1, 0.8).radius == 0.5
    assert rule.rejected(start, 0.8).radius == pytest.approx(0.2)


def test_rules_move_as_their_authors_say():
    start = Nielsen(2.0).start(1.0)
    assert Nielsen().accepted(start, 0.5, 1.0).value == pytest.approx(2.0)
    assert Nielsen().accepted(start, 1.0, 1.0).value == pytest.approx(2 / 3)
    once = Nielsen().rejected(start, 1.0)
    twice = Nielsen().rejected(once, 1.0)
    assert (once.value, twice.value) == (4.0, 16.0)
    rule = DelayedGratification(1.0, 2.0, 3.0)
    assert rule.rejected(rule.start(1.0), 1.0).value == 2.0
    assert rule.accepted(rule.start(1.0), 1.0, 1.0).value == pytest.approx(1 / 3)
    rule = Marquardt(1e-2)
    assert rule.rejected(rule.start(1.0), 1.0).value == pytest.approx(0.1)
    assert rule.accepted(rule.start(1.0), 1.0, 1.0).value == pytest.approx(1e-3)


def test_evaluations_are_counted_and_few():
    model, _w, y = decaying()
    posed = problem(model, y)
    run = LevenbergMarquardt(verbosity=0).run(posed, initial_point=[1.0, 3.0, 0.0])
    used = run.evaluations
    assert used.jacobians <= used.values
    assert used.second_derivatives <= used.values
    log = run.log["iterations"]
    assert len(log["cost"]) == run.iterations + 1
    assert {"damping", "ratio", "accepted", "accelerated", "offset"} <= set(log)
    assert any(log["accelerated"])


def test_losses_beyond_least_squares():
    model, w, y = decaying()
    y = y.copy()
    y[3] += 4.0  # an outlier
    robust = LevenbergMarquardt(verbosity=0).run(
        problem(model, y, loss=lambda t: gn.PseudoHuber(t, 0.05)), initial_point=w + 0.2
    )
    assert robust.stopping_criterion.startswith("Converged"), robust
    assert robust.gradient_norm < 1e-10
    assert np.linalg.norm(robust.point - w) < 0.3
    X = np.random.default_rng(7).standard_normal((40, 3))
    labels = (X[:, 0] + 0.7 * np.random.default_rng(8).standard_normal(40) > 0) * 1.0
    lines = gn.CallableModel(lambda v: X @ v, 3, jacobian=lambda v: X)
    logistic = LevenbergMarquardt(verbosity=0).run(
        problem(lines, labels, loss=gn.Logistic), initial_point=np.zeros(3)
    )
    assert logistic.gradient_norm < 1e-12


def test_a_saturated_loss_is_not_called_converged():
    X = np.column_stack([np.ones(20), np.linspace(0, 4, 20)])
    labels = (np.arange(20) % 3 > 0) * 1.0
    lines = gn.CallableModel(lambda v: X @ v, 2, jacobian=lambda v: X)
    posed = problem(lines, labels, loss=gn.Logistic)
    best = LevenbergMarquardt(verbosity=0).run(posed, initial_point=[0.0, 0.0])
    assert best.stopping_criterion.startswith("Converged")
    for start in ([0.0, 25.0], [0.0, 300.0], [1000.0, 0.0]):
        run = LevenbergMarquardt(verbosity=0).run(posed, initial_point=start)
        near = abs(run.cost - best.cost) < 1e-6
        assert near or not run.stopping_criterion.startswith("Converged"), run


def test_negative_costs():
    counts = np.array([3.0, 5.0, 8.0, 14.0, 20.0, 37.0])
    X = np.column_stack([np.ones(6), np.arange(6.0)])
    lines = gn.CallableModel(lambda v: X @ v, 2, jacobian=lambda v: X)
    run = LevenbergMarquardt(verbosity=0).run(
        problem(lines, counts, loss=gn.Poisson), initial_point=[0.0, 0.0]
    )
    assert run.cost < 0
    assert run.stopping_criterion.startswith("Converged"), run
    assert np.linalg.norm(X.T @ (np.exp(X @ run.point) - counts)) < 1e-9


def test_a_wrong_jacobian_is_not_called_converged():
    model, w, y = decaying()
    wrong = gn.CallableModel(model, 3, 9, jacobian=lambda v: -model.jacobian(v))
    run = LevenbergMarquardt(verbosity=0, acceleration=0.0).run(
        problem(wrong, y), initial_point=w + 0.5
    )
    assert "derivatives are wrong" in run.stopping_criterion


# --- what must not break it -----------------------------------------------------------------


def rosenbrock():
    return Symbolic(lambda x, y: (10 * (y - x**2), 1 - x), 2)


def end(model, y, start, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = LevenbergMarquardt(verbosity=0, **options).run(problem(model, y), initial_point=start)
    assert np.isfinite(run.cost)
    assert np.all(np.isfinite(run.point))
    assert run.stopping_criterion
    return run


def test_a_curved_valley():
    run = end(rosenbrock(), np.zeros(2), [-1.2, 1.0])
    np.testing.assert_allclose(run.point, 1.0, rtol=1e-12)
    assert run.cost < 1e-28
    assert run.iterations < 30


def test_a_start_at_the_minimizer_and_a_perfect_fit():
    model, w, _ = decaying()
    run = end(model, model(w), w)
    assert run.stopping_criterion.startswith("Converged")
    np.testing.assert_array_equal(run.point, w)
    run = end(model, model(w), w + 0.4)
    np.testing.assert_allclose(run.point, w, rtol=1e-12)
    assert run.stopping_criterion.startswith("Converged")


def test_useless_and_duplicate_parameters():
    t = np.linspace(0, 2, 12)
    J = np.column_stack([np.exp(-t), 0 * t, t, t])
    model = gn.CallableModel(
        lambda w: J @ w, 4, jacobian=lambda w: J, second_derivative=lambda w, a, b: 0 * t
    )
    y = np.cos(t)
    run = end(model, y, np.ones(4))
    best = np.linalg.lstsq(J, y, rcond=None)[0]
    np.testing.assert_allclose(model(run.point), J @ best, atol=1e-10)
    assert run.point[1] == 1.0
    curved = rank_deficient()
    assert end(curved, np.array([0.3, 0.1, 0.2]), [1.0, 0.5]).cost < 0.01


def test_one_sample_and_one_parameter():
    model = gn.CallableModel(np.exp, 1, jacobian=lambda w: np.exp(w)[:, None])
    assert end(model, [3.0], [0.0]).point[0] == pytest.approx(np.log(3), rel=1e-12)
    wide = gn.CallableModel(lambda w: np.array([w @ w]), 3, jacobian=lambda w: 2 * w[None, :])
    assert end(wide, [4.0], [1.0, 0.5, 0.2]).cost < 1e-25


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_targets_of_extreme_size(size):
    t = np.linspace(0, 2, 8)
    J = np.column_stack([np.ones(8), t])
    model = gn.CallableModel(
        lambda w: J @ w, 2, jacobian=lambda w: J, second_derivative=lambda w, a, b: 0 * t
    )
    y = size * (1 + t + 0.1 * np.cos(9 * t))
    run = end(model, y, [0.0, 0.0])
    np.testing.assert_allclose(
        run.point / size, np.linalg.lstsq(J, y / size, rcond=None)[0], rtol=1e-9
    )


def test_models_that_overflow_or_end():
    t = np.linspace(0, 5, 20)
    y = 2 * np.exp(0.3 * t)
    growth = Symbolic(lambda a, b: [a * sp.exp(b * x) for x in t], 2)
    np.testing.assert_allclose(end(growth, y, [1.0, 5.0]).point, [2.0, 0.3], rtol=1e-9)

    def root(w):
        with np.errstate(invalid="ignore"):
            return w[0] * np.sqrt(w[1] - t / 10)

    model = gn.CallableModel(root, 2, num_outputs=20)
    run = end(model, 1.5 * np.sqrt(0.8 - t / 10), [0.5, 3.0])
    np.testing.assert_allclose(run.point, [1.5, 0.8], rtol=1e-4)


def test_a_flat_valley_without_a_minimum():
    """e^-w has its infimum at infinity: the run ends with a reason and a cost near zero."""
    model = gn.CallableModel(
        lambda w: np.array([np.exp(-w[0])]),
        1,
        jacobian=lambda w: np.array([[-np.exp(-w[0])]]),
        second_derivative=lambda w, a, b: np.exp(-w) * a * b,
    )
    assert end(model, [0.0], [0.0], max_iterations=200).cost < 1e-10


def test_an_interrupted_run_returns_its_best_point():
    model, _w, y = decaying()

    def stop(state):
        if state.iteration == 3:
            raise KeyboardInterrupt

    run = LevenbergMarquardt(verbosity=0).run(
        problem(model, y), initial_point=[1.0, 3.0, 0.0], callback=stop
    )
    assert "interrupted" in run.stopping_criterion
    assert run.cost == min(run.log["iterations"]["cost"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LevenbergMarquardt("nielsen"), "damping must be a rule"),
        (lambda: LevenbergMarquardt(scaling="x"), "scaling must be one of"),
        (lambda: LevenbergMarquardt(acceleration=-1), "acceleration"),
        (lambda: LevenbergMarquardt(offset=np.nan), "offset"),
        (lambda: Marquardt(raising=1.0), "raising must be above 1"),
        (lambda: Nielsen(0.0), "initial"),
        (lambda: DelayedGratification(lowering=0.5), "lowering must be above 1"),
        (lambda: TrustRadius(-1.0), "factor"),
        (lambda: ConstantLambda(-1.0), "lam"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(gn.ArgumentError, match=message):
        make()


def test_other_problems_are_refused():
    manifold = gn.ParameterManifold(CASES["sphere"].model)
    plain = host.optimizer.Optimizer  # any object that is no composite problem
    with pytest.raises(gn.ArgumentError, match="needs a CompositeProblem"):
        LevenbergMarquardt(verbosity=0).run(
            type("Problem", (), {"manifold": manifold, "cost": plain})(), initial_point=[1.0, 0.3]
        )
