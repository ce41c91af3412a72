import numpy as np
import pytest
from scipy.special import expit, gammaln, log_softmax
from scipy.stats import poisson

import gnmanifold as gn

RNG = np.random.default_rng(0)
N = 12


def losses():
    real, binary = RNG.standard_normal(N), RNG.integers(0, 2, N)
    yield gn.SquaredError(real, weight=2.5)
    yield gn.Logistic(binary)
    yield gn.Logistic(RNG.uniform(size=N))
    yield gn.Poisson(RNG.poisson(3.0, N))
    yield gn.PseudoHuber(real, delta=0.7)
    yield gn.Softmax(RNG.integers(0, 3, N // 3), num_classes=3)
    yield gn.Softmax(np.array([[0.2, 0.8], [1.0, 0.0]] * 3))
    yield gn.StronglyConvex(gn.Poisson(RNG.poisson(3.0, N)), 0.3)
    yield gn.StronglyConvex(gn.Softmax(RNG.integers(0, 4, 3), 4), 0.3)
    yield gn.StronglyConvex(gn.StronglyConvex(gn.SquaredError(real), 0.3), 0.2)


every_loss = pytest.mark.parametrize("loss", list(losses()), ids=lambda x: type(x).__name__)


@every_loss
def test_derivatives_by_differences_of_the_order_below(loss):
    psi, u, v, w = RNG.standard_normal((4, N))
    h = 1e-5
    slope = (loss.value(psi + h * u) - loss.value(psi - h * u)) / (2 * h)
    assert loss.gradient(psi) @ u == pytest.approx(slope, rel=1e-7, abs=1e-8)
    image = (loss.gradient(psi + h * u) - loss.gradient(psi - h * u)) / (2 * h)
    np.testing.assert_allclose(loss.hessian_product(psi, u), image, atol=1e-8)
    bent = (loss.hessian_product(psi + h * u, v) - loss.hessian_product(psi - h * u, v)) / (2 * h)
    np.testing.assert_allclose(loss.third_product(psi, u, v), bent, atol=1e-8)
    assert loss.third_product(psi, u, v) @ w == pytest.approx(loss.third_product(psi, w, v) @ u)


@every_loss
def test_root_of_the_hessian_and_its_residual(loss):
    psi, u, v = RNG.standard_normal((3, N))
    S = loss.hessian_root(psi, np.eye(N))
    np.testing.assert_allclose(S.T @ (S @ u), loss.hessian_product(psi, u), atol=1e-13)
    np.testing.assert_allclose(loss.hessian_root(psi, v), S @ v, atol=1e-14)
    np.testing.assert_allclose(S.T @ loss.root_residual(psi), loss.gradient(psi), atol=1e-13)
    r = RNG.standard_normal(len(S))
    np.testing.assert_allclose(loss.hessian_root_transpose(psi, r), S.T @ r, atol=1e-13)
    W = RNG.standard_normal((N, 2))
    for batched in (lambda x: loss.third_product(psi, u, x), lambda x: loss.hessian_solve(psi, x)):
        columns = np.column_stack([batched(column) for column in W.T])
        np.testing.assert_allclose(batched(W), columns, rtol=1e-12, atol=1e-13)
    solved = loss.hessian_product(psi, loss.hessian_solve(psi, S.T @ r))
    np.testing.assert_allclose(solved, S.T @ r, atol=1e-12)


@every_loss
def test_curvature_lies_between_nu_and_mu(loss):
    for scale in (0.1, 1.0, 5.0):
        psi = scale * RNG.standard_normal(N)
        H = np.column_stack([loss.hessian_product(psi, unit) for unit in np.eye(N)])
        eigenvalues = np.linalg.eigvalsh(H)
        assert eigenvalues[0] >= loss.nu - 1e-12
        assert eigenvalues[-1] <= loss.mu + 1e-12
        if loss.isotropic is not None:
            np.testing.assert_allclose(H, loss.isotropic * np.eye(N), atol=1e-14)


def test_values_against_scipy():
    psi = RNG.standard_normal(N)
    counts = RNG.poisson(2.0, N)
    likelihood = -np.sum(poisson.logpmf(counts, np.exp(psi))) - np.sum(gammaln(counts + 1))
    assert gn.Poisson(counts).value(psi) == pytest.approx(likelihood, rel=1e-12)
    binary = RNG.integers(0, 2, N)
    likelihood = -np.sum(np.log(np.where(binary == 1, expit(psi), expit(-psi))))
    assert gn.Logistic(binary).value(psi) == pytest.approx(likelihood, rel=1e-12)
    labels = RNG.integers(0, 3, 4)
    likelihood = -np.sum(log_softmax(psi.reshape(4, 3), axis=1)[np.arange(4), labels])
    assert gn.Softmax(labels, 3).value(psi) == pytest.approx(likelihood, rel=1e-12)


def test_pseudo_huber_limits():
    small = gn.PseudoHuber(np.zeros(1), delta=2.0)
    assert small.value([1e-9]) == pytest.approx(0.5e-18, rel=1e-12)
    assert small.value([1e9]) == pytest.approx(2e9 - 4, rel=1e-12)
    assert small.gradient([1e200])[0] == pytest.approx(2.0)


def test_losses_stay_finite_far_out():
    psi = np.array([-900.0, 900.0, 0.0])
    for loss in (gn.Logistic([1, 0, 1]), gn.Softmax([2], 3), gn.PseudoHuber(np.zeros(3))):
        assert np.isfinite(loss.value(psi))
        assert np.all(np.isfinite(loss.gradient(psi)))
        assert np.all(np.isfinite(loss.hessian_product(psi, np.ones(3))))
        assert np.all(np.isfinite(loss.hessian_root(psi, np.eye(3))))
        assert np.all(np.isfinite(loss.hessian_solve(psi, np.ones(3))))


def test_residual_of_a_strongly_convex_softmax_survives_underflow():
    loss = gn.StronglyConvex(gn.Softmax([2], 3), 1e-3)
    for size in (300.0, 400.0, 800.0):
        psi = np.array([0.0, size, -size])
        S = loss.hessian_root(psi, np.eye(3))
        np.testing.assert_allclose(
            S.T @ loss.root_residual(psi), loss.gradient(psi), rtol=1e-9, atol=1e-12
        )


def test_reach_is_the_distance_to_the_targets_for_squared_error():
    assert gn.SquaredError([3.0, 4.0], weight=7.0).reach == pytest.approx(5.0)
    assert gn.Logistic([1, 0, 1, 0]).reach == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: gn.SquaredError([1.0, np.nan]), gn.NonFiniteError, r"y\[1\] is nan"),
        (lambda: gn.SquaredError([[1.0]]), gn.ShapeError, "y must have shape"),
        (lambda: gn.SquaredError([1.0], weight=0), gn.ArgumentError, "weight"),
        (lambda: gn.SquaredError(["a"]), gn.ArgumentError, "y must be an array of real numbers"),
        (lambda: gn.Logistic([0, 2]), gn.ArgumentError, r"y\[1\] is 2"),
        (lambda: gn.Poisson([-1.0]), gn.ArgumentError, r"y\[0\] is -1"),
        (lambda: gn.PseudoHuber([1.0], delta=-1), gn.ArgumentError, "delta"),
        (lambda: gn.Softmax([0, 1]), gn.ArgumentError, "num_classes is needed"),
        (lambda: gn.Softmax([0, 3], 3), gn.ArgumentError, r"y\[1\] is 3"),
        (lambda: gn.Softmax([0.5], 3), gn.ArgumentError, "whole class numbers"),
        (lambda: gn.Softmax([[0.5, 0.6]]), gn.ArgumentError, "row 0 sums to 1.1"),
        (lambda: gn.StronglyConvex(gn.Logistic([1]), -1), gn.ArgumentError, "nu"),
        (lambda: gn.StronglyConvex(None, 1), gn.ArgumentError, "loss must be"),
        (lambda: gn.Logistic([1, 0]).value([1.0]), gn.ShapeError, r"\(2,\), got \(1,\)"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
