"""The Lipschitz constant of Df of any model, estimated from its second derivatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, NonFiniteError
from gnmanifold.models import Model
from gnmanifold.models.base import as_model
from gnmanifold.theory.constants import Constant
from gnmanifold.validation import (
    RandomState,
    as_generator,
    as_vector,
    first_nonfinite,
    nonnegative,
    positive,
    positive_int,
)

_SETTLED = 1e-6


def jacobian_lipschitz_estimate(
    model: Model,
    w0: ArrayLike,
    radius: float = 0.0,
    *,
    samples: int = 8,
    restarts: int = 4,
    sweeps: int = 30,
    safety: float = 2.0,
    rng: RandomState = 0,
) -> Constant:
    """Estimate of L = sup |D²f(w)[u, v]| over unit u, v and |w - w0| <= radius, of any model.

    `safety` times the largest value found at w0 and `samples` points of the ball, so that without
    safety it is a lower bound, up to the accuracy of the model's second derivatives. At each point
    `restarts` directions are improved by at most `sweeps` alternating SVDs: u becomes the leading
    right singular vector of the matrix D²f[u, ·] (n, p). Half of the points lie on the sphere.
    Raises ArgumentError for bad arguments and NonFiniteError for bad second derivatives.
    L. De Lathauwer, B. De Moor and J. Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000).
    """
    center = as_vector("w0", w0, as_model("model", model).num_parameters)
    nonnegative("radius", radius)
    for name, count in (("samples", samples), ("restarts", restarts), ("sweeps", sweeps)):
        positive_int(name, count)
    if positive("safety", safety) < 1:
        raise ArgumentError(f"safety must be a number >= 1, got {safety!r}")
    generator = as_generator(rng)
    largest = 0.0
    for w in _points(center, radius, samples, generator):
        starts = generator.standard_normal((restarts, center.size))
        largest = max(largest, *(bend_norm(model, w, start, sweeps) for start in starts))
    origin = f"{safety:g} x the largest |D²f| at {samples + 1} points within {radius:.3g} of w0"
    return Constant(safety * largest / model.scale, "estimate", origin)


def bend_norm(model: Model, w: np.ndarray, start: np.ndarray, sweeps: int = 30) -> float:
    """Value of max |D²f(w)[u, v]| over unit u, v that alternating SVDs reach from u = start.

    Of the model as it is, with its scale; a lower bound of the maximum.
    """
    u, value = start / np.linalg.norm(start), 0.0
    for _ in range(sweeps):
        size, u = _leading(_bend(model, w, u))
        if size <= (1 + _SETTLED) * value:
            return max(size, value)
        value = size
    return value


def _points(
    center: np.ndarray, radius: float, samples: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    yield center
    for i in range(samples if radius > 0 else 0):
        direction = generator.standard_normal(center.size)
        reach = radius if i % 2 == 0 else radius * generator.random()
        yield center + reach * direction / np.linalg.norm(direction)


def _bend(model: Model, w: np.ndarray, u: np.ndarray) -> np.ndarray:
    bend = model.jacobian_derivative(w, u)
    if first_nonfinite(bend) is not None:
        raise NonFiniteError(
            f"second derivatives at |w| = {np.linalg.norm(w):.3g} are not finite: check the "
            "model's derivatives, or give L as jacobian_lipschitz"
        )
    return bend


def _leading(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """Largest singular value and its right singular vector, from the smaller Gram matrix."""
    wide = matrix.shape[0] < matrix.shape[1]
    _, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    vector = matrix.T @ vectors[:, -1] if wide else vectors[:, -1]
    length = float(np.linalg.norm(vector))
    if length == 0:
        return 0.0, np.eye(1, matrix.shape[1])[0]
    return float(np.linalg.norm(matrix @ vector)) / length, vector / length
