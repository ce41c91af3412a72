"""Synthetic data sets of the papers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from gnmanifold.validation import RandomState, as_generator, nonnegative, positive_int


def _steep_tanh(t: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(3 * t))


def single_index(
    n: int,
    d: int,
    noise: float = 0.1,
    rng: RandomState = None,
    link: Callable[[np.ndarray], np.ndarray] = _steep_tanh,
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Inputs uniform on the unit sphere of R^d and targets y_j = link(<u, x_j>) + noise ε_j.

    The direction u is uniform on the sphere, the ε_j are standard normal; drawn in the order
    u, X, ε. The default link is tanh(3t).
    Raises ArgumentError unless n, d >= 1 and noise >= 0. S. Cayci, arXiv 2412.14031v5, app. C.

    >>> X, y = single_index(64, 4, noise=0.1, rng=0)
    >>> X.shape, y.shape
    ((64, 4), (64,))
    """
    generator = as_generator(rng)
    n, d = positive_int("n", n), positive_int("d", d)
    direction = _unit_rows(generator.standard_normal((1, d)))[0]
    X = _unit_rows(generator.standard_normal((n, d)))
    errors = nonnegative("noise", noise) * generator.standard_normal(n)
    return X, link(X @ direction) + errors


def _unit_rows(X: np.ndarray) -> np.ndarray:
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))
