"""The neural tangent kernel K = Df Dfᵀ: at a point, and in expectation over the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.models import FeedforwardNetwork, Model
from gnmanifold.models.base import as_model
from gnmanifold.validation import positive_int

_WIDTH = 9.0  # of the normal density, beyond which e^-40 of it is left


def empirical_ntk(model: Model, w: ArrayLike) -> Float[np.ndarray, "n n"]:
    """Kernel K(w) = Df Dfᵀ (n, n) of the unscaled model, Df = J/α."""
    D = as_model("model", model).jacobian(w) / model.scale
    return D @ D.T


def expected_ntk(
    network: FeedforwardNetwork, *, nodes: int | None = None
) -> Float[np.ndarray, "n n"]:
    """Expectation of Df(w0) Df(w0)ᵀ over the random start of a network of one hidden layer.

    K_ij = s²m (x_i·x_j E σ'(x_i·ω) σ'(x_j·ω) + t E σ(x_i·ω) σ(x_j·ω)) for ω ~ N(0, I), with t = 1
    for a trained output layer and 0 otherwise; s²m = c_σ for normalization "ntk", m for "none".
    Outputs of one sample are independent: K ⊗ I_k for k of them. Closed forms for sin and identity;
    else the trapezoidal rule with `nodes` points in each of two directions, whose error falls
    like exp(-2π d/h) in the step h, d = π/(2 |x|) the distance of the poles of tanh(|x| z) from the
    real line (those of the others are farther away); without `nodes` it is below 1e-9.
    Raises ArgumentError for several hidden layers.
    S. Cayci, arXiv 2412.14031v5, section 3.
    """
    if not isinstance(network, FeedforwardNetwork) or len(network.widths) != 1:
        raise ArgumentError(
            "the expected kernel is known for a FeedforwardNetwork of one hidden layer: take "
            f"empirical_ntk, got {network!r}"
        )
    X = network.inputs
    gram = X @ X.T
    nodes = _nodes(gram) if nodes is None else positive_int("nodes", nodes)
    kernel = gram * _moments(network, gram, 1, nodes)
    if network.train_output:
        kernel = kernel + _moments(network, gram, 0, nodes)
    factor = network.c_sigma if network.normalization == "ntk" else network.widths[0]
    return np.kron(factor * kernel, np.eye(network.outputs))


def _moments(network: FeedforwardNetwork, gram: np.ndarray, order: int, nodes: int) -> np.ndarray:
    """Expectations E h(x_i·ω) h(x_j·ω) with h the derivative of σ of that order."""
    name = network.activation.name
    norms = np.diag(gram)
    if name == "identity":
        return np.ones_like(gram) if order == 1 else gram
    if name == "sin":
        decay = np.exp(-0.5 * (norms[:, None] + norms[None, :]))
        return decay * (np.cosh(gram) if order == 1 else np.sinh(gram))
    return _quadrature(lambda z: network.activation.derivatives(z, order)[order], gram, nodes)


def _nodes(gram: np.ndarray) -> int:
    """Points whose step is π²/(36 |x|) for the longest row, and at most ½."""
    longest = float(np.sqrt(np.max(np.diag(gram))))
    return int(np.ceil(2 * _WIDTH * max(2.0, 36 * longest / np.pi**2))) + 1


def _quadrature(
    function: Callable[[np.ndarray], np.ndarray], gram: np.ndarray, nodes: int
) -> np.ndarray:
    """Expectations E h(a) h(b) of Gaussian a, b with the covariances `gram`."""
    z = np.linspace(-_WIDTH, _WIDTH, nodes)
    weights = np.exp(-0.5 * z * z)
    weights /= np.sum(weights)
    lengths = np.sqrt(np.diag(gram))
    moments = np.empty_like(gram)
    for i, length in enumerate(lengths):
        first = weights * function(length * z)
        for j in range(i, len(gram)):
            along = gram[i, j] / length if length > 0 else 0.0
            across = np.sqrt(max(gram[j, j] - along**2, 0.0))
            values = function(along * z[:, None] + across * z[None, :])
            moments[i, j] = moments[j, i] = first @ values @ weights
    return moments
