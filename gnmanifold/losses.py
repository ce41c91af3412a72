"""Convex losses g of the predictions: values, derivatives to third order, roots of the Hessian."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import expit, logsumexp, softmax

from gnmanifold.errors import ArgumentError
from gnmanifold.validation import as_matrix, as_vector, frozen, nonnegative, positive, positive_int

_RECODE = ": recode it, as in (y + 1) / 2 for classes named -1 and 1"


class Loss(ABC):
    """A convex function g: R^n -> R of the predictions ψ, with ν I <= ∇²g <= μ I.

    `nu` and `mu` are those constants over all of R^n, and `isotropic` is c where ∇²g = c I
    everywhere, else None.
    """

    num_outputs: int
    nu: float = 0.0
    mu: float = np.inf
    isotropic: float | None = None

    @abstractmethod
    def value(self, psi: ArrayLike) -> np.float64:
        """Value g(ψ)."""

    @abstractmethod
    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        """Gradient ∇g(ψ), shape (n,)."""

    @abstractmethod
    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        """Product ∇²g(ψ) u, shape (n,)."""

    @abstractmethod
    def third_product(self, psi: ArrayLike, u: ArrayLike, v: ArrayLike) -> Float[np.ndarray, " n"]:
        """Third derivative ∂³g(ψ)[u, v, ·], shape (n,)."""

    def hessian_root(self, psi: ArrayLike, columns: np.ndarray) -> np.ndarray:
        """Product S C of a root S of the Hessian, SᵀS = ∇²g(ψ), with columns C (n,) or (n, k)."""
        return self._root(self._vector("psi", psi), columns, 0.0)

    def root_residual(self, psi: ArrayLike) -> np.ndarray:
        """Vector r with Sᵀ r = ∇g(ψ), so that Gauss-Newton minimises |S J a + r| over a."""
        psi = self._vector("psi", psi)
        return self._residual(psi, self.gradient(psi), 0.0)

    def hessian_solve(self, psi: ArrayLike, x: ArrayLike) -> Float[np.ndarray, " n"]:
        """Solution u of ∇²g(ψ) u = x, one of several where the Hessian is singular."""
        return self._solve(self._vector("psi", psi), self._vector("x", x), 0.0)

    @property
    def information(self) -> Loss:
        """Loss whose Hessian is the Fisher information of ψ under the likelihood e^-g.

        The loss itself for an exponential family in its natural parameters.
        Raises ArgumentError for a loss that is no likelihood.
        """
        return self

    @property
    def reach(self) -> float:
        """Distance |∇g(0)|/μ (μ = 1 where unbounded) that predictions have to travel from zero."""
        slope = float(np.linalg.norm(self.gradient(np.zeros(self.num_outputs))))
        return slope / self.mu if np.isfinite(self.mu) else slope

    @abstractmethod
    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        """Product with a root of ∇²g(ψ) + shift I."""

    @abstractmethod
    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        """Vector that the transpose of the root of `_root` maps to `gradient`."""

    @abstractmethod
    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        """Solution with ∇²g(ψ) + shift I."""

    def _vector(self, name: str, value: ArrayLike) -> np.ndarray:
        return as_vector(name, value, self.num_outputs, finite=False)


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

    def third_product(self, psi: ArrayLike, u: ArrayLike, v: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._bend(self._vector("psi", psi)) * self._vector("u", u) * self._vector("v", v)

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        root = np.sqrt(self._curvature(psi) + shift)
        return root * columns if columns.ndim == 1 else root[:, None] * columns

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        root = np.sqrt(self._curvature(psi) + shift)
        return _divide(gradient, root)

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        return _divide(x, self._curvature(psi) + shift)


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
        self.targets = frozen(_bounded("y", as_vector("y", y), 0.0, 1.0, _RECODE))
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
        self.targets = frozen(_bounded("y", as_vector("y", y), 0.0, np.inf))
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
        """The squared error weighted with E g'², the information of a location parameter."""
        wide = 40 * max(1 / self.delta, 1.0)
        density = PseudoHuber([0.0], self.delta)
        weight, mass = (
            quad(lambda r, power=power: density._tilted(r, power), 0, wide, limit=200)[0]
            for power in (2, 0)
        )
        return SquaredError(self.targets, weight / mass)

    def _tilted(self, r: float, power: int) -> float:
        return float(self.gradient([r])[0] ** power * np.exp(-self.value([r])))

    def _curvature(self, psi: np.ndarray) -> np.ndarray:
        return self._stretch(psi)[1] ** -3.0

    def _bend(self, psi: np.ndarray) -> np.ndarray:
        residual, stretch = self._stretch(psi)
        return -3 * residual / self.delta**2 * stretch**-5.0

    def _stretch(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = psi - self.targets
        return residual, np.hypot(1.0, residual / self.delta)


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
        return np.float64(np.sum(logsumexp(logits, axis=1)) - np.sum(self.targets * logits))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        return (self._probability(self._vector("psi", psi)) - self.targets).ravel()

    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        pi, u = self._probability(self._vector("psi", psi)), self._logits(self._vector("u", u))
        return (pi * _centred(pi, u)).ravel()

    def third_product(self, psi: ArrayLike, u: ArrayLike, v: ArrayLike) -> Float[np.ndarray, " n"]:
        pi = self._probability(self._vector("psi", psi))
        u, v = self._logits(self._vector("u", u)), self._logits(self._vector("v", v))
        change = pi * _centred(pi, v)
        return (change * _centred(pi, u) - pi * np.sum(change * u, axis=1, keepdims=True)).ravel()

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        pi = self._probability(psi)[:, :, None]
        blocks = columns.reshape(*pi.shape[:2], -1)
        root = (np.sqrt(pi) * _centred(pi, blocks)).reshape(columns.shape)
        return np.concatenate([root, np.sqrt(shift) * columns]) if shift > 0 else root

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        pi = self._probability(psi).ravel()
        # The gradient of the cross-entropy sums to zero over the classes of a sample, which
        # makes it the image of gradient/sqrt(π); what `shift` adds to it is shift ψ.
        own = gradient - shift * psi
        residual = _divide(own, np.sqrt(pi))
        return np.concatenate([residual, np.sqrt(shift) * psi]) if shift > 0 else residual

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        pi = self._probability(psi)
        u = _divide(self._logits(x), pi + shift)
        if shift > 0:  # Sherman and Morrison, with 1 = Σπ inside the denominator
            share = pi / (pi + shift)
            u = u + share * np.sum(pi * u, axis=1, keepdims=True) / (
                shift * np.sum(share, axis=1, keepdims=True)
            )
        return u.ravel()

    def _logits(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(-1, self.num_classes)

    def _probability(self, psi: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(self._logits(psi), axis=1))


class StronglyConvex(Loss):
    """The loss g(ψ) + ν/2 |ψ|², strongly convex with modulus ν for any convex g.

    Raises ArgumentError unless nu >= 0. S. Cayci, arXiv 2412.14031v5, (4).
    """

    def __init__(self, loss: Loss, nu: float) -> None:
        if not isinstance(loss, Loss):
            raise ArgumentError(f"loss must be a gnmanifold loss, got {type(loss).__name__}")
        self.loss = loss
        self.added = nonnegative("nu", nu)
        self.num_outputs = loss.num_outputs
        self.nu = loss.nu + self.added
        self.mu = loss.mu + self.added
        self.isotropic = None if loss.isotropic is None else loss.isotropic + self.added

    def value(self, psi: ArrayLike) -> np.float64:
        psi = self._vector("psi", psi)
        return np.float64(self.loss.value(psi) + 0.5 * self.added * (psi @ psi))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        psi = self._vector("psi", psi)
        return self.loss.gradient(psi) + self.added * psi

    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.loss.hessian_product(psi, u) + self.added * self._vector("u", u)

    def third_product(self, psi: ArrayLike, u: ArrayLike, v: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.loss.third_product(psi, u, v)

    @property
    def information(self) -> Loss:
        """None: the added term is a prior and no likelihood."""
        raise ArgumentError("StronglyConvex is no likelihood: take the Fisher metric of its loss")

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._root(psi, columns, shift + self.added)

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._solve(psi, x, shift + self.added)

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._residual(psi, gradient, shift + self.added)


def _divide(x: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Quotient, zero where the curvature underflowed and leaves nothing to solve for."""
    return np.divide(x, curvature, out=np.zeros_like(x), where=curvature > 0)


def _centred(pi: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Deviation of u from its mean under the probabilities π, along the axis of the classes."""
    return np.asarray(u - np.sum(pi * u, axis=1, keepdims=True))


def _bounded(
    name: str, targets: np.ndarray, low: float, high: float, remedy: str = ""
) -> np.ndarray:
    outside = np.flatnonzero((targets < low) | (targets > high))
    if outside.size:
        index = int(outside[0])
        raise ArgumentError(
            f"{name} must lie in [{low:g}, {high:g}], but {name}[{index}] is {targets[index]:g}"
            f"{remedy}"
        )
    return targets


def _probabilities(y: np.ndarray) -> np.ndarray:
    _bounded("y", y.ravel(), 0.0, 1.0)
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
    _bounded("y", labels, 0, positive_int("num_classes", num_classes) - 1)
    return np.eye(num_classes)[labels.astype(int)]
