"""Stiff and sloppy directions, and the boundaries of prediction surfaces."""

import autograd.numpy as anp
import numpy as np
import pytest

import gnmanifold as gn
from gnmanifold.diagnostics.sloppiness import follow_to_boundary, sloppiness

X = np.array([0.5, 1.0, 2.0, 4.0])


def two_exponentials():
    """Two decay rates, in logarithms: the surface is folded where they are equal."""
    return gn.AutogradModel(lambda v: anp.exp(-anp.exp(v[0]) * X) + anp.exp(-anp.exp(v[1]) * X), 2)


def michaelis_menten():
    return gn.AutogradModel(lambda v: anp.exp(v[0]) * X / (anp.exp(v[1]) + X), 2)


def test_eigenvalues_of_a_linear_model():
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.standard_normal((7, 3)))
    V, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    s = np.array([10.0, 1.0, 1e-6])
    A = (U * s) @ V.T
    model = gn.CallableModel(lambda x: A @ x, 3, jacobian=lambda x: A)
    found = sloppiness(model, np.ones(3), names=("a", "b", "c"))
    np.testing.assert_allclose(found.eigenvalues, s**2, rtol=1e-8)
    np.testing.assert_allclose(np.abs(found.directions.T @ V), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(found.widths, 1 / s, rtol=1e-8)
    assert found.decades == pytest.approx(14, abs=1e-6)
    np.testing.assert_allclose(np.abs(found.sloppy()[:, 0]), np.abs(V[:, 2]), atol=1e-8)
    np.testing.assert_allclose(np.abs(found.stiff()[:, 0]), np.abs(V[:, 0]), atol=1e-8)
    assert "span 14.0 decades" in str(found)


def test_logarithms_and_fewer_outputs():
    model = gn.AutogradModel(lambda w: anp.array([w[0] * w[1], w[0] + w[2]]), 3)
    w = np.array([2.0, 3.0, 0.5])
    found = sloppiness(model, w, logarithmic=True)
    J = model.jacobian(w) * w
    np.testing.assert_allclose(found.eigenvalues[:2], np.linalg.eigvalsh(J @ J.T)[::-1])
    assert found.eigenvalues[2] == 0.0
    np.testing.assert_allclose(J @ found.sloppy(), 0, atol=1e-12)
    with pytest.raises(gn.ArgumentError):
        sloppiness(model, np.array([2.0, 0.0, 1.0]), logarithmic=True)


def test_the_fold_of_two_exponentials():
    """The sloppy direction moves the rates towards each other: the boundary is where they meet."""
    found = follow_to_boundary(two_exponentials(), np.array([-0.5, 0.7]), names=("fast", "slow"))
    assert found.reached
    assert abs(found.parameters[0] - found.parameters[1]) < 0.05
    assert found.fold
    assert found.limits == {}
    assert found.moving in ({"fast": 1, "slow": -1}, {"fast": -1, "slow": 1})
    assert "Fold at a length of" in str(found)


@pytest.mark.parametrize(
    ("direction", "limits"),
    [
        ((1.0, 1.0), {"Vm": 1, "K": 1}),  # both run off: a straight line, Vm/K x
        ((-1.0, -1.0), {"K": -1}),  # K -> 0: a constant
    ],
)
def test_the_limits_of_michaelis_and_menten(direction, limits):
    found = follow_to_boundary(
        michaelis_menten(),
        np.array([0.0, 1.0]),
        direction=np.array(direction),
        sign="same",
        names=("Vm", "K"),
    )
    assert found.reached
    assert not found.fold
    assert found.limits == limits
    Vm, K = found.parameters
    simpler = np.exp(Vm - K) * X if len(limits) == 2 else np.full(4, np.exp(Vm))
    np.testing.assert_allclose(michaelis_menten()(found.parameters), simpler, rtol=0.05)


def test_the_way_is_a_geodesic_of_unit_speed():
    model = michaelis_menten()
    w = np.array([0.0, 1.0])
    found = follow_to_boundary(model, w, direction=np.ones(2), sign="same")
    manifold = gn.ParameterManifold(model)
    a = np.ones(2) / manifold.norm(w, np.ones(2))
    middle = len(found.times) // 2
    there = manifold.geodesic(w, a)(found.times[middle])
    np.testing.assert_allclose(found.path[middle], there, rtol=1e-5)
    lengths = np.linalg.norm(np.diff([model(v) for v in found.path], axis=0), axis=1)
    assert np.sum(lengths) <= found.length * (1 + 1e-8)


def test_a_surface_without_boundary_nearby():
    A = np.random.default_rng(0).standard_normal((5, 2))
    model = gn.AutogradModel(lambda x: A @ x, 2)
    found = follow_to_boundary(model, np.ones(2), max_length=10.0)
    assert not found.reached
    assert found.length == pytest.approx(10.0)
    assert found.growth == pytest.approx(1.0)
    assert found.limits == {}
    assert "No boundary within a length of 10" in str(found)


def test_bad_arguments():
    model = michaelis_menten()
    with pytest.raises(gn.ArgumentError):
        follow_to_boundary(model, np.zeros(2), sign="forward")
    with pytest.raises(gn.ArgumentError):
        follow_to_boundary(model, np.zeros(2), max_length=0.0)
    with pytest.raises(gn.ArgumentError, match="must not be zero"):
        follow_to_boundary(model, np.zeros(2), direction=np.zeros(2))
    with pytest.raises(gn.ArgumentError, match="names must be as many"):
        sloppiness(model, np.zeros(2), names=("a",))
    with pytest.raises(gn.RankDeficientError):
        follow_to_boundary(two_exponentials(), np.zeros(2))
