"""Rates measured against rates predicted, kinds of critical points, Polyak-Łojasiewicz ratios."""

import json
import tracemalloc

import autograd.numpy as anp
import numpy as np
import pytest
import sympy as sp
from zoo import CASES, Symbolic, linear, rank_deficient, targets

import gnmanifold as gn
from gnmanifold.diagnostics.critical_points import classify
from gnmanifold.diagnostics.polyak_lojasiewicz import (
    polyak_lojasiewicz_along,
    polyak_lojasiewicz_over,
)
from gnmanifold.diagnostics.rates import contraction_factor, fitted_rate, local_factor
from gnmanifold.flows import integrate
from gnmanifold.optimizers import ConstantStep, GaussNewton, GradientDescent, UnitStep

LIMITS = {"verbosity": 0, "min_gradient_norm": 0.0, "min_step_size": 0.0}


def posed(model, loss, metric=None):
    return gn.CompositeProblem(gn.ParameterManifold(model, metric or gn.EuclideanMetric()), loss)


def scalar(expression, p):
    """h = φ²/2 with the single output φ."""
    return posed(Symbolic(lambda *w: [expression(*w)], p), gn.SquaredError(np.zeros(1)))


def circle(a, metric=None):
    """(cos t, sin t) with the target (a, 0): S = a - 1 at t = 0."""
    model = Symbolic(lambda t: (sp.cos(t), sp.sin(t)), 1)
    return posed(model, gn.SquaredError(np.array([a, 0.0])), metric)


def polished(problem, w):
    """Critical point nearby, by Newton's method on dense matrices."""
    model, loss = problem.model, problem.loss
    for _ in range(20):
        J, z = model.jacobian(w), loss.gradient(model(w))
        A = np.column_stack([loss.hessian_product(model(w), e) for e in np.eye(len(z))])
        bend = np.column_stack([model.weighted_hessian(w, z, e) for e in np.eye(len(w))])
        w = w - np.linalg.solve(J.T @ A @ J + bend, J.T @ z)
    return w


def parabola(t_noise=1.1):
    """(a, b, a² - b², ab) with a target far above the surface."""
    model = Symbolic(lambda a, b: (a, b, a**2 - b**2, a * b), 2)
    problem = posed(model, gn.SquaredError(np.array([0.2, -0.1, 0.6 * t_noise, 0.5 * t_noise])))
    return problem, np.array([0.2, -0.1])


def curve():
    case = CASES["saturation"]
    return posed(case.model, gn.SquaredError(targets(case.model, case.w, 0.15))), case.w


def counts():
    """Poisson regression on a curve: a loss whose Hessian is not constant."""
    t = np.linspace(0, 1, 8)
    model = Symbolic(lambda a, b: [a + sp.sin(b * x) * 2 for x in t], 2)
    y = np.array([2, 3, 4, 9, 7, 14, 11, 17])
    return posed(model, gn.Poisson(y)), np.array([0.5, 1.0])


def errors_of(problem, start, limit, optimizer):
    run = optimizer.run(problem, initial_point=start)
    points = np.array(run.log["iterations"]["point"])
    return np.linalg.norm(points - limit, axis=1)


# measured rates


def test_fitted_rate_recovers_an_exponential():
    t = np.linspace(0, 4, 30)
    found = fitted_rate(t, 3 * np.exp(-1.7 * t))
    assert found.rate == pytest.approx(1.7, rel=1e-12)
    assert found.error < 1e-12
    assert found.count == 30
    assert "1.7" in str(found)


def test_standard_error_of_a_rate_is_calibrated():
    rng, t = np.random.default_rng(0), np.linspace(0, 4, 40)
    off = []
    for _ in range(400):
        found = fitted_rate(t, np.exp(-0.9 * t + 0.1 * rng.standard_normal(40)))
        off.append((found.rate - 0.9) / found.error)
    assert np.std(off) == pytest.approx(1.0, abs=0.12)  # known to 3.5 %


def test_window_and_bad_gaps_are_left_out():
    t = np.arange(10.0)
    gaps = np.exp(-t)
    gaps[:4] = 7.0
    gaps[6:8] = [0.0, np.nan]
    found = fitted_rate(t, gaps, window=(4, 9))
    assert found.rate == pytest.approx(1.0)
    assert found.count == 4
    with pytest.raises(gn.ArgumentError, match="three positive gaps"):
        fitted_rate(t, -gaps)


def test_contraction_factor_of_gradient_descent_on_a_quadratic():
    model = linear()
    problem = posed(model, gn.SquaredError(np.zeros(7)))
    values = np.linalg.svd(model.jacobian(np.ones(3)), compute_uv=False) ** 2
    eta = 1 / values[0]
    optimizer = GradientDescent(ConstantStep(eta), max_iterations=400, **LIMITS)
    gaps = errors_of(problem, np.ones(3), np.zeros(3), optimizer)
    found = contraction_factor(gaps, window=(50, 150))
    assert found.value == pytest.approx(1 - values[-1] / values[0], rel=1e-6)
    assert contraction_factor(2.0 ** np.arange(5)).value == pytest.approx(2.0)


# the local factor


@pytest.mark.parametrize("a", [0.3, 0.7, 1.4, 2.2])
def test_local_factor_of_the_circle_is_its_closed_form(a):
    found = local_factor(circle(a), [0.0])
    assert found.smallest == pytest.approx(a - 1, abs=1e-14)
    assert found.radius == pytest.approx(abs(a - 1), abs=1e-14)
    assert found.flow_rate == pytest.approx(a)
    assert found.steps_converge == (abs(a - 1) < 1)
    assert found.best_step == pytest.approx(1 / a)
    assert found.best_radius == pytest.approx(0.0, abs=1e-14)


def test_behind_the_circle_nothing_converges():
    found = local_factor(circle(-0.5), [0.0])  # the far side: a maximum
    assert not found.flow_converges
    assert not found.full_steps_converge
    assert found.best_step is None
    assert "does not converge" in str(found)
    assert classify(circle(-0.5), [0.0]).kind == "maximum"


@pytest.mark.parametrize("make", [parabola, curve, counts])
def test_factor_is_the_spectral_radius_of_the_differenced_step(make):
    problem, start = make()
    w = polished(problem, start)
    found = local_factor(problem, w, step=0.8)

    def step(v):
        optimizer = GaussNewton(ConstantStep(0.8), max_iterations=1, **LIMITS)
        return np.array(optimizer.run(problem, initial_point=v).log["iterations"]["point"][-1])

    h = 1e-5 * (1 + np.abs(w))
    columns = [(step(w + d) - step(w - d)) / (2 * d.sum()) for d in np.diag(h)]
    wanted = np.sort(np.linalg.eigvals(np.column_stack(columns)).real)
    np.testing.assert_allclose(np.sort(found.factors), wanted, atol=1e-5)


@pytest.mark.parametrize("make", [parabola, curve, counts])
def test_factor_predicts_the_measured_rate_of_full_steps(make):
    problem, start = make()
    w = polished(problem, start)
    predicted = local_factor(problem, w)
    assert len(predicted.dominant) == 1
    assert 0.05 < predicted.radius < 1
    rng = np.random.default_rng(0)
    near = w + 1e-3 * (1 + np.abs(w)) * rng.standard_normal(len(w))
    optimizer = GaussNewton(UnitStep(), max_iterations=60, **LIMITS)
    gaps = errors_of(problem, near, w, optimizer)
    # where the other eigenvalues have died out and rounding has not begun
    window = np.flatnonzero((gaps < 1e-5) & (gaps > 1e-11))
    measured = contraction_factor(gaps, (int(window[0]), int(window[-1])))
    assert measured.value == pytest.approx(predicted.radius, abs=1e-3)


def test_full_steps_diverge_where_the_flow_converges():
    problem, w = circle(2.2, gn.GaussNewtonMetric()), np.zeros(1)
    predicted = local_factor(problem, w)
    assert predicted.radius > 1
    assert not predicted.full_steps_converge
    assert predicted.flow_converges
    optimizer = GaussNewton(UnitStep(), max_iterations=30, **LIMITS)
    gaps = errors_of(problem, [1e-6], w, optimizer)
    assert contraction_factor(gaps, (0, 25)).value == pytest.approx(predicted.radius, abs=1e-3)
    assert gaps[-1] > 100 * gaps[0]
    flow = integrate(problem, [0.3], 6.0, method="dop853", rtol=1e-11)
    distances = np.abs(flow.parameters[:, 0])
    assert distances[-1] < 1e-5
    rate = fitted_rate(flow.times, distances, (2.0, 6.0))
    assert rate.rate == pytest.approx(predicted.flow_rate, abs=1e-3)
    shorter = GaussNewton(ConstantStep(0.9 * predicted.best_step), max_iterations=30, **LIMITS)
    assert errors_of(problem, [0.1], w, shorter)[-1] < 1e-12


def test_divergence_in_two_parameters_with_a_simple_dominant_eigenvalue():
    model = Symbolic(lambda a, b: (a, b, a**2 / 2 + b**2 / 9 + a * b / 10), 2)
    problem = posed(model, gn.SquaredError(np.array([0.1, -0.2, -1.3])))
    w = polished(problem, np.array([0.05, -0.1]))
    predicted = local_factor(problem, w)
    assert predicted.radius > 1
    assert predicted.flow_converges
    assert len(predicted.dominant) == 1
    optimizer = GaussNewton(UnitStep(), max_iterations=120, **LIMITS)
    gaps = errors_of(problem, w + 1e-9, w, optimizer)
    window = np.flatnonzero((gaps > 1e-8) & (gaps < 1e-5))
    measured = contraction_factor(gaps, (int(window[0]), int(window[-1])))
    assert measured.value == pytest.approx(predicted.radius, abs=1e-3)
    flow = integrate(posed(problem.model, problem.loss, gn.GaussNewtonMetric()), w + 0.05, 30.0,
                     method="dop853")  # fmt: skip
    assert np.linalg.norm(flow.parameters[-1] - w) < 1e-6


def test_best_constant_step_has_its_radius_and_no_other_is_better():
    problem, start = parabola()
    w = polished(problem, start)
    found = local_factor(problem, w)
    best = local_factor(problem, w, step=found.best_step)
    assert best.radius == pytest.approx(found.best_radius)
    for step in (0.9 * found.best_step, 1.1 * found.best_step):
        assert local_factor(problem, w, step=step).radius > best.radius


def test_weight_of_the_loss_cancels():
    model = parabola()[0].model
    y = parabola()[0].loss.targets
    w = polished(parabola()[0], parabola()[1])
    heavy = local_factor(posed(model, gn.SquaredError(y, weight=7.0)), w)
    values = local_factor(posed(model, gn.SquaredError(y)), w).eigenvalues.values
    np.testing.assert_allclose(heavy.eigenvalues.values, values, rtol=1e-12)


def test_zero_residual_converges_quadratically():
    model = CASES["saturation"].model
    w = CASES["saturation"].w
    found = local_factor(posed(model, gn.SquaredError(model(w))), w)
    assert found.radius == 0
    assert found.best_step == 1


def test_overparameterized_steps_act_across_the_solution_manifold():
    problem = scalar(lambda x, y: y * sp.sqrt(1 + x**2), 2)
    found = local_factor(problem, [1.0, 0.0], step=0.5)
    assert found.flat == 1
    assert found.radius == 0.5
    assert "dimension 1" in str(found)
    crossing = scalar(lambda x, y: x * y, 2)
    with pytest.raises(gn.RankDeficientError, match="varying dimension"):
        local_factor(crossing, [0.0, 0.0])


def test_local_factor_refuses_what_is_not_critical():
    problem, start = parabola()
    with pytest.raises(gn.ArgumentError, match="not critical"):
        local_factor(problem, start + 0.3)
    wide = scalar(lambda x, y: y * sp.sqrt(1 + x**2), 2)
    with pytest.raises(gn.ArgumentError, match="not critical"):
        local_factor(wide, [1.0, 0.2])
    deficient = posed(rank_deficient(), gn.SquaredError(np.zeros(3)))
    with pytest.raises(gn.RankDeficientError):
        local_factor(deficient, [0.0, 0.0])


class Curves(gn.Model):
    """Many curves (w_i, c_i w_i²/2), one for each parameter: S is diagonal, S_ii = c_i ξ_i."""

    def __init__(self, c):
        self.c = c
        self.num_parameters, self.num_outputs = len(c), 2 * len(c)

    def __call__(self, w):
        return np.concatenate([w, 0.5 * self.c * w**2])

    def jacobian(self, w):
        if self.num_parameters > 1000:
            raise AssertionError("a Jacobian of 160 GB")
        return np.vstack([np.eye(len(w)), np.diag(self.c * w)])

    def jvp(self, w, a):
        return np.concatenate([a, self.c * w * a])

    def vjp(self, w, z):
        p = len(w)
        return z[:p] + self.c * w * z[p:]

    def weighted_hessian(self, w, z, a):
        return self.c * z[len(w) :] * a


def curves(p):
    """At w = 0 with targets y: ξ = -y, critical for targets (0, y₂), S = -c y₂."""
    wanted = 0.1 * np.linspace(-1, 1, p)
    wanted[:6] = [-0.5, -0.45, -0.4, 0.6, 0.65, 0.7]
    y = np.concatenate([np.zeros(p), -wanted])
    return posed(Curves(np.ones(p)), gn.SquaredError(y)), np.sort(wanted)


def test_local_factor_of_many_parameters_is_that_of_all_eigenvalues():
    problem, wanted = curves(120)
    few = local_factor(problem, np.zeros(120), dense=False)
    every = local_factor(problem, np.zeros(120))
    np.testing.assert_allclose(every.eigenvalues.values, wanted, atol=1e-14)
    ends = np.concatenate([wanted[:3], wanted[-3:]])
    assert np.all(np.abs(few.eigenvalues.values - ends) <= few.eigenvalues.errors)
    assert few.radius == pytest.approx(0.7, abs=few.error)
    model, w = CASES["network"].model, CASES["network"].w
    loss = gn.SquaredError(targets(model, w, 0.05))
    w = polished(posed(model, loss), w)
    few = local_factor(posed(model, loss), w, dense=False)
    every = local_factor(posed(model, loss), w)
    assert few.radius == pytest.approx(every.radius, abs=few.error + every.error)


def test_local_factor_of_a_hundred_thousand_parameters():
    p = 100_000
    problem, wanted = curves(p)
    tracemalloc.start()
    found = local_factor(problem, np.zeros(p))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 200 * p
    assert abs(found.eigenvalues.largest - wanted[-1]) <= found.eigenvalues.errors[-1]
    assert abs(found.smallest - wanted[0]) <= found.eigenvalues.errors[0]
    assert found.radius == pytest.approx(0.7, abs=1e-6)


# critical points


@pytest.mark.parametrize(
    ("expression", "w", "kind", "inertia"),
    [
        (lambda x, y: 1 + x**2 + 3 * y**2, (0, 0), "minimum", (0, 0, 2)),
        (lambda x, y: 1 + x**2 - 3 * y**2, (0, 0), "saddle", (1, 0, 1)),
        (lambda x, y: 1 - x**2 - 3 * y**2, (0, 0), "maximum", (2, 0, 0)),
        (lambda x, y: 1 + x * y, (0, 0), "saddle", (1, 0, 1)),
        (lambda x, y: 1 + x**2 + y**4, (0, 0), "degenerate", (0, 1, 1)),
        (lambda x, y: 1 - x**2 + y**3, (0, 0), "degenerate", (1, 1, 0)),
        (lambda x, y: 1 + x**2 + 3 * y**2, (0.1, 0), "not critical", (0, 0, 2)),
    ],
)
def test_kinds_of_critical_points(expression, w, kind, inertia):
    found = classify(scalar(expression, 2), np.array(w, dtype=float))
    assert found.kind == kind
    assert found.inertia == inertia


def test_units_tell_small_curvature_from_none():
    problem = scalar(lambda x, y: 1 + 1e-9 * x**2 + 1e9 * y**2, 2)
    assert classify(problem, [0.0, 0.0]).kind == "degenerate"
    assert classify(problem, [0.0, 0.0], units=[3e4, 3e-5]).kind == "minimum"
    with pytest.raises(gn.ArgumentError, match="units"):
        classify(problem, [0.0, 0.0], units=[1.0, 0.0])


@pytest.mark.parametrize("off", [1e-7, 1e-9, 1e-12])
def test_a_point_close_to_a_line_of_minima_is_classified_as_on_it(off):
    """The Hessian is indefinite there, by -3 off²."""
    found = classify(scalar(lambda x, y: y * sp.sqrt(1 + x**2), 2), [1.0, off])
    assert found.kind == "degenerate"
    assert found.morse_bott is True


@pytest.mark.parametrize("x", [-1.3, 0.0, 0.8])
def test_boumals_minima_are_a_line(x):
    found = classify(scalar(lambda x, y: y * sp.sqrt(1 + x**2), 2), [x, 0.0])
    assert found.kind == "degenerate"
    assert found.morse_bott is True
    assert found.solution_dimension == 1
    assert found.newton_decrement == 0
    assert "manifold of minima of dimension 1" in str(found)


@pytest.mark.parametrize(
    ("expression", "w", "holds"),
    [
        (lambda x, y: x * y, (0, 0), False),  # a cross
        (lambda x, y: x * y, (0.7, 0), True),  # away from where it crosses
        (lambda x, y: x**2, (0, 0.4), False),  # a line, but the cost grows as x⁴
        (lambda x, y: x**2 + y**2 - 1, (0.6, 0.8), True),  # a circle
        (lambda x, y: 1 + (x**2 + y**2 - 1) ** 2, (0.6, 0.8), True),  # with a residual
        (lambda x, y: 1 + x**2 + y**4, (0, 0), False),
        (lambda x, y: 1 + (x - y**2) ** 2, (0, 0), True),  # a parabola, not along the null line
        (lambda x, y: 1 + (x - y) ** 2 * (1 + y**2), (0.5, 0.5), True),
    ],
)
def test_morse_bott(expression, w, holds):
    found = classify(scalar(expression, 2), np.array(w, dtype=float))
    assert found.kind == "degenerate"
    assert found.morse_bott is holds
    assert found.solution_dimension == (found.nullity if holds else None)
    assert ("not Morse-Bott" in str(found)) is not holds


def test_redundant_parameters_of_a_fit_are_a_solution_manifold():
    """y = a b e^(-kt): the product alone is determined, at a nonzero residual."""
    t = np.linspace(0, 3, 12)
    model = gn.AutogradModel(lambda w: w[0] * w[1] * anp.exp(-w[2] * t), 3)
    y = 2 * np.exp(-t) + 0.1 * np.sin(9 * t)
    reduced = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * t), 2)
    c, k = polished(posed(reduced, gn.SquaredError(y)), np.array([2.0, 1.0]))
    found = classify(posed(model, gn.SquaredError(y)), [1.6, c / 1.6, k])
    assert found.kind == "degenerate"
    assert found.inertia == (0, 1, 2)
    assert found.morse_bott is True
    assert found.cost > 0.01


@pytest.mark.parametrize("units", [(1.0, 1.0, 1.0), (1e5, 1e-4, 1.0)])
def test_kind_does_not_depend_on_units(units):
    case = CASES["saturation"]
    plain, start = curve()
    w = polished(plain, start)
    scaled = gn.AutogradModel(
        lambda v: (v[0] / units[0])
        * (1 - anp.exp(-v[1] / units[1] * np.linspace(0.2, 4, 9)))
        + v[2] / units[2],
        3,
    )  # fmt: skip
    found = classify(posed(scaled, gn.SquaredError(targets(case.model, case.w, 0.15))), w * units)
    assert found.kind == "minimum"
    assert found.newton_decrement < 1e-6


def test_newton_decrement_is_that_of_the_quadratic():
    model = linear()
    y = np.arange(7.0)
    w = np.array([1.0, -2.0, 0.5])
    problem = posed(model, gn.SquaredError(y))
    best = np.linalg.lstsq(model.jacobian(w), y, rcond=None)[0]
    gap = problem.cost(w) - problem.cost(best)
    found = classify(problem, w)
    assert found.kind == "not critical"
    assert found.newton_decrement == pytest.approx(np.sqrt(2 * gap), rel=1e-10)
    assert classify(problem, best).kind == "minimum"
    assert classify(scalar(lambda x, y: 1 + x * y, 2), [0.0, 0.0]).newton_decrement is None
    assert "gradient norm" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["inertia"] == [0, 0, 3]


def test_network_fitted_exactly_has_the_expected_nullity():
    X = np.random.default_rng(0).standard_normal((4, 3))
    net = gn.FeedforwardNetwork(X, 6, rng=0)
    w = net.initial_parameters + 0.1
    found = classify(posed(net, gn.SquaredError(net(w))), w)
    assert (found.nullity, found.inertia.positive) == (14, 4)
    assert found.morse_bott is True


def test_too_many_parameters_are_refused():
    net = gn.FeedforwardNetwork(np.ones((2, 50)), 50, rng=0)
    problem = posed(net, gn.SquaredError(np.zeros(2)))
    with pytest.raises(gn.ArgumentError, match="spectrum"):
        classify(problem, net.initial_parameters)
    with pytest.raises(gn.ArgumentError, match="tolerance"):
        classify(circle(0.5), [0.0], tolerance=0.0)


# Polyak-Łojasiewicz


def test_ratio_of_a_quadratic_lies_between_its_eigenvalues():
    model = linear()
    problem = posed(model, gn.SquaredError(np.zeros(7)))
    values = np.linalg.svd(model.jacobian(np.ones(3)), compute_uv=False) ** 2
    found = polyak_lojasiewicz_over(problem, np.zeros(3), 2.0, minimum=0.0, samples=2000)
    ratios = found.ratios[1:]  # the centre is the minimum
    assert found.skipped == 1
    assert values[-1] <= found.smallest <= 2 * values[-1]
    assert np.max(ratios) <= values[0] * (1 + 1e-12)
    w = found.parameters[found.where]
    wanted = np.linalg.norm(problem.riemannian_gradient(w)) ** 2 / (2 * problem.cost(w))
    assert found.smallest == pytest.approx(wanted)
    assert found.rate == 2 * found.smallest
    assert np.all(found.positions <= 2.0)


def test_gauss_newton_metric_has_the_ratio_one_without_residual():
    model = linear()
    problem = posed(model, gn.SquaredError(model(np.ones(3))), gn.GaussNewtonMetric())
    found = polyak_lojasiewicz_over(problem, np.zeros(3), 1.0, minimum=0.0, samples=20)
    np.testing.assert_allclose(found.ratios, 1.0, rtol=1e-10)


def test_boumals_function_is_pl_with_its_constant():
    """|∇h|²/2h = 1 + x² + x²y²/(1+x²) >= 1, attained at x = 0."""
    problem = scalar(lambda x, y: y * sp.sqrt(1 + x**2), 2)
    found = polyak_lojasiewicz_over(problem, [0.0, 1.0], 0.9, minimum=0.0, samples=500)
    x, y = found.parameters.T
    np.testing.assert_allclose(found.ratios, 1 + x**2 + x**2 * y**2 / (1 + x**2), rtol=1e-10)
    assert found.smallest == pytest.approx(1.0, abs=1e-12)  # the centre
    assert found.where == 0


def test_ratio_along_a_flow_bounds_its_rate():
    problem = circle(0.5, gn.GaussNewtonMetric())
    flow = integrate(problem, [1.5], 12.0, method="dop853")
    found = polyak_lojasiewicz_along(flow, minimum=0.125)
    gaps = flow.costs - 0.125
    bound = gaps[0] * np.exp(-found.rate * flow.times)
    assert np.all(gaps <= bound * (1 + 1e-9) + 1e-14)
    # near the minimum h - h_min = a t²/2 and |grad h|² = a² t²
    inside = (gaps > 1e-9) & (flow.times > 8)
    np.testing.assert_allclose(found.ratios[inside], 0.5, rtol=1e-3)
    assert not found.estimated


def test_ratio_along_an_optimizers_log():
    problem, start = parabola()
    run = GradientDescent(max_iterations=50, verbosity=0).run(problem, initial_point=start + 0.3)
    found = polyak_lojasiewicz_along(run)
    rows = run.log["iterations"]
    assert found.estimated
    assert found.minimum == min(rows["cost"])
    first = rows["gradient_norm"][0] ** 2 / (2 * (rows["cost"][0] - found.minimum))
    assert found.ratios[0] == pytest.approx(first)
    assert found.parameters.shape == (len(rows["cost"]), 2)
    assert np.isnan(found.ratios[int(np.argmin(rows["cost"]))])
    assert "lowest cost seen" in str(found)
    json.dumps(found.to_dict())
    surface = gn.CompositeProblem(gn.OutputManifold(problem.model), problem.loss)
    run = GaussNewton(verbosity=0).run(surface, initial_point=start + 0.3)
    assert polyak_lojasiewicz_along(run).parameters.shape[1] == 2


def test_pl_fails_at_a_saddle():
    problem = scalar(lambda x, y: 1 + x**2 + (y**2 - 1) ** 2, 2)  # a saddle at 0, minima at ±1
    found = polyak_lojasiewicz_over(problem, [0.0, 0.0], 0.5, minimum=0.5)
    assert found.smallest == 0
    assert found.where == 0


def test_bad_runs_are_refused():
    problem = circle(0.5)
    with pytest.raises(gn.ArgumentError, match="with a log"):
        polyak_lojasiewicz_along(object())
    with pytest.raises(gn.ArgumentError, match="above a cost"):
        polyak_lojasiewicz_over(problem, [0.5], 0.1, minimum=10.0)
    with pytest.raises(gn.ArgumentError, match="radius"):
        polyak_lojasiewicz_over(problem, [0.5], -1.0)
    with pytest.raises(gn.ArgumentError, match="no point"):
        polyak_lojasiewicz_over(problem, [0.0], 1e-12)


def test_the_samples_are_deterministic():
    problem = circle(0.5)
    first, again = (polyak_lojasiewicz_over(problem, [1.0], 0.5, rng=3) for _ in range(2))
    np.testing.assert_array_equal(first.ratios, again.ratios)
