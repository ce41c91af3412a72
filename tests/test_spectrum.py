"""Spectra, traces and densities: closed forms, dense eigenvalues, stated errors, and memory."""

import json
import tracemalloc

import autograd.numpy as anp
import numpy as np
import pytest
import scipy.linalg
from zoo import CASES, linear, network, rank_deficient, targets

import gnmanifold as gn
from gnmanifold.diagnostics.lanczos import extreme_eigenvalues, lanczos, metric_of
from gnmanifold.diagnostics.spectrum import (
    hessian_density,
    hessian_trace,
    spectral_density,
    spectrum,
    trace,
)


def posed(model, loss, metric=None):
    return gn.CompositeProblem(gn.ParameterManifold(model, metric or gn.EuclideanMetric()), loss)


def boumal():
    """h = x₂²(1+x₁²)/2, whose minima are the line x₂ = 0."""
    model = gn.AutogradModel(lambda x: anp.array([x[1] * anp.sqrt(1 + x[0] ** 2)]), 2)
    return posed(model, gn.SquaredError(np.zeros(1)))


def medium(n=80, width=15, loss=gn.SquaredError, seed=0):
    """A network with p = 60, and targets of its kind."""
    rng = np.random.default_rng(seed)
    net = gn.FeedforwardNetwork(rng.standard_normal((n, 4)), width, rng=rng)
    y = rng.poisson(2.0, n) if loss is gn.Poisson else rng.standard_normal(n)
    w = net.initial_parameters + 0.3 * rng.standard_normal(net.num_parameters)
    return net, loss(y), w


def differences(h, w, step=1e-4):
    """Hessian of a function by central differences."""
    units = step * np.eye(len(w))
    return np.array(
        [
            [
                (h(w + a + b) - h(w + a - b) - h(w - a + b) + h(w - a - b)) / (4 * step**2)
                for a in units
            ]
            for b in units
        ]
    )


# all eigenvalues


def test_linear_model_has_the_squares_of_its_singular_values():
    model = linear()
    found = spectrum(posed(model, gn.SquaredError(np.ones(7))), np.ones(3))
    wanted = np.linalg.svd(model.jacobian(np.ones(3)), compute_uv=False)[::-1] ** 2
    for part in (found.gauss_newton, found.hessian, found.riemannian):
        np.testing.assert_allclose(part.values, wanted, rtol=1e-13)
        assert np.all(np.abs(part.values - wanted) <= part.errors)
    assert found.sharpness == pytest.approx(wanted[-1])
    assert found.hessian.condition == pytest.approx(wanted[-1] / wanted[0])
    assert found.hessian.inertia == (0, 0, 3)
    assert found.kept == 3
    assert found.filtered_condition == pytest.approx(found.hessian.condition)


def test_linear_model_is_perfectly_conditioned_in_its_own_metric():
    problem = posed(linear(), gn.SquaredError(np.ones(7), weight=2.0), gn.GaussNewtonMetric())
    values = spectrum(problem, np.ones(3)).riemannian.values
    np.testing.assert_allclose(values, 2.0, rtol=1e-12)


@pytest.mark.parametrize("name", ["saturation", "network"])
def test_hessian_is_that_of_differences_of_the_cost(name):
    case = CASES[name]
    loss = gn.SquaredError(targets(case.model, case.w))
    found = spectrum(posed(case.model, loss), case.w)
    wanted = np.linalg.eigvalsh(differences(lambda w: loss.value(case.model(w)), case.w))
    # differences lose eps/step² of the cost and gain step²
    np.testing.assert_allclose(found.hessian.values, wanted, atol=1e-6 * found.sharpness)
    J = case.model.jacobian(case.w)
    flat = np.linalg.eigvalsh(J.T @ J)
    np.testing.assert_allclose(found.gauss_newton.values, flat, atol=1e-12 * flat[-1])


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("kind", [gn.SquaredError, gn.Poisson])
def test_riemannian_hessian_is_relative_to_the_metric(kind, damping):
    model, loss, w = medium(loss=kind)
    metric = gn.GeneralizedGaussNewtonMetric(loss, damping)
    problem = posed(model, loss, metric)
    found = spectrum(problem, w)
    G = np.column_stack([problem.manifold.at(w).lower(e) for e in np.eye(len(w))])
    M = problem.manifold.riemannian_hessian_matrix(w, loss)
    wanted = scipy.linalg.eigh(M, 0.5 * (G + G.T), eigvals_only=True)
    assert np.all(np.abs(found.riemannian.values - wanted) <= found.riemannian.errors)
    assert found.riemannian.errors.max() < 1e-6 * np.abs(wanted).max()
    own = problem.manifold.riemannian_hessian_eigenvalues(w, loss)
    np.testing.assert_allclose(found.riemannian.values, own, atol=found.riemannian.errors[0])


def test_small_eigenvalues_keep_their_digits():
    """λ = 1e-20 beside 1: lost in JᵀJ, kept by the singular values."""
    scales = np.array([1.0, 1e-10])
    model = gn.CallableModel(
        lambda w: scales * w,
        2,
        jacobian=lambda w: np.diag(scales),
        second_derivative=lambda w, a, b: np.zeros(2),
    )
    found = spectrum(posed(model, gn.SquaredError(np.zeros(2))), np.ones(2)).gauss_newton
    assert found.smallest == pytest.approx(1e-20, rel=1e-10)
    assert found.errors[0] < 0.01 * found.smallest
    assert found.inertia == (0, 0, 2)


def test_filter_keeps_the_codimension_of_the_minima():
    x1, x2 = 1.0, 1e-3
    found = spectrum(boumal(), [x1, x2])
    H = np.array([[x2**2, 2 * x1 * x2], [2 * x1 * x2, 1 + x1**2]])
    np.testing.assert_allclose(found.hessian.values, np.linalg.eigvalsh(H), atol=1e-12)
    assert found.hessian.inertia == (1, 0, 1)
    assert found.gauss_newton.inertia == (0, 1, 1)
    assert found.kept == 1
    assert found.filtered_condition == 1.0
    at_minimum = spectrum(boumal(), [x1, 0.0])
    assert at_minimum.hessian.inertia == (0, 1, 1)
    assert at_minimum.hessian.condition == np.inf
    np.testing.assert_allclose(at_minimum.filtered, [2.0], rtol=1e-12)


def test_riemannian_hessian_is_absent_where_there_is_none():
    model, loss, w = medium()
    for metric, reason in (
        (gn.LevenbergMarquardtMetric(0.1, "marquardt"), "no connection"),
        (gn.FilteredHessianMetric(loss, rank=3), "no connection"),
    ):
        found = spectrum(posed(model, loss, metric), w)
        assert found.riemannian is None
        assert reason in str(found)
        assert found.to_dict()["riemannian"] is None
    deficient = posed(rank_deficient(), gn.SquaredError(np.zeros(3)), gn.GaussNewtonMetric())
    found = spectrum(deficient, [0.3, 0.4])
    assert found.riemannian is None
    assert "degenerate" in found.absent
    assert found.gauss_newton.inertia == (0, 1, 1)


def test_spectrum_on_the_surface_is_that_of_the_parameters():
    model, w = network(), CASES["network"].w
    loss = gn.SquaredError(targets(model, w))
    surface = gn.CompositeProblem(gn.OutputManifold(model), loss)
    there = spectrum(surface, surface.manifold.point(w)).riemannian
    here = spectrum(posed(model, loss, gn.GaussNewtonMetric()), w).riemannian
    np.testing.assert_allclose(there.values, here.values, rtol=1e-12)


def test_differenced_models_state_a_larger_error():
    exact = CASES["saturation"]
    model = gn.CallableModel(exact.model, 3)
    loss = gn.SquaredError(targets(exact.model, exact.w))
    rough = spectrum(posed(model, loss), exact.w).hessian
    fine = spectrum(posed(exact.model, loss), exact.w).hessian
    assert np.all(np.abs(rough.values - fine.values) <= rough.errors)
    assert rough.errors[0] > 1e6 * fine.errors[0]


# extreme eigenvalues from products

METRICS = (
    lambda loss: gn.EuclideanMetric(),
    lambda loss: gn.GaussNewtonMetric(0.2),
    lambda loss: gn.GeneralizedGaussNewtonMetric(loss, 0.2),
)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("loss", [gn.SquaredError, gn.Poisson])
@pytest.mark.parametrize("n", [30, 80])
def test_lanczos_agrees_with_all_eigenvalues_within_its_error(metric, loss, n):
    model, g, w = medium(n, loss=loss)
    problem = posed(model, g, metric(g))
    few, every = spectrum(problem, w, k=3, dense=False), spectrum(problem, w)
    for name in ("gauss_newton", "hessian", "riemannian"):
        part, whole = getattr(few, name), getattr(every, name)
        wanted = whole.values
        if not part.complete:
            wanted = np.concatenate([wanted[:3], wanted[-3:]])
        assert np.all(np.abs(part.values - wanted) <= part.errors + whole.errors.max()), name
        assert part.errors.max() < 1e-7 * np.abs(wanted).max()


def test_lanczos_gives_a_smaller_set_for_many_outputs():
    model, g, w = medium(700, width=200)  # p = 800 > n > 512: no kernel of all of them
    problem = posed(model, g)
    found = spectrum(problem, w, k=2)
    J = model.jacobian(w)
    wanted = np.linalg.eigvalsh(J @ J.T)[-2:]
    np.testing.assert_allclose(found.gauss_newton.values, [0, 0, *wanted], rtol=1e-9)
    assert not found.gauss_newton.complete
    assert found.gauss_newton.inertia is None
    assert "of 800" in str(found)
    assert found.kept == 2  # a lower bound: of those computed


def test_stated_errors_hold_where_lanczos_does_not_converge(monkeypatch):
    rng = np.random.default_rng(0)
    values = np.sort(rng.uniform(-1, 1, 400))
    rotation = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    matrix = rotation * values @ rotation.T
    monkeypatch.setattr("gnmanifold.diagnostics.lanczos._RESTARTS", 1)
    monkeypatch.setattr("gnmanifold.diagnostics.lanczos._RITZ", 30)
    found = extreme_eigenvalues(lambda a: matrix @ a, 400, 3, np.random.default_rng(1))
    assert found.errors.max() > 1e-6
    nearest = np.min(np.abs(found.values[:, None] - values), axis=1)
    assert np.all(nearest <= found.errors)


def test_stated_errors_hold_in_a_metric_too(monkeypatch):
    rng = np.random.default_rng(0)
    root = rng.standard_normal((200, 200)) + 20 * np.eye(200)
    G, M = root.T @ root, rng.standard_normal((200, 200))
    M = M + M.T
    wanted = scipy.linalg.eigh(M, G, eigvals_only=True)
    monkeypatch.setattr("gnmanifold.diagnostics.lanczos._RESTARTS", 1)
    monkeypatch.setattr("gnmanifold.diagnostics.lanczos._BASIS", 12)
    monkeypatch.setattr("gnmanifold.diagnostics.lanczos._RITZ", 25)
    metric = metric_of(lambda a: G @ a)
    rng = np.random.default_rng(1)
    found = extreme_eigenvalues(lambda a: M @ a, 200, 3, rng, metric=metric)
    assert found.errors.max() > 1e-6 * wanted[-1]
    nearest = np.min(np.abs(found.values[:, None] - wanted), axis=1)
    assert np.all(nearest <= found.errors)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_lanczos_survives_low_rank(rank):
    root = np.random.default_rng(0).standard_normal((rank, 300))
    found = extreme_eigenvalues(lambda a: root.T @ (root @ a), 300, 5, np.random.default_rng(1))
    wanted = np.zeros(5)
    wanted[5 - rank :] = np.linalg.eigvalsh(root @ root.T)
    np.testing.assert_allclose(found.values[5:], wanted, atol=1e-9 * (1 + wanted[-1]))
    np.testing.assert_allclose(found.values[:5], 0, atol=1e-9 * (1 + wanted[-1]))


def test_singular_metric_is_refused():
    metric = metric_of(lambda a: np.concatenate([a[:1], np.zeros(len(a) - 1)]))
    with pytest.raises(gn.ArgumentError, match="singular or nearly"):
        metric.solve(np.ones(5))
    np.testing.assert_array_equal(metric.solve(np.zeros(5)), np.zeros(5))


def test_lanczos_matrix_has_the_moments_of_its_start():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((30, 30))
    A, start = A + A.T, rng.standard_normal(30)
    alpha, beta, last = lanczos(lambda a: A @ a, start, 6)
    T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    start /= np.linalg.norm(start)
    for degree in range(12):  # exact up to 2m - 1
        moment = np.linalg.matrix_power(T, degree)[0, 0]
        wanted = start @ np.linalg.matrix_power(A, degree) @ start
        assert moment == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert last > 0
    assert lanczos(lambda a: 3 * a, start, 6)[2] == 0


# traces and densities


@pytest.mark.parametrize("which", ["hessian", "gauss_newton"])
def test_trace_is_within_its_standard_error(which):
    model, loss, w = medium()
    problem = posed(model, loss)
    wanted = getattr(spectrum(problem, w), which).values.sum()
    found = hessian_trace(problem, w, which, samples=200)
    assert abs(found.value - wanted) < 3 * found.error  # a chance of 1 in 400, at a fixed seed
    assert found.error < 0.1 * abs(wanted)
    assert hessian_trace(problem, w, which, samples=200) == found


def test_standard_error_of_the_trace_is_calibrated():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((20, 20))
    A = A + A.T
    runs = [trace(lambda a: A @ a, 20, 50, rng) for _ in range(300)]
    off = np.array([(run.value - np.trace(A)) / run.error for run in runs])
    # the standard deviation of 300 draws is known to 4 %
    assert 0.85 < off.std() < 1.2
    assert abs(off.mean()) < 0.2
    diagonal = np.arange(20.0)
    assert trace(lambda a: diagonal * a, 20, 2) == (190.0, 0.0)


def test_density_has_the_moments_and_shares_of_the_eigenvalues():
    model, loss, w = medium()
    problem = posed(model, loss)
    values = spectrum(problem, w).hessian.values
    found = hessian_density(problem, w, samples=40, steps=60)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)
    for function in (lambda x: x, np.square):
        mean = found.mean_of(function)
        assert abs(mean.value - function(values).mean()) < 3 * mean.error
    share = found.share_below(0.0)
    assert abs(share.value - np.mean(values < 0)) < 3 * share.error
    grid = np.linspace(values[0] - 9, values[-1] + 9, 8001)
    assert np.trapezoid(found(grid), grid) == pytest.approx(1.0, abs=1e-6)
    assert np.all(found(grid, width=0.1) >= 0)
    assert found(0.0).shape == ()


def test_density_of_few_distinct_eigenvalues_is_exact():
    diagonal = np.repeat([-1.0, 0.0, 5.0], [10, 60, 30])
    found = spectral_density(lambda a: diagonal * a, 100, steps=50, samples=3)
    assert found.share_below(-0.5).value == pytest.approx(0.1, abs=1e-12)  # signs weigh alike
    assert found.share_below(2.5).value == pytest.approx(0.7, abs=1e-12)
    constant = spectral_density(lambda a: 2 * a, 100, samples=2)
    assert constant.mean_of(np.log).value == pytest.approx(np.log(2))
    assert np.all(np.isfinite(constant(np.linspace(1, 3, 5), width=0.1)))


# large p


@pytest.mark.parametrize(("samples", "outputs"), [(20, 1), (180, 3)])
def test_a_hundred_thousand_parameters_in_bounded_memory(samples, outputs):
    """Peak of some 150 vectors, Lanczos' bases and copies, far below the n·p of a Jacobian."""
    X = np.random.default_rng(0).standard_normal((samples, 49))
    net = gn.FeedforwardNetwork(X, 2000, outputs=outputs, normalization="ntk", rng=1)
    p, n = net.num_parameters, net.num_outputs
    assert p == 98000
    problem = posed(net, gn.SquaredError(np.sin(np.arange(n))))
    tracemalloc.start()
    found = spectrum(problem, net.initial_parameters, k=1)
    area = hessian_trace(problem, net.initial_parameters, "gauss_newton", samples=4)
    density = hessian_density(problem, net.initial_parameters, steps=10, samples=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    activations = 12 * samples * 2000  # a few arrays of a forward pass of second order
    assert peak < 8 * (150 * p + activations)
    if n > 500:
        assert peak < 0.3 * 8 * n * p
    assert not problem.manifold.at(net.initial_parameters).lin.has_jacobian
    assert found.hessian.errors.max() < 1e-6 * found.sharpness
    assert found.riemannian is found.hessian
    assert np.all(np.isfinite(density.nodes))
    if found.gauss_newton.complete:
        assert found.gauss_newton.inertia == (0, p - n, n)
        assert abs(area.value - found.gauss_newton.values.sum()) < 4 * area.error


def test_damped_metric_of_large_p():
    X = np.random.default_rng(0).standard_normal((30, 9))
    net = gn.FeedforwardNetwork(X, 100, rng=1)
    problem = posed(net, gn.SquaredError(np.sin(np.arange(30.0))), gn.GaussNewtonMetric(0.1))
    w = net.initial_parameters
    few = spectrum(problem, w, k=3).riemannian
    every = spectrum(problem, w, dense=True).riemannian
    assert few.size == 900
    wanted = np.concatenate([every.values[:3], every.values[-3:]])
    assert np.all(np.abs(few.values - wanted) <= few.errors + every.errors.max())


# arguments and output


def test_it_prints_and_serializes():
    found = spectrum(boumal(), [1.0, 0.5])
    text = str(found)
    assert "gauss_newton" in text
    assert "1 of 2 eigenvalues kept" in text
    numbers = json.loads(json.dumps(found.to_dict()))
    assert numbers["sharpness"] == found.sharpness
    assert numbers["hessian"]["inertia"] == list(found.hessian.inertia)


def test_bad_arguments_are_refused():
    problem = boumal()
    with pytest.raises(gn.ArgumentError, match="CompositeProblem"):
        spectrum(object(), [1.0, 0.0])
    with pytest.raises(gn.ArgumentError, match="k must lie"):
        spectrum(problem, [1.0, 0.0], k=1, dense=False)
    with pytest.raises(gn.ArgumentError, match="which must be one of"):
        hessian_trace(problem, [1.0, 0.0], "fisher")
    with pytest.raises(gn.ArgumentError, match="at least 2"):
        hessian_density(problem, [1.0, 0.0], samples=1)
    with pytest.raises(gn.NonFiniteError):
        spectrum(problem, [np.nan, 0.0])
