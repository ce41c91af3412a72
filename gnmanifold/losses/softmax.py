"""The cross-entropy of several classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax

from gnmanifold.errors import ArgumentError
from gnmanifold.losses.base import Loss, bounded, divide
from gnmanifold.validation import as_matrix, as_vector, frozen, positive_int


class Softmax(Loss):
    """The cross-entropy Σ_j log Σ_k e^ψ_jk - Σ_k y_jk ψ_jk of N samples with C classes, n = N C.

    `y` holds class numbers (N,) with `num_classes` given, or probabilities (N, C) whose rows sum
    to one; ψ is flattened sample by sample.
    Raises ArgumentError for labels out of range and for rows that are no probabilities.
    """

    mu = 0.5

    def __init__(self, y: ArrayLike, num_classes: int | None = None) -> None:
        self.targets = frozen(
            _probabilities(as_matrix("y", y)) if np.ndim(y) == 2 else _one_hot(y, num_classes)
        )
        self.num_classes = self.targets.shape[1]
        self.num_outputs = self.targets.size

    def value(self, psi: ArrayLike) -> np.float64:
        logits = self._logits(self._vector("psi", psi))
        # each term is positive: no cancellation where the classes are told apart
        return np.float64(-np.sum(self.targets * log_softmax(logits, axis=1)))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        return (self._probability(self._vector("psi", psi)) - self.targets).ravel()

    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        pi, u = self._probability(self._vector("psi", psi)), self._logits(self._vector("u", u))
        return (pi * _centred(pi, u)).ravel()

    def third_product(
        self, psi: ArrayLike, u: ArrayLike, v: ArrayLike
    ) -> Float[np.ndarray, " n *k"]:
        v = self._columns("v", v)
        pi = self._probability(self._vector("psi", psi))[:, :, None]
        first = self._blocks(self._vector("u", u))
        change = pi * _centred(pi, self._blocks(v))
        mixed = np.sum(change * first, axis=1, keepdims=True)
        return (change * _centred(pi, first) - pi * mixed).reshape(v.shape)

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        if shift > 0:
            return (self._shifted(psi, shift) @ self._blocks(columns)).reshape(columns.shape)
        pi = self._probability(psi)[:, :, None]
        return (np.sqrt(pi) * _centred(pi, self._blocks(columns))).reshape(columns.shape)

    def _transpose(self, psi: np.ndarray, r: np.ndarray, shift: float) -> np.ndarray:
        if shift > 0:
            return (self._blocks(r).swapaxes(1, 2) @ self._shifted(psi, shift)).ravel()
        pi = self._probability(psi)
        rooted = np.sqrt(pi) * self._logits(r)
        return (rooted - pi * np.sum(rooted, axis=1, keepdims=True)).ravel()

    def _shifted(self, psi: np.ndarray, shift: float) -> np.ndarray:
        """Square roots (N, k, k) of diag(π) - ππᵀ + shift I for the samples, by eigenvalues."""
        pi = self._probability(psi)
        hessians = pi[:, :, None] * (np.eye(self.num_classes) - pi[:, None, :])
        values, vectors = np.linalg.eigh(0.5 * (hessians + hessians.swapaxes(1, 2)))
        return np.sqrt(np.maximum(values, 0) + shift)[:, :, None] * vectors.swapaxes(1, 2)

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        if shift > 0:  # the shortest one, which stays small where probabilities underflow
            return self._root(psi, self._solve(psi, gradient, shift), shift)
        # The gradient of the cross-entropy sums to zero over the classes of a sample, which
        # makes it the image of gradient/sqrt(π).
        return divide(gradient, np.sqrt(self._probability(psi).ravel()))

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        pi = self._probability(psi)[:, :, None]
        u = divide(self._blocks(x), pi + shift)
        if shift > 0:  # Sherman and Morrison, with 1 = Σπ inside the denominator
            share = pi / (pi + shift)
            u = u + share * np.sum(pi * u, axis=1, keepdims=True) / (
                shift * np.sum(share, axis=1, keepdims=True)
            )
        return u.reshape(x.shape)

    def _blocks(self, columns: np.ndarray) -> np.ndarray:
        return columns.reshape(-1, self.num_classes, *(columns.shape[1:] or (1,)))

    def _logits(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(-1, self.num_classes)

    def _probability(self, psi: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(self._logits(psi), axis=1))


def _centred(pi: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Deviation of u from its mean under the probabilities π, along the axis of the classes."""
    return np.asarray(u - np.sum(pi * u, axis=1, keepdims=True))


def _probabilities(y: np.ndarray) -> np.ndarray:
    bounded("y", y.ravel(), 0.0, 1.0)
    sums = y.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > 1e-8:
        raise ArgumentError(f"rows of y must sum to 1, but row {worst} sums to {sums[worst]:g}")
    return y


def _one_hot(y: ArrayLike, num_classes: int | None) -> np.ndarray:
    labels = as_vector("y", y)
    if num_classes is None:
        raise ArgumentError("num_classes is needed when y holds class numbers")
    if np.any(labels != np.round(labels)):
        raise ArgumentError("y must hold whole class numbers 0, 1, …, num_classes - 1")
    bounded("y", labels, 0, positive_int("num_classes", num_classes) - 1)
    return np.eye(num_classes)[labels.astype(int)]
