"""Traces and spectral densities of symmetric matrices from products with random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal

from gnmanifold.diagnostics.lanczos import Product, lanczos
from gnmanifold.errors import ArgumentError
from gnmanifold.validation import RandomState, as_generator, positive, positive_int

_WIDTH = 0.02  # of the spectrum, of the Gaussians that smooth a density


class Estimate(NamedTuple):
    """An estimate from random samples, and its standard error."""

    value: float
    error: float


def trace(product: Product, p: int, samples: int = 64, rng: RandomState = 0) -> Estimate:
    """Trace of a symmetric p x p matrix from products with random signs v: mean of vᵀH v.

    The standard error is that of the mean; it decreases as 1/sqrt(samples).
    Raises ArgumentError for fewer than two samples.
    M. F. Hutchinson, Commun. Stat. Simul. Comput. 19 (1990).
    """
    _two("samples", samples)
    draws = _signs(p, samples, as_generator(rng))
    return _mean(np.array([v @ product(v) for v in draws]))


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Distribution of the eigenvalues of a symmetric matrix: nodes and weights that sum to one.

    A row of `nodes` and `weights` (samples, m) is the Gauss quadrature of one random start, with
    zero weights where Lanczos' method ended early: moments up to degree 2m - 1 are exact for it.
    The object is a function of x too, the density smoothed by Gaussians.
    """

    nodes: Float[np.ndarray, "s m"]
    weights: Float[np.ndarray, "s m"]
    size: int

    def __call__(self, x: ArrayLike, width: float | None = None) -> np.ndarray:
        """Density at x, smoothed by Gaussians of standard deviation `width`, 2 % without it."""
        if width is None:
            width = _WIDTH * max(float(np.ptp(self.nodes)), float(np.finfo(float).tiny))
        positive("width", width)
        away = (np.asarray(x, dtype=float)[..., None] - self.nodes.ravel()) / width
        shares = self.weights.ravel() / len(self.nodes)
        return np.exp(-0.5 * away**2) @ shares / (width * np.sqrt(2 * np.pi))

    def mean_of(self, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """Mean of a function over the eigenvalues, that is its trace by p."""
        return _mean(np.sum(self.weights * function(self.nodes), axis=1))

    def share_below(self, x: float) -> Estimate:
        """Share of the eigenvalues below x; of the negative ones at x = 0."""
        return self.mean_of(lambda nodes: (nodes < x).astype(float))


def spectral_density(
    product: Product, p: int, *, steps: int = 64, samples: int = 8, rng: RandomState = 0
) -> SpectralDensity:
    """Density of the eigenvalues of a symmetric p x p matrix by stochastic Lanczos quadrature.

    `steps` products for each of `samples` starts; steps x p numbers are held.
    Raises ArgumentError for fewer than two samples.
    G. H. Golub and G. Meurant, Matrices, Moments and Quadrature, 2010; B. Ghorbani, S. Krishnan and
    Y. Xiao, ICML 2019.
    """
    _two("samples", samples)
    steps = min(positive_int("steps", steps), p)
    nodes, weights = np.zeros((2, samples, steps))
    for i, start in enumerate(_signs(p, samples, as_generator(rng))):
        alpha, beta, _ = lanczos(product, start, steps)
        values, vectors = eigh_tridiagonal(alpha, beta)
        nodes[i, : len(values)], nodes[i, len(values) :] = values, values[-1]
        weights[i, : len(values)] = vectors[0] ** 2
    return SpectralDensity(nodes, weights, p)


def _signs(p: int, samples: int, rng: np.random.Generator) -> Any:
    """Random vectors of ±1, one at a time."""
    return (rng.choice((-1.0, 1.0), size=p) for _ in range(samples))


def _mean(draws: np.ndarray) -> Estimate:
    return Estimate(float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(len(draws))))


def _two(name: str, value: int) -> None:
    if positive_int(name, value) < 2:
        raise ArgumentError(f"{name} must be at least 2, for a standard error; got {value}")
