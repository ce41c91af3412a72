"""The fitting function against SciPy's curve_fit and closed forms."""

import json
import pickle

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit as scipy_fit
from zoo import saturation, targets

import gnmanifold as gn

X = np.linspace(0.2, 4, 25)
NOISE = 0.05 * np.random.default_rng(1).standard_normal(25)


def curve(x, amplitude, rate, offset):
    return amplitude * np.exp(-rate * x) + offset


def jacobian(x, amplitude, rate, offset):
    decay = np.exp(-rate * x)
    return np.column_stack([decay, -amplitude * x * decay, np.ones_like(x)])


Y = curve(X, 2.0, 0.7, 0.3) + NOISE
SIGMA = 0.02 + 0.01 * X


@pytest.mark.parametrize("sigma", [None, SIGMA])
@pytest.mark.parametrize("absolute", [False, True])
def test_agrees_with_scipy(sigma, absolute):
    if sigma is None and absolute:
        sigma = np.full(25, 0.05)
    popt, pcov = gn.curve_fit(curve, X, Y, [1, 1, 0], sigma, absolute, jacobian=jacobian)
    expected, covariance = scipy_fit(
        curve, X, Y, [1, 1, 0], sigma, absolute, jac=jacobian, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    np.testing.assert_allclose(popt, expected, rtol=1e-7)
    np.testing.assert_allclose(pcov, covariance, rtol=1e-5)


def test_start_and_names_come_from_the_function():
    result = gn.curve_fit(curve, X, Y)
    assert result.names == ("amplitude", "rate", "offset")
    np.testing.assert_allclose(result.parameters, scipy_fit(curve, X, Y)[0], rtol=1e-4)
    assert "amplitude" in result.summary()

    def anonymous(x, *w):
        return curve(x, *w)

    with pytest.raises(gn.ArgumentError, match="does not name its parameters"):
        gn.curve_fit(anonymous, X, Y)
    unnamed = gn.curve_fit(anonymous, X, Y, [1, 1, 0])
    assert unnamed.names == ("w0", "w1", "w2")


def test_a_straight_line_has_the_textbook_statistics():
    n = len(X)
    fit = gn.curve_fit(lambda x, a, b: a + b * x, X, 1 + 2 * X + NOISE)
    line = stats.linregress(X, 1 + 2 * X + NOISE)
    assert fit.parameters[1] == pytest.approx(line.slope, rel=1e-9)
    np.testing.assert_allclose(fit.standard_errors, [line.intercept_stderr, line.stderr], rtol=1e-6)
    quantile = stats.t.ppf(0.95, n - 2)
    intervals = fit.confidence_intervals(0.9)
    np.testing.assert_allclose(
        intervals[1], line.slope + quantile * line.stderr * np.array([-1, 1]), rtol=1e-6
    )
    s = fit.residual_standard_deviation
    assert s**2 * (n - 2) == pytest.approx(2 * fit.cost)
    variance = s**2 * (1 / n + (X - X.mean()) ** 2 / np.sum((X - X.mean()) ** 2))
    band, wide = fit.confidence_band(level=0.9), fit.prediction_band(level=0.9)
    np.testing.assert_allclose(band[:, 1] - band[:, 0], 2 * quantile * np.sqrt(variance), rtol=1e-5)
    width = 2 * quantile * np.sqrt(variance + s**2)
    np.testing.assert_allclose(wide[:, 1] - wide[:, 0], width, rtol=1e-5)
    np.testing.assert_allclose(np.diag(fit.correlation), 1.0)
    np.testing.assert_allclose(
        fit.residuals, 1 + 2 * X * 0 + fit.model(fit.parameters) - 2 - 2 * X - NOISE, atol=1e-9
    )


def test_bands_at_other_inputs():
    fit = gn.curve_fit(curve, X, Y, [1, 1, 0])
    far = gn.CallableModel(lambda w: curve(np.array([0.0, 10.0]), *w), 3)
    band = fit.confidence_band(far)
    assert band.shape == (2, 2)
    assert np.all(band[:, 0] < far(fit.parameters))
    assert np.all(far(fit.parameters) < band[:, 1])
    with pytest.raises(gn.ShapeError, match="2 parameters, the fit 3"):
        fit.confidence_band(gn.CallableModel(lambda w: w, 2))
    weighted = gn.curve_fit(curve, X, Y, [1, 1, 0], SIGMA)
    with pytest.raises(gn.ArgumentError, match="standard deviations of new data"):
        weighted.prediction_band(far)


def test_coverage_of_the_intervals():
    """Of 200 simulated data sets, 95 % intervals hold the truth in 89 to 99 %."""
    truth, rng = np.array([2.0, 0.7, 0.3]), np.random.default_rng(5)
    held = np.zeros(3)
    for _ in range(200):
        y = curve(X, *truth) + 0.02 * rng.standard_normal(25)
        fit = gn.curve_fit(curve, X, y, truth, jacobian=jacobian)
        low, high = fit.confidence_intervals().T
        held += (low <= truth) & (truth <= high)
    assert np.all(held >= 178)
    assert np.all(held <= 198)


def test_robust_losses_ignore_an_outlier():
    y = Y.copy()
    y[7] += 5.0
    plain = gn.curve_fit(curve, X, y, [1, 1, 0], jacobian=jacobian)
    robust = gn.curve_fit(
        curve, X, y, [1, 1, 0], loss=lambda t: gn.PseudoHuber(t, 0.1), jacobian=jacobian
    )
    reference = gn.curve_fit(curve, X, Y, [1, 1, 0], jacobian=jacobian)
    errors = [np.linalg.norm(f.parameters - reference.parameters) for f in (plain, robust)]
    assert errors[1] < 0.2 * errors[0]
    assert np.all(np.abs(robust.parameters - [2.0, 0.7, 0.3]) < 5 * robust.standard_errors)
    assert np.all(robust.standard_errors < plain.standard_errors)


def test_sandwich_covariance_of_a_location():
    """The Huber estimate of a mean: n/(n-1) Σψ²/(Σψ')²."""
    y = np.random.default_rng(3).standard_t(3, 60)
    fit = gn.fit(lambda w: np.full(60, w[0]), y, [0.0], loss=lambda t: gn.PseudoHuber(t, 1.0))
    r = fit.parameters[0] - y
    slopes, bends = r / np.sqrt(1 + r**2), (1 + r**2) ** -1.5
    expected = 60 / 59 * np.sum(slopes**2) / np.sum(bends) ** 2
    assert fit.covariance[0, 0] == pytest.approx(expected, rel=1e-6)


def test_undetermined_parameters_are_reported():
    fit = gn.fit(lambda w: (w[0] + w[1]) * X, 3 * X + NOISE, [1.0, 1.0])
    assert fit.rank == 1
    assert fit.degrees_of_freedom == 24
    assert "determine only 1 of 2 combinations" in fit.summary()
    assert np.sum(fit.parameters) == pytest.approx(np.sum(X * (3 * X + NOISE)) / np.sum(X**2))
    assert np.all(np.isinf(fit.standard_errors))
    with pytest.raises(gn.ArgumentError, match="there is no band"):
        fit.confidence_band()
    half = gn.fit(lambda w: (w[0] + w[1]) * X + w[2], 3 * X + 1 + NOISE, [1.0, 1.0, 0.0])
    assert list(np.isinf(half.standard_errors)) == [True, True, False]


def test_the_weight_of_a_loss_and_whole_numbers_change_nothing():
    plain = gn.curve_fit(curve, X, Y, [1, 1, 0], jacobian=jacobian)
    heavy = gn.curve_fit(
        curve, X, Y, [1, 1, 0], jacobian=jacobian, loss=lambda t: gn.SquaredError(t, weight=100.0)
    )
    np.testing.assert_allclose(heavy.standard_errors, plain.standard_errors, rtol=1e-8)
    np.testing.assert_allclose(heavy.residuals, plain.residuals, atol=1e-9)
    np.testing.assert_allclose(heavy.prediction_band(), plain.prediction_band(), rtol=1e-8)
    hours = np.arange(1, 40, dtype=np.int16)
    cubic = gn.curve_fit(lambda x, a, b: a + b * x**3, hours, 2.0 + hours.astype(float) ** 3)
    np.testing.assert_allclose(cubic.parameters, [2.0, 1.0], rtol=1e-8)
    listed = gn.curve_fit(lambda x, a, b: a + b * x**-1, [1, 2, 3, 4], [3.0, 2.0, 1.7, 1.5])
    assert listed.converged


def test_a_parameter_whose_value_is_zero_does_not_keep_the_run_going():
    x = np.linspace(-2, 2, 41)
    peak = gn.curve_fit(
        lambda x, a, b, c: a * np.exp(-b * (x - c) ** 2),
        x,
        np.exp(-(x**2)) + 0.05 * np.cos(3 * x),
        [1, 1, 0.3],
    )
    assert peak.converged
    assert peak.iterations < 60
    # sqrt(eps) of the size of x: as far as differences know where the peak is
    assert abs(peak.parameters[2]) < 1e-7


def test_as_many_parameters_as_data():
    fit = gn.fit(lambda w: np.array([w[0], w[0] + w[1]]), [1.0, 3.0], [0.0, 0.0])
    np.testing.assert_allclose(fit.parameters, [1.0, 2.0], atol=1e-9)
    assert np.all(np.isnan(fit.standard_errors))
    assert "no degree of freedom" in fit.summary()


def test_models_of_the_package():
    model, w = saturation(), np.array([3.0, 1.2, 0.5])
    fit = gn.fit(model, targets(model, w, 0.02), w + 0.3, names=("a", "b", "c"))
    assert fit.converged
    assert fit.iterations > 0
    assert fit.costs[-1] == pytest.approx(fit.cost, rel=1e-12)
    assert fit.evaluations.values > 0
    assert str(fit).startswith(" " * 12)
    assert "std. error" in repr(fit)
    other = gn.optimizers.GaussNewton(gn.optimizers.BackTracking(), verbosity=0)
    same = gn.fit(model, targets(model, w, 0.02), w + 0.3, optimizer=other)
    np.testing.assert_allclose(same.parameters, fit.parameters, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gn.fit(saturation(), np.ones(9), [1.0]), r"start must have shape \(3,\)"),
        (lambda: gn.fit(saturation(), np.ones(4), np.ones(3)), r"y must have shape \(9,\)"),
        (lambda: gn.curve_fit(curve, X, Y, [1, 1, 0], -SIGMA), "sigma must be positive"),
        (lambda: gn.curve_fit(curve, X, Y, [1, 1, 0], SIGMA[:4]), "sigma must have shape"),
        (lambda: gn.curve_fit(curve, X, np.full(25, np.nan)), r"y must be finite"),
        (lambda: gn.curve_fit(curve, X, Y, loss=lambda t: 3), "loss must make"),
        (lambda: gn.curve_fit(curve, X, Y, loss=gn.PseudoHuber(Y)), "loss must be a function"),
        (lambda: gn.curve_fit(curve, X, Y, loss="huber"), "loss must be a function"),
        (
            lambda: gn.curve_fit(
                curve, X, Y, loss=lambda t: gn.StronglyConvex(gn.SquaredError(t), 1)
            ),
            "no sum over single data",
        ),
        (
            lambda: gn.curve_fit(
                curve, X, Y, sigma=SIGMA, absolute_sigma=True, loss=gn.PseudoHuber
            ),
            "absolute_sigma is for",
        ),
        (
            lambda: gn.curve_fit(curve, X, Y, [1, 1, 0], loss=gn.PseudoHuber).prediction_band(),
            "how new data scatter",
        ),
        (lambda: gn.curve_fit(curve, X, Y, optimizer="lm"), "optimizer must be"),
        (lambda: gn.curve_fit(curve, X, Y, jacobian="3-point"), "jacobian must be"),
        (lambda: gn.curve_fit("a", X, Y), "function must be"),
        (lambda: gn.fit(saturation(), np.ones(9), np.ones(3), names=("a",)), "names must have"),
        (lambda: gn.curve_fit(curve, X, Y).confidence_intervals(95), "level"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(gn.ArgumentError, match=message):
        call()


@pytest.mark.parametrize("name", ["p0", "bounds", "jac", "method"])
def test_arguments_of_scipys_are_told_apart(name):
    t = np.linspace(0, 1, 5)
    with pytest.raises(gn.ArgumentError, match="an argument of SciPy's curve_fit"):
        gn.curve_fit(lambda t, a: a * t, t, t, **{name: [1.0]})


def test_differences_that_hide_a_rank_are_not_trusted():
    """A condition of 1e12, above rounding and beyond differences that are good to 1e-10."""

    def curve(w):
        return (w[0] + w[1]) * X + 3e-12 * w[1] * X**2

    said = "cannot be told from one of lower rank"
    fit = gn.fit(curve, 3 * X + NOISE, [1.0, 1.0])
    assert fit.rank == 2
    assert said in fit.summary()
    exact = gn.AutogradModel(curve, 2)
    assert said not in gn.fit(exact, 3 * X + NOISE, [1.0, 1.0]).summary()


def growth(x, scale, rate):
    return scale * np.exp(rate * x)


def test_fits_are_saved():
    """Whole by pickle, and in JSON's types, None for what is not finite."""
    fit = gn.curve_fit(growth, X, growth(X, 2.0, 0.3) + NOISE, [1.0, 0.1])
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.covariance, fit.covariance)
    saved = json.loads(json.dumps(fit.to_dict(level=0.9)))
    assert saved["parameters"]["rate"]["estimate"] == fit.parameters[1]
    np.testing.assert_array_equal(
        [each["interval"] for each in saved["parameters"].values()], fit.confidence_intervals(0.9)
    )
    np.testing.assert_array_equal(saved["covariance"], fit.covariance)
    assert saved["converged"] is True
    lost = gn.fit(lambda w: (w[0] + w[1]) * X, 3 * X + NOISE, [1.0, 1.0]).to_dict()
    assert lost["parameters"]["w0"]["standard_error"] is None
    assert lost["rank"] == 1
