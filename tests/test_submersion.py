"""More parameters than outputs: the flat quotient and its horizontal lift."""

import numpy as np
import pytest
from zoo import network, sphere

import gnmanifold as gn
from gnmanifold.geometry import (
    horizontal_lift,
    horizontal_part,
    minimum_norm_step,
    straight_line,
    submersion_hessian,
)
from gnmanifold.optimizers.gauss_newton import gauss_newton_velocity


@pytest.fixture
def model():
    X = np.random.default_rng(0).standard_normal((5, 3))
    return gn.Scaled(gn.FeedforwardNetwork(X, (8,), rng=1), 3.0)


@pytest.fixture
def w(model):
    return model.initial_parameters + 0.1


def test_lift_is_the_pseudo_inverse(model, w):
    J = model.jacobian(w)
    q, a = np.random.default_rng(2).standard_normal((2, 24))
    lifted = horizontal_lift(model, w, q[:5])
    np.testing.assert_allclose(lifted, np.linalg.pinv(J) @ q[:5], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(J @ lifted, q[:5], rtol=1e-11)
    part = horizontal_part(model, w, a)
    np.testing.assert_allclose(J @ (a - part), 0, atol=1e-11)
    assert abs(part @ (a - part)) < 1e-11
    np.testing.assert_allclose(horizontal_part(model, w, part), part, atol=1e-12)


def test_minimum_norm_step_is_gauss_newtons(model, w):
    loss = gn.SquaredError(np.ones(5))
    step, rank = gauss_newton_velocity(gn.Linearization(model, w), loss)
    np.testing.assert_allclose(minimum_norm_step(model, w, loss), -step, rtol=1e-10)
    assert rank == 5


def test_riemannian_hessian_is_the_gauss_newton_matrix(model, w):
    """From its definition ∇²h - ∇h · Γ with Γ = J⁺D²f, while ∇²h itself is another matrix."""
    for loss in (gn.SquaredError(np.ones(5)), gn.Logistic(np.ones(5))):
        J, psi = model.jacobian(w), model(w)
        z = loss.gradient(psi)
        A = np.column_stack([loss.hessian_product(psi, e) for e in np.eye(5)])
        bend = np.column_stack([model.weighted_hessian(w, z, e) for e in np.eye(24)])
        euclidean = J.T @ A @ J + bend
        # ∇h · J⁺D²f[a, ·] with ∇h = Jᵀz
        pulled = np.linalg.pinv(J).T @ (J.T @ z)
        turned = np.column_stack([model.weighted_hessian(w, pulled, e) for e in np.eye(24)])
        hessian = submersion_hessian(model, w, loss)
        np.testing.assert_allclose(hessian, euclidean - turned, atol=1e-10)
        np.testing.assert_allclose(hessian, J.T @ A @ J, atol=1e-11)
        assert np.linalg.norm(hessian - euclidean) > 0.1


def test_damped_hessians_tend_to_it_with_the_damping(model, w):
    loss = gn.SquaredError(np.ones(5))
    limit = submersion_hessian(model, w, loss)
    errors = []
    for damping in (1e-5, 1e-6):
        manifold = gn.ParameterManifold(model, gn.GaussNewtonMetric(damping))
        errors.append(np.linalg.norm(manifold.riemannian_hessian_matrix(w, loss) - limit))
    assert np.log10(errors[0] / errors[1]) == pytest.approx(1, abs=0.02)
    assert errors[1] < 1e-3


def test_lifted_geodesics_have_straight_outputs(model, w):
    q = 0.3 * np.random.default_rng(3).standard_normal(5)
    for time in (0.5, 1.0):
        end = straight_line(model, w, q, time)
        np.testing.assert_allclose(model(end), model(w) + time * q, atol=1e-10)
    # to first order it is the horizontal lift
    h = 1e-5
    near = (straight_line(model, w, q, h) - w) / h
    np.testing.assert_allclose(near, horizontal_lift(model, w, q), atol=1e-4)


def test_at_as_many_outputs_as_parameters_both_views_agree():
    model = gn.CallableModel(
        lambda w: np.array([w[0] + w[1] ** 2, np.exp(w[1])]),
        2,
        jacobian=lambda w: np.array([[1.0, 2 * w[1]], [0.0, np.exp(w[1])]]),
        second_derivative=lambda w, a, b: np.array([2 * a[1] * b[1], np.exp(w[1]) * a[1] * b[1]]),
    )
    w, loss = np.array([0.3, -0.4]), gn.SquaredError([1.0, 2.0])
    manifold = gn.ParameterManifold(model)
    np.testing.assert_allclose(
        manifold.riemannian_hessian_matrix(w, loss), submersion_hessian(model, w, loss), atol=1e-12
    )
    q = np.array([0.2, 0.1])
    np.testing.assert_allclose(
        manifold.exp(w, horizontal_lift(model, w, q)), straight_line(model, w, q), atol=1e-10
    )
    assert manifold.sectional_curvature(w, [1.0, 0.0], [0.0, 1.0]) == pytest.approx(0, abs=1e-12)


def test_surfaces_and_lines_out_of_the_image_are_refused(model, w):
    with pytest.raises(gn.ArgumentError, match="the predictions are a surface"):
        horizontal_lift(sphere(), [1.0, 0.3], np.ones(3))
    with pytest.raises(gn.ArgumentError, match="time"):
        straight_line(model, w, np.ones(5), np.nan)
    with pytest.raises(gn.ShapeError, match="q must have shape"):
        horizontal_lift(model, w, np.ones(4))
    with pytest.raises(gn.ArgumentError, match="loss must be"):
        minimum_norm_step(model, w, "mse")
    bounded = network(widths=(9,))  # tanh: the predictions cannot go that far
    with pytest.raises((gn.GeodesicError, gn.RankDeficientError)):
        straight_line(bounded, bounded.initial_parameters, 1e4 * np.ones(20))
