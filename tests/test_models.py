import pickle

import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import defvjp, primitive
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import ZOO, network, saturation

import gnmanifold as gn
from gnmanifold.models.differences import central_difference

TIMES = np.linspace(0.1, 3.0, 12)


def decay(w):
    return w[0] * np.exp(-w[1] * TIMES)


def decay_jacobian(w):
    e = np.exp(-w[1] * TIMES)
    return np.column_stack([e, -w[0] * TIMES * e])


class Decay(gn.Model):
    """The least that a user has to write."""

    num_parameters, num_outputs = 2, 12

    def __call__(self, w):
        return decay(np.asarray(w))

    def jacobian(self, w):
        return decay_jacobian(np.asarray(w))


EXACT = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * TIMES), 2)


def relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("model", "first", "second"),
    [
        (Decay(), 1e-15, 1e-9),
        (gn.CallableModel(decay, 2), 1e-9, 1e-4),
        (gn.CallableModel(decay, 2, jacobian=decay_jacobian), 1e-15, 1e-9),
        (
            gn.CallableModel(
                decay,
                2,
                jacobian=decay_jacobian,
                second_derivative=EXACT.second_derivative,
            ),
            1e-15,
            1e-14,
        ),
    ],
)
@pytest.mark.parametrize("w", [(2.0, 0.7), (2e-7, 0.7), (3e5, 0.7)])
def test_defaults_and_differences_reach_the_stated_accuracy(model, first, second, w):
    w = np.array(w)
    rng = np.random.default_rng(0)
    a, b = w * rng.uniform(0.5, 2, (2, 2))  # commensurate with the parameters
    z = rng.standard_normal(12)
    assert relative(model.jacobian(w), EXACT.jacobian(w)) <= first
    assert relative(model.jvp(w, a), EXACT.jvp(w, a)) <= first
    assert relative(model.vjp(w, z), EXACT.vjp(w, z)) <= first
    expected = EXACT.second_derivative(w, a, b)
    assert relative(model.second_derivative(w, a, b), expected) <= second
    got, expected = model.weighted_hessian(w, z, a), EXACT.weighted_hessian(w, z, a)
    assert relative(got * w, expected * w) <= 10 * second


def test_differences_of_a_parameter_that_is_zero_or_tiny_by_accident():
    model = gn.CallableModel(lambda w: np.array([np.sin(w[0]), w[1] ** 2, w[0] * w[1]]), 2)
    for first in (0.0, 1e-30, -1e-12):
        w = np.array([first, 1.5])
        expected = np.array([[np.cos(first), 0], [0, 3.0], [1.5, first]])
        np.testing.assert_allclose(model.jacobian(w), expected, atol=1e-8)


@given(st.floats(-6, 6), st.floats(-6, 6))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_differences_are_relative_to_the_parameter(exponent, shift):
    w = np.array([10.0**exponent])
    slope = central_difference(lambda v: np.exp(v / w) + shift, w, w)
    assert slope[0] == pytest.approx(np.e, rel=1e-8)


def test_autograd_falls_back_to_reverse_mode():
    @primitive
    def cube(x):
        return x**3

    defvjp(cube, lambda ans, x: lambda g: g * 3 * x**2)
    model = gn.AutogradModel(lambda w: anp.array([w[0] * cube(w[1]), w[1] ** 2]), 2)
    plain = gn.AutogradModel(lambda w: anp.array([w[0] * w[1] ** 3, w[1] ** 2]), 2)
    w, a, b, z = np.array([0.3, 0.5]), np.array([1.0, 2.0]), np.array([-1.0, 0.4]), np.ones(2)
    np.testing.assert_allclose(model.jacobian(w), plain.jacobian(w), rtol=1e-14)
    for name in ("second_derivative", "weighted_hessian"):
        first = (w, a, b) if name == "second_derivative" else (w, z, a)
        np.testing.assert_allclose(getattr(model, name)(*first), getattr(plain, name)(*first))


def test_autograd_uses_reverse_rows_for_wide_jacobians():
    model = gn.AutogradModel(lambda w: anp.array([anp.sum(w**2), anp.prod(w)]), 4)
    w = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(model.jacobian(w), [2 * w, 24 / w])


def test_number_of_outputs_is_found_or_asked_for():
    assert gn.AutogradModel(lambda w: anp.array([1 / (w[0] - 1), w[0]]), 1).num_outputs == 2

    def picky(w):
        if w[0] == 1:
            raise RuntimeError("not there")
        return w

    for model_type in (gn.AutogradModel, gn.CallableModel):
        with pytest.raises(gn.ArgumentError, match="pass num_outputs"):
            model_type(picky, 1)
        assert model_type(picky, 1, num_outputs=1)(np.array([2.0]))[0] == 2.0
        with pytest.raises(gn.ShapeError, match="must return an array of shape"):
            model_type(lambda w: 1.0, 1)
        with pytest.raises(gn.ArgumentError, match="num_parameters"):
            model_type(lambda w: w, 0)


def test_wrong_shapes_of_user_functions_are_named():
    model = gn.CallableModel(decay, 2, jacobian=lambda w: np.ones((3, 2)))
    with pytest.raises(gn.ShapeError, match=r"jacobian must return shape \(12, 2\), got \(3, 2\)"):
        model.jacobian(np.ones(2))


def transforms():
    inner = saturation()
    yield gn.Scaled(inner, 3.0), lambda w: 3.0 * inner(w)
    yield gn.Centered(inner, np.ones(3)), lambda w: inner(w) - inner(np.ones(3))
    weights = np.linspace(1, 2, 9)
    yield gn.Weighted(inner, weights), lambda w: weights * inner(w)
    yield gn.Graph(inner, 0.5, 0.7), lambda w: np.concatenate([0.7 * inner(w), 0.5 * w])
    twist = gn.AutogradModel(lambda v: anp.array([v[0] + v[1] ** 2, anp.exp(v[1]), v[0] * v[1]]), 2)
    yield gn.Composed(inner, twist), lambda v: inner(twist(v))


@pytest.mark.parametrize(("model", "function"), list(transforms()), ids=lambda x: type(x).__name__)
def test_transforms_have_the_derivatives_of_their_formula(model, function):
    rng = np.random.default_rng(0)
    w, a, b = rng.uniform(0.5, 1.5, (3, model.num_parameters))
    z = rng.standard_normal(model.num_outputs)
    by_values = gn.CallableModel(function, model.num_parameters)
    np.testing.assert_allclose(model(w), function(w), rtol=1e-15)
    np.testing.assert_allclose(model.jacobian(w), by_values.jacobian(w), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(model.jvp(w, a), model.jacobian(w) @ a, rtol=1e-12)
    np.testing.assert_allclose(model.vjp(w, z), model.jacobian(w).T @ z, rtol=1e-12)
    by_jacobian = gn.CallableModel(function, model.num_parameters, jacobian=model.jacobian)
    second = by_jacobian.second_derivative(w, a, b)
    np.testing.assert_allclose(model.second_derivative(w, a, b), second, rtol=1e-7, atol=1e-8)
    assert model.weighted_hessian(w, z, a) @ b == pytest.approx(
        z @ model.second_derivative(w, a, b), rel=1e-10
    )


def test_scale_is_multiplied_and_forwarded():
    net = network()
    assert net.scale == 2.0
    assert gn.Scaled(net, 3.0).scale == 6.0
    assert gn.Centered(net, net.initial_parameters).scale == 2.0
    assert gn.Graph(net, 1.0).scale == 2.0
    np.testing.assert_array_equal(gn.Scaled(net, 3.0).initial_parameters, net.initial_parameters)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: gn.Scaled(m, 0.0), "alpha must be"),
        (lambda m: gn.Scaled(m, np.nan), "alpha must be"),
        (lambda m: gn.Scaled(lambda w: w, 1.0), "model must be a gnmanifold model"),
        (lambda m: gn.Weighted(m, np.ones(3)), "weights must have shape"),
        (lambda m: gn.Weighted(m, np.zeros(9)), r"weights\[0\] is 0"),
        (lambda m: gn.Centered(m, np.ones(4)), "center must have shape"),
        (lambda m: gn.Composed(m, m), "as many outputs as the outer one has parameters, 3, got 9"),
        (lambda m: gn.Graph(m, 1.0, -1.0), "output_multiple"),
    ],
)
def test_bad_transforms_are_refused(make, message):
    with pytest.raises(gn.ArgumentError, match=message):
        make(saturation())


def test_identity_survives_copies_and_pickles_and_tells_models_apart():
    net, twin = network(), network()
    assert pickle.loads(pickle.dumps(net)).identity == net.identity
    assert net.identity != twin.identity
    inner = net.model
    assert inner.with_inputs(inner.inputs).identity != inner.identity


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_second_derivative_and_weighted_hessian_are_dual(case):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, case.w.size))
    z = rng.standard_normal(case.model.num_outputs)
    pairing = z @ case.model.second_derivative(case.w, a, b)
    assert case.model.weighted_hessian(case.w, z, a) @ b == pytest.approx(pairing, abs=1e-9)


def test_functions_that_autograd_cannot_look_through_are_refused():
    """Their derivatives would come out as zero."""
    with pytest.raises(gn.ShapeError, match=r"write anp.array|as in .import autograd"):
        gn.AutogradModel(lambda w: [w[0], w[1]], 2)
    hidden = gn.AutogradModel(lambda w: np.array([w[0], w[1]]), 2)
    with pytest.raises(gn.ShapeError, match="autograd cannot look through"):
        hidden.jacobian([1.0, 2.0])


def test_differences_end_whatever_they_are_given():
    model = gn.CallableModel(lambda w: np.sin(w[0] + np.array([0.0, 1.0]) * w[1]), 2)
    w, a = np.array([1.0, 2.0]), np.array([1.0, 0.5])
    assert np.all(np.isnan(model.jvp(w, a * np.nan)))
    assert np.all(np.isnan(model.jacobian([np.nan, 1.0])))
    assert np.all(np.isfinite(model.jacobian([1e-310, 1.0])))
    expected = model.jvp(w, a)
    for size in (1e-170, 1e200):
        np.testing.assert_allclose(model.jvp(w, size * a), size * expected, rtol=1e-7)


def test_a_zero_parameter_is_not_measured_by_a_large_one():
    """A peak at 0 of height 1e6: the centre must be moved by its own scale."""
    x = np.linspace(-5, 5, 21)
    by_values = gn.CallableModel(lambda w: w[0] * np.exp(-((x - w[1]) ** 2) / w[2]), 3)
    exact = gn.AutogradModel(lambda w: w[0] * anp.exp(-((x - w[1]) ** 2) / w[2]), 3)
    w = np.array([1e6, 0.0, 2.0])
    for column, reference in zip(by_values.jacobian(w).T, exact.jacobian(w).T, strict=True):
        assert relative(column, reference) < 1e-9


def test_models_keep_copies_of_what_they_are_given():
    buffer = np.empty(12)

    def reused(w):
        np.multiply(TIMES, w[0] * w[1], out=buffer)
        return buffer

    model = gn.CallableModel(reused, 2)
    np.testing.assert_allclose(model.jacobian([2.0, 3.0]), np.outer(TIMES, [3.0, 2.0]), rtol=1e-8)
    X = np.random.default_rng(0).standard_normal((5, 2))
    net = gn.FeedforwardNetwork(X, (3,))
    X += 1
    assert np.all(net(net.initial_parameters) == 0)
    with pytest.raises(ValueError, match="read-only"):
        net.initial_parameters[0] = 1.0


def test_functions_that_change_their_argument_are_caught():
    def careless(w):
        w *= 2
        return w

    model = gn.CallableModel(careless, 2, num_outputs=2)
    with pytest.raises(ValueError, match="read-only"):
        gn.OutputManifold(model).point([1.0, 2.0])
