"""Losses that are sums over the single predictions."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import expit, kve

from gnmanifold.losses.base import Loss, bounded, divide
from gnmanifold.validation import as_vector, frozen, positive

_RECODE = ": recode it, as in (y + 1) / 2 for classes named -1 and 1"


class _Elementwise(Loss):
    """A sum of scalar functions of the single predictions."""

    @abstractmethod
    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        """Diagonal of the Hessian."""

    @abstractmethod
    def _bend(self, psi: np.ndarray) -> np.ndarray:
        """Diagonal of the third derivative."""

    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._curvature(self._vector("psi", psi)) * self._vector("u", u)

    def third_product(
        self, psi: ArrayLike, u: ArrayLike, v: ArrayLike
    ) -> Float[np.ndarray, " n *k"]:
        bend = self._bend(self._vector("psi", psi)) * self._vector("u", u)
        return (bend * self._columns("v", v).T).T

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        root = np.sqrt(self._curvature(psi) + shift)
        return root * columns if columns.ndim == 1 else root[:, None] * columns

    def _transpose(self, psi: np.ndarray, r: np.ndarray, shift: float) -> np.ndarray:
        return self._root(psi, r, shift)

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        root = np.sqrt(self._curvature(psi) + shift)
        return divide(gradient, root)

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        return divide(x.T, self._curvature(psi) + shift).T


class SquaredError(_Elementwise):
    """The loss weight · ½|ψ - y|² for targets y (n,).

    Raises ShapeError or NonFiniteError for bad targets and ArgumentError unless weight > 0.
    """

    def __init__(self, y: ArrayLike, weight: float = 1.0) -> None:
        self.targets = frozen(as_vector("y", y))
        self.weight = positive("weight", weight)
        self.num_outputs = self.targets.size
        self.nu = self.mu = self.isotropic = self.weight

    def value(self, psi: ArrayLike) -> np.float64:
        residual = self._vector("psi", psi) - self.targets
        return np.float64(0.5 * self.weight * (residual @ residual))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.weight * (self._vector("psi", psi) - self.targets)

    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        return np.full_like(psi, self.weight)

    def _bend(self, psi: np.ndarray) -> np.ndarray:
        return np.zeros_like(psi)


class Logistic(_Elementwise):
    """The loss Σ_i log(1 + e^ψ_i) - y_i ψ_i, with y_i in [0, 1] the probability of class one.

    Raises ArgumentError for targets outside [0, 1].
    """

    mu = 0.25

    def __init__(self, y: ArrayLike) -> None:
        self.targets = frozen(bounded("y", as_vector("y", y), 0.0, 1.0, _RECODE))
        self.num_outputs = self.targets.size

    def value(self, psi: ArrayLike) -> np.float64:
        psi = self._vector("psi", psi)
        return np.float64(np.sum(np.logaddexp(0, psi) - self.targets * psi))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        return expit(self._vector("psi", psi)) - self.targets

    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        return expit(psi) * expit(-psi)

    def _bend(self, psi: np.ndarray) -> np.ndarray:
        return self._curvature(psi) * (1 - 2 * expit(psi))


class Poisson(_Elementwise):
    """The loss Σ_i e^ψ_i - y_i ψ_i, a Poisson likelihood with log-rates ψ and counts y_i >= 0.

    Raises ArgumentError for negative counts.
    """

    def __init__(self, y: ArrayLike) -> None:
        self.targets = frozen(bounded("y", as_vector("y", y), 0.0, np.inf))
        self.num_outputs = self.targets.size

    def value(self, psi: ArrayLike) -> np.float64:
        psi = self._vector("psi", psi)
        return np.float64(np.sum(np.exp(psi) - self.targets * psi))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        return np.exp(self._vector("psi", psi)) - self.targets

    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        return np.exp(psi)

    def _bend(self, psi: np.ndarray) -> np.ndarray:
        return np.exp(psi)


class PseudoHuber(_Elementwise):
    """The robust loss Σ_i δ² (sqrt(1 + (r_i/δ)²) - 1) of residuals r = ψ - y.

    Quadratic with unit curvature for |r| << δ, of slope δ for |r| >> δ.
    Raises ArgumentError unless delta > 0.
    """

    mu = 1.0

    def __init__(self, y: ArrayLike, delta: float = 1.0) -> None:
        self.targets = frozen(as_vector("y", y))
        self.delta = positive("delta", delta)
        self.num_outputs = self.targets.size

    def value(self, psi: ArrayLike) -> np.float64:
        residual, stretch = self._stretch(self._vector("psi", psi))
        # r²/(1 + s) is δ²(s - 1) without the cancellation at small residuals.
        return np.float64(np.sum(residual * (residual / (1 + stretch))))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        residual, stretch = self._stretch(self._vector("psi", psi))
        return residual / stretch

    @property
    def information(self) -> Loss:
        """The squared error weighted with E g'², the information of a location parameter.

        With r = δ sinh t the density is e^(-δ²(cosh t - 1)) / (2δ e^(δ²) K₁(δ²)) and g' = δ tanh t.
        """
        square = self.delta**2
        if self.delta < 1e-8:  # all of the mass is in the tails, where g' = ±δ
            return SquaredError(self.targets, square)

        def tilted(t: float) -> float:
            return float(np.sinh(t) * np.tanh(t) * np.exp(-2 * square * np.sinh(t / 2) ** 2))

        end = 2 * np.arcsinh(np.sqrt(375) / self.delta)  # e^-750 of the density is left beyond
        slopes = quad(tilted, 0, end, epsabs=0, epsrel=1e-12, limit=200)[0]
        return SquaredError(self.targets, square * slopes / kve(1, square))

    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        return self._stretch(psi)[1] ** -3.0

    def _bend(self, psi: np.ndarray) -> np.ndarray:
        residual, stretch = self._stretch(psi)
        return -3 * residual / self.delta**2 * stretch**-5.0

    def _stretch(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = psi - self.targets
        return residual, np.hypot(1.0, residual / self.delta)
