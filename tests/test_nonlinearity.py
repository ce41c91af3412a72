"""Bates and Watts' curvatures, bias, skewness and profiles, against published and other figures."""

import autograd.numpy as anp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import t as student
from zoo import network, targets

import gnmanifold as gn
from gnmanifold.diagnostics.nonlinearity import (
    curvature_arrays,
    largest_curvature,
    nonlinearity,
    rms_curvature,
)

CONCENTRATION = np.array([0.02, 0.02, 0.06, 0.06, 0.11, 0.11, 0.22, 0.22, 0.56, 0.56, 1.1, 1.1])
RATE = np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200])


def michaelis_menten(w):
    return w[0] * CONCENTRATION / (w[1] + CONCENTRATION)


@pytest.fixture(scope="module")
def puromycin():
    model = gn.AutogradModel(michaelis_menten, 2)
    return gn.fit(model, RATE, [200.0, 0.1], names=("Vm", "K"))


def test_puromycin(puromycin):
    """R's MASS::rms.curv documents 0.2121 and 0.0920; the maxima are those of a fine grid."""
    found = puromycin.nonlinearity()
    assert found.parameter_effects_rms * found.sqrt_f == pytest.approx(0.2121, abs=5e-5)
    assert found.intrinsic_rms * found.sqrt_f == pytest.approx(0.0920, abs=5e-5)
    numbers = found.to_dict()
    assert {
        "parameter_effects_rms", "parameter_effects_max", "intrinsic_rms", "intrinsic_max",
        "sqrt_f", "bias", "skewness",
    } <= set(numbers)  # fmt: skip
    assert numbers["parameter_effects_max"] * numbers["sqrt_f"] == pytest.approx(0.3491, abs=5e-5)
    assert numbers["intrinsic_max"] * numbers["sqrt_f"] == pytest.approx(0.1502, abs=5e-5)
    assert found.trusted
    assert found.skewed == ("K",)
    printed = str(found)
    assert "Vm: symmetric: its linear interval is good." in printed
    assert "K: skewed: its profile interval is better." in printed
    assert "Note: the estimates of K are skewed" in puromycin.summary()


def test_maxima_are_those_of_a_fine_grid(puromycin):
    lin = gn.Linearization(puromycin.model, puromycin.parameters)
    angles = np.linspace(0, np.pi, 20001)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    for A in curvature_arrays(lin)[:2]:
        values = np.linalg.norm(np.einsum("kij,di,dj->dk", A, directions, directions), axis=1)
        value, d = largest_curvature(A, 5, np.random.default_rng(0))
        assert value == pytest.approx(values.max(), rel=1e-6)
        assert np.linalg.norm(A @ d @ d) == pytest.approx(value, rel=1e-12)


def test_rms_is_the_mean_over_the_sphere():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((4, 3, 3))
    A = A + A.swapaxes(1, 2)
    d = rng.standard_normal((400_000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    squares = np.sum(np.einsum("kij,di,dj->dk", A, d, d) ** 2, axis=1)
    error = squares.std() / np.sqrt(len(d))
    assert rms_curvature(A) ** 2 == pytest.approx(squares.mean(), abs=4 * error)


def test_intrinsic_curvature_does_not_know_the_parameters(puromycin):
    """The same model with 1/Vm and log K: the surface is the same, the coordinates are not."""
    other = gn.AutogradModel(lambda v: michaelis_menten([1 / v[0], anp.exp(v[1])]), 2)
    Vm, K = puromycin.parameters
    s = puromycin.residual_standard_deviation
    first = puromycin.nonlinearity()
    second = nonlinearity(other, np.array([1 / Vm, np.log(K)]), s)
    assert second.intrinsic_rms == pytest.approx(first.intrinsic_rms, rel=1e-10)
    assert second.intrinsic_max == pytest.approx(first.intrinsic_max, rel=1e-10)
    assert abs(second.parameter_effects_rms / first.parameter_effects_rms - 1) > 0.05


def test_intrinsic_curvature_is_that_of_the_manifold():
    model = network()
    w = model.initial_parameters
    found = nonlinearity(model, w, 1.0)
    surface = gn.OutputManifold(model)
    wanted = surface.second_fundamental_form_norm(surface.point(w))
    assert found.intrinsic_max == pytest.approx(np.sqrt(len(w)) * wanted, rel=1e-8)


def test_a_linear_model_has_none():
    A = np.random.default_rng(0).standard_normal((9, 3))
    model = gn.CallableModel(
        lambda x: A @ x, 3, jacobian=lambda x: A, second_derivative=lambda x, a, b: np.zeros(9)
    )
    found = nonlinearity(model, np.ones(3), 2.0)
    assert found.parameter_effects_max == found.intrinsic_max == 0
    np.testing.assert_array_equal(found.bias, 0)
    np.testing.assert_array_equal(found.skewness, 0)
    np.testing.assert_allclose(
        found.standard_errors, 2 * np.sqrt(np.diag(np.linalg.inv(A.T @ A))), rtol=1e-12
    )


@pytest.mark.parametrize("sigma", [0.08, 0.04])
def test_bias_and_skewness_against_refits(sigma):
    """4000 fits to simulated data: their mean and third moment, to sampling error + next order."""
    x = np.linspace(0.2, 3, 12)
    true = np.array([1.0, 0.8])
    model = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * x), 2)
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((2000, 12))
    noise = np.concatenate([noise, -noise])  # antithetic: the odd terms of the mean cancel
    estimates = np.array([refit(x, model(true) + sigma * each, true) for each in noise])
    found = nonlinearity(model, true, sigma)
    error = estimates.std(axis=0) / np.sqrt(len(noise))
    next_order = 40 * sigma**2 * np.abs(found.bias)
    np.testing.assert_array_less(
        np.abs(estimates.mean(axis=0) - true - found.bias), 3 * error + next_order
    )
    standardised = (estimates - estimates.mean(axis=0)) / estimates.std(axis=0)
    skewness = np.mean(standardised**3, axis=0)
    sampling = np.sqrt(6 / len(noise))
    np.testing.assert_array_less(
        np.abs(skewness - found.skewness), 4 * sampling + 40 * sigma**2 * np.abs(found.skewness)
    )
    assert np.max(np.abs(found.skewness)) > 2 * sampling  # or the test could not fail


def refit(x, y, start):
    """A plain Gauss-Newton loop for a e^{-bx}, fast enough for thousands of fits."""
    w = start.copy()
    for _ in range(50):
        e = np.exp(-w[1] * x)
        J = np.column_stack([e, -x * w[0] * e])
        step = np.linalg.solve(J.T @ J, J.T @ (y - w[0] * e))
        w = w + step
        if np.max(np.abs(step)) < 1e-10:
            break
    return w


def test_bias_and_skewness_shrink_with_the_noise(puromycin):
    model, w = puromycin.model, puromycin.parameters
    large, small = nonlinearity(model, w, 10.0), nonlinearity(model, w, 1.0)
    np.testing.assert_allclose(small.bias, large.bias / 100, rtol=1e-12)
    np.testing.assert_allclose(small.skewness, large.skewness / 10, rtol=1e-12)
    np.testing.assert_allclose(small.intrinsic_rms, large.intrinsic_rms / 10, rtol=1e-12)


def test_known_standard_deviations(puromycin):
    """The same as with an estimated one, but for the degrees of freedom of it."""
    s = puromycin.residual_standard_deviation
    known = gn.fit(
        gn.AutogradModel(michaelis_menten, 2), RATE, [200.0, 0.1], sigma=s, absolute_sigma=True
    ).nonlinearity()
    estimated = puromycin.nonlinearity()
    assert known.intrinsic_rms == pytest.approx(estimated.intrinsic_rms, rel=1e-9)
    np.testing.assert_allclose(known.skewness, estimated.skewness, rtol=1e-9)
    assert known.sqrt_f < estimated.sqrt_f


# profiles


def test_profiles_of_a_linear_model_are_straight():
    A = np.random.default_rng(0).standard_normal((9, 3))
    y = np.random.default_rng(1).standard_normal(9)
    model = gn.CallableModel(lambda x: A @ x, 3, jacobian=lambda x: A)
    fit = gn.fit(model, y, np.zeros(3))
    np.testing.assert_allclose(fit.profile_intervals(), fit.confidence_intervals(), rtol=1e-8)
    curve = fit.profile(1)
    np.testing.assert_allclose(
        curve.tau, (curve.values - fit.parameters[1]) / fit.standard_errors[1], atol=1e-7
    )
    np.testing.assert_allclose(curve.linear, curve.interval, rtol=1e-8)


def test_profile_of_puromycin_is_the_one_solved_by_hand(puromycin):
    """With K fixed the model is linear in Vm: the cost of K has a closed form."""

    def squares(K):
        column = CONCENTRATION / (K + CONCENTRATION)
        best = (column @ RATE) / (column @ column)
        return np.sum((RATE - best * column) ** 2)

    K = puromycin.parameters[1]
    s = puromycin.residual_standard_deviation
    level = squares(K) + (s * student.ppf(0.975, 10)) ** 2
    ends = (
        brentq(lambda k: squares(k) - level, 0.02, K),
        brentq(lambda k: squares(k) - level, K, 0.2),
    )
    curve = puromycin.profile("K", points=7)
    np.testing.assert_allclose(curve.interval, ends, rtol=1e-8)
    rise = [np.sqrt(squares(k) - squares(K)) / s for k in curve.values]
    np.testing.assert_allclose(np.abs(curve.tau), rise, atol=1e-7)
    assert np.all(np.diff(curve.tau) > 0)
    np.testing.assert_allclose(puromycin.profile_intervals()[1], ends, rtol=1e-8)


def test_an_end_that_rounding_makes_is_none():
    """An exponential that data cannot tell from a line: amplitude and offset run off together."""
    x = np.arange(5.0)
    noise = [0.0189, -0.0523, -0.0413, -0.2441, 0.1800]
    y = 2 * np.exp(-0.5 * x) + 0.3 + np.array(noise)
    fit = gn.curve_fit(lambda x, a, k, c: a * np.exp(-k * x) + c, x, y, [1.0, 1.0, 0.0])
    (_, above), _, (below, _) = fit.profile_intervals()
    assert above == np.inf
    assert below == -np.inf


def test_an_interval_without_end():
    """A rate that the data cannot tell from infinitely fast: no upper end."""
    x = np.array([0.0, 1.0, 1.5, 2.0, 2.5, 3.0])
    y = np.array([1.0, 0.02, -0.03, 0.01, 0.02, -0.01])
    fit = gn.fit(gn.AutogradModel(lambda w: anp.exp(-anp.exp(w[0]) * x) + w[1], 2), y, [1.2, 0.0])
    low, high = fit.profile("w0", level=0.99).interval
    assert np.isfinite(low)
    assert high == np.inf
    assert fit.confidence_intervals(0.99)[0, 1] < np.inf


@pytest.mark.parametrize("which", ["logarithm", "logarithm and line", "square root"])
def test_intervals_that_end_near_the_edge_of_the_domain(which):
    """The end lies between a point where the cost is too low and one where there is no cost."""
    x = np.linspace(0.1, 2, 12)
    if which == "square root":
        model = gn.CallableModel(
            lambda w: np.sqrt(w[0]) * x, 1, jacobian=lambda w: (0.5 / np.sqrt(w[0]) * x)[:, None]
        )
        y, start, edge = 1.2 * x + 0.7 * np.sin(9 * x), [1.0], 0.0
    else:
        line = which.endswith("line")
        model = gn.CallableModel(
            lambda w: np.log(w[0]) * x + (w[1] if line else 0.0),
            2 if line else 1,
            jacobian=lambda w: np.column_stack([x / w[0], np.ones(12)] if line else [x / w[0]]),
        )
        y = 0.1 * x + 0.2 + 2 * np.random.default_rng(0).standard_normal(12)
        start, edge = ([1.0, 0.0] if line else [1.0]), 0.0
    fit = gn.fit(model, y, start)
    low, high = fit.profile("w0", points=5).interval
    assert edge < low < fit.parameters[0] < high
    # the model is linear in log w0, or in its root: there the interval is the linear one
    turn = np.sqrt if which == "square root" else np.log
    center, slope = turn(fit.parameters[0]), fit.parameters[0]
    width = fit.profile("w0", points=2).quantile * fit.standard_errors[0]
    width = width / (2 * np.sqrt(slope)) if which == "square root" else width / slope
    np.testing.assert_allclose([turn(low), turn(high)], [center - width, center + width], rtol=1e-6)


def test_units_do_not_matter_however_odd():
    for size in (1e-105, 1e120):
        model = gn.AutogradModel(
            lambda w, size=size: w[0] * CONCENTRATION / (w[1] / size + CONCENTRATION), 2
        )
        found = gn.fit(model, RATE, [200.0, 0.1 * size]).nonlinearity()
        assert found.skewness[1] == pytest.approx(0.3207, abs=1e-4)
        assert found.skewed == ("w1",)


def test_a_bad_fit_says_so():
    """Two exponentials that are hardly apart: intervals of a linear model make no sense."""
    rng = np.random.default_rng(3)
    x = np.linspace(0, 3, 15)
    y = np.exp(-x) + np.exp(-4 * x) + 0.02 * rng.standard_normal(15)
    model = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * x) + w[2] * anp.exp(-w[3] * x), 4)
    fit = gn.fit(model, y, [1.0, 0.8, 1.0, 2.0])
    found = fit.nonlinearity()
    assert not found.trusted
    assert "Warning: the linear intervals cannot be trusted" in fit.summary()
    assert "profile_intervals()" in fit.summary()
    assert any("take profile intervals" in sentence for sentence in found.advice())


def test_what_cannot_be_diagnosed():
    model = gn.AutogradModel(michaelis_menten, 2)
    robust = gn.fit(model, RATE, [200.0, 0.1], loss=gn.PseudoHuber)
    for method in (robust.nonlinearity, robust.profile_intervals):
        with pytest.raises(gn.ArgumentError, match="by least squares"):
            method()
    fit = gn.fit(model, RATE, [200.0, 0.1])
    with pytest.raises(gn.ArgumentError, match="no parameter is called 'Vmax'"):
        fit.profile("Vmax")
    with pytest.raises(gn.UnderdeterminedError, match="more data than the 2 parameters"):
        nonlinearity(gn.AutogradModel(lambda w: w[:2] ** 2, 2), np.ones(2), 1.0)
    deficient = gn.AutogradModel(lambda w: (w[0] + w[1]) * CONCENTRATION, 2)
    with pytest.raises(gn.RankDeficientError):
        nonlinearity(deficient, np.ones(2), 1.0)
    away = gn.fit(
        model,
        RATE,
        [300.0, 0.3],
        optimizer=gn.optimizers.GaussNewton(max_iterations=0, verbosity=0),
    )
    with pytest.raises(gn.ArgumentError, match="the fit is no minimum"):
        away.profile("w0")


def test_fixed_parameters():
    model = network()
    w = model.initial_parameters
    fixed = gn.Fixed(model, {2: w[2], 5: 0.3})
    v = w[fixed.free]
    full = fixed.full(v)
    assert full[2] == w[2]
    assert full[5] == 0.3
    np.testing.assert_array_equal(fixed(v), model(full))
    loss = gn.SquaredError(targets(model, w, 0.1))
    manifold = gn.ParameterManifold(fixed, gn.EuclideanMetric())
    problem = gn.CompositeProblem(manifold, loss)
    assert gn.check_gradient(problem, v, rng=0)
    assert gn.check_hessian(problem, v, rng=0)
    a, b = np.random.default_rng(0).standard_normal((2, len(v)))
    np.testing.assert_allclose(
        fixed.jacobian_derivative(v, a) @ b, fixed.second_derivative(v, a, b), rtol=1e-10
    )
    np.testing.assert_allclose(fixed.jvp(v, a), fixed.jacobian(v) @ a, rtol=1e-12)
    for wrong in ({99: 1.0}, {0: np.nan}, dict.fromkeys(range(len(w)), 0.0)):
        with pytest.raises(gn.ArgumentError):
            gn.Fixed(model, wrong)
