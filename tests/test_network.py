import autograd.numpy as anp
import numpy as np
import pytest
from scipy.special import erf

import gnmanifold as gn
from gnmanifold.models.activations import activation

CASES = [
    ("tanh", (5,), {}),
    ("sigmoid", (4, 3), {"train_output": True}),
    ("softplus", (3, 2, 4), {"outputs": 2, "normalization": "none"}),
    ("sin", (4,), {"outputs": 3, "train_output": True, "centered": False}),
    ("gelu", (4, 4), {"outputs": 2, "train_output": True, "c_sigma": 1.0}),
    ("identity", (3,), {}),
]


def reference_sigma(name, z):
    """The activations, written once more for autograd."""
    return {
        "tanh": lambda: anp.tanh(z),
        "sigmoid": lambda: 1 / (1 + anp.exp(-z)),
        "softplus": lambda: anp.log(1 + anp.exp(z)),
        "sin": lambda: anp.sin(z),
        "gelu": lambda: 0.5 * z * (1 + _erf(z)),
        "identity": lambda: 1.0 * z,
    }[name]()


def _erf(z):
    from autograd.scipy.special import erf as differentiable

    return differentiable(z / np.sqrt(2))


def reference(net, name, widths, options):
    """The network of the docstring, for autograd."""
    ntk = options.get("normalization", "ntk") == "ntk"

    def phi(w):
        x, position = net.inputs, 0
        for width in widths:
            size = width * x.shape[1]
            W = anp.reshape(w[position : position + size], (width, x.shape[1]))
            position += size
            x = (np.sqrt(net.c_sigma / width) if ntk else 1.0) * reference_sigma(name, x @ W.T)
        C = net.output_weights
        if options.get("train_output"):
            C = anp.reshape(w[position:], C.shape)
        return anp.ravel(x @ C.T)

    offset = phi(net.initial_parameters) if options.get("centered", True) else 0.0
    return gn.AutogradModel(lambda w: phi(w) - offset, net.num_parameters)


@pytest.mark.parametrize(("name", "widths", "options"), CASES)
def test_derivatives_agree_with_autograd(name, widths, options):
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(rng.standard_normal((6, 3)), widths, name, rng=rng, **options)
    other = reference(net, name, widths, options)
    w = net.initial_parameters + 0.3 * rng.standard_normal(net.num_parameters)
    a, b = rng.standard_normal((2, w.size))
    z = rng.standard_normal(net.num_outputs)
    for got, expected in (
        (net(w), other(w)),
        (net.jacobian(w), other.jacobian(w)),
        (net.jvp(w, a), other.jvp(w, a)),
        (net.vjp(w, z), other.vjp(w, z)),
        (net.second_derivative(w, a, b), other.second_derivative(w, a, b)),
        (net.weighted_hessian(w, z, a), other.weighted_hessian(w, z, a)),
    ):
        assert np.linalg.norm(got - expected) <= 1e-12 * max(np.linalg.norm(expected), 1.0)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "sin", "gelu", "identity"])
def test_activations_by_differences(name):
    z = np.linspace(-3, 3, 41)
    h = 1e-5
    _, first, second = activation(name).derivatives(z, 2)
    up, down = activation(name).derivatives(z + h, 1), activation(name).derivatives(z - h, 1)
    np.testing.assert_allclose(first, (up[0] - down[0]) / (2 * h), atol=1e-9)
    np.testing.assert_allclose(second, (up[1] - down[1]) / (2 * h), atol=1e-9)


def test_activations_are_finite_far_out():
    z = np.array([-800.0, 800.0])
    for name in ("tanh", "sigmoid", "softplus", "gelu"):
        for values in activation(name).derivatives(z, 2):
            assert np.all(np.isfinite(values))


def test_normalization_constants():
    assert activation("tanh").normalization == pytest.approx(2.536175, abs=5e-7)
    assert activation("identity").normalization == pytest.approx(1.0, rel=1e-10)
    # E sin² = (1 - e^-2)/2
    assert activation("sin").normalization == pytest.approx(2 / (1 - np.exp(-2)), rel=1e-10)
    # E Phi(Z)²-type integral of z² Phi(z)², by a fine trapezoidal sum
    z = np.linspace(-12, 12, 200001)
    gelu = (0.5 * z * (1 + erf(z / np.sqrt(2)))) ** 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    assert activation("gelu").normalization == pytest.approx(1 / np.trapezoid(gelu, z), rel=1e-9)


def test_ntk_normalization_keeps_layer_norms_near_one():
    X = np.random.default_rng(0).standard_normal((8, 40))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    net = gn.FeedforwardNetwork(X, (3000, 3000), rng=1)
    last = net._forward(net.initial_parameters, 0).states[-1]
    np.testing.assert_allclose(np.sum(last**2, axis=1), 1.0, atol=0.15)


def test_centred_at_the_initial_parameters():
    net = gn.FeedforwardNetwork(np.eye(4), (5,), rng=0)
    assert np.all(net(net.initial_parameters) == 0)
    plain = gn.FeedforwardNetwork(np.eye(4), (5,), rng=0, centered=False)
    w = net.initial_parameters + 0.1
    np.testing.assert_allclose(net(w), plain(w) - plain(net.initial_parameters), atol=1e-14)


def test_initialisation_draws_output_then_layers():
    rng = np.random.default_rng(4)
    output = rng.choice([-1.0, 1.0], size=5)
    hidden = rng.standard_normal((5, 3))
    net = gn.FeedforwardNetwork(np.eye(3), (5,), rng=4)
    np.testing.assert_array_equal(net.output_weights[0], output)
    np.testing.assert_array_equal(net.initial_parameters, hidden.ravel())


def test_with_inputs_is_the_same_network_elsewhere():
    rng = np.random.default_rng(0)
    X, X_new = rng.standard_normal((5, 3)), rng.standard_normal((2, 3))
    net = gn.FeedforwardNetwork(X, (4,), outputs=2, rng=1)
    both = net.with_inputs(np.vstack([X, X_new]))
    w = net.initial_parameters + 0.1
    np.testing.assert_allclose(both(w), np.concatenate([net(w), net.with_inputs(X_new)(w)]))
    assert net.num_outputs == 10
    with pytest.raises(gn.ShapeError, match="X must have shape"):
        net.with_inputs(np.ones((2, 4)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": np.ones(3)}, gn.ShapeError, "X must have two axes"),
        ({"X": [[np.nan, 1.0]]}, gn.NonFiniteError, r"X\[0, 0\] is nan"),
        ({"activation": "relu"}, gn.ArgumentError, "activation must be one of 'tanh'"),
        ({"widths": ()}, gn.ArgumentError, "widths"),
        ({"widths": (0,)}, gn.ArgumentError, "widths must be a positive integer"),
        ({"outputs": 0}, gn.ArgumentError, "outputs"),
        ({"normalization": "ntkk"}, gn.ArgumentError, "normalization"),
        ({"c_sigma": -1.0}, gn.ArgumentError, "c_sigma"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        gn.FeedforwardNetwork(**{"X": np.eye(2), **arguments})


def test_wrong_parameter_shapes_name_both():
    net = gn.FeedforwardNetwork(np.eye(2), (3,))
    for call in (net, net.jacobian, lambda w: net.jvp(net.initial_parameters, w)):
        with pytest.raises(gn.ShapeError, match=r"must have shape \(6,\), got \(5,\)"):
            call(np.ones(5))
