"""Immersions whose Euclidean metric is the Fisher information of a model's distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import expit, softmax

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.models.base import Model, as_model
from gnmanifold.validation import one_of, positive_int


class _Family(ABC):
    """A map Φ of the natural parameters ψ with DΦᵀDΦ = F(ψ)."""

    @abstractmethod
    def value(self, psi: np.ndarray) -> np.ndarray:
        """Value Φ(ψ)."""

    @abstractmethod
    def push(self, psi: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Product DΦ C with a vector (n,) or the columns of a matrix."""

    @abstractmethod
    def pull(self, psi: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Product DΦᵀz."""

    @abstractmethod
    def second(self, psi: np.ndarray, u: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Second derivative D²Φ[u, C]."""

    @abstractmethod
    def weighted(self, psi: np.ndarray, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Product (Σ_i z_i ∇²Φ_i) u."""


class _Elementwise(_Family):
    """A function of each natural parameter alone."""

    @abstractmethod
    def slope(self, psi: np.ndarray) -> np.ndarray:
        """First derivative."""

    @abstractmethod
    def bend(self, psi: np.ndarray) -> np.ndarray:
        """Second derivative."""

    def push(self, psi: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return (self.slope(psi) * columns.T).T

    def pull(self, psi: np.ndarray, z: np.ndarray) -> np.ndarray:
        return self.slope(psi) * z

    def second(self, psi: np.ndarray, u: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return (self.bend(psi) * u * columns.T).T

    def weighted(self, psi: np.ndarray, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.bend(psi) * z * u


class _Bernoulli(_Elementwise):
    """Arc length 2 arctan e^(ψ/2) of the half circle (2 sqrt(s), 2 sqrt(1-s)), s = sigmoid(ψ)."""

    def value(self, psi: np.ndarray) -> np.ndarray:
        return 0.5 * np.pi + 2 * np.arctan(np.tanh(0.25 * psi))  # without overflow

    def slope(self, psi: np.ndarray) -> np.ndarray:
        return np.sqrt(expit(psi) * expit(-psi))

    def bend(self, psi: np.ndarray) -> np.ndarray:
        return -0.5 * np.tanh(0.5 * psi) * self.slope(psi)


class _Poisson(_Elementwise):
    """Twice the square root 2 e^(ψ/2) of the rate."""

    def value(self, psi: np.ndarray) -> np.ndarray:
        return 2 * np.exp(0.5 * psi)

    def slope(self, psi: np.ndarray) -> np.ndarray:
        return np.exp(0.5 * psi)

    def bend(self, psi: np.ndarray) -> np.ndarray:
        return 0.5 * np.exp(0.5 * psi)


class _Categorical(_Family):
    """Points 2 sqrt(π) of a sphere of radius 2 for each sample, π the softmax of its logits."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def value(self, psi: np.ndarray) -> np.ndarray:
        return 2 * self._root(psi).ravel()

    def push(self, psi: np.ndarray, columns: np.ndarray) -> np.ndarray:
        root = self._root(psi)
        return (root[:, :, None] * self._centred(root, columns)).reshape(columns.shape)

    def pull(self, psi: np.ndarray, z: np.ndarray) -> np.ndarray:
        root = self._root(psi)
        rooted = root * self._logits(z)
        return (rooted - root**2 * np.sum(rooted, axis=1, keepdims=True)).ravel()

    def second(self, psi: np.ndarray, u: np.ndarray, columns: np.ndarray) -> np.ndarray:
        root = self._root(psi)
        first, others = self._centred(root, u), self._centred(root, columns)
        covariance = np.sum(root[:, :, None] ** 2 * first * others, axis=1, keepdims=True)
        return (root[:, :, None] * (0.5 * first * others - covariance)).reshape(columns.shape)

    def weighted(self, psi: np.ndarray, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        # z · D²Φ[u, v] = Σ v̂ (½ z sqrt(π) û - π û Σ z sqrt(π)), and Σ x v̂ = Σ (x - π Σ x) v.
        root = self._root(psi)
        first = self._centred(root, u)[:, :, 0]
        rooted = root * self._logits(z)
        x = first * (0.5 * rooted - root**2 * np.sum(rooted, axis=1, keepdims=True))
        return (x - root**2 * np.sum(x, axis=1, keepdims=True)).ravel()

    def _root(self, psi: np.ndarray) -> np.ndarray:
        return np.sqrt(softmax(self._logits(psi), axis=1))

    def _logits(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(-1, self.num_classes)

    def _centred(self, root: np.ndarray, columns: np.ndarray) -> np.ndarray:
        blocks = columns.reshape(*root.shape, -1)
        return blocks - np.sum(root[:, :, None] ** 2 * blocks, axis=1, keepdims=True)


_FAMILIES = {"bernoulli": _Bernoulli, "poisson": _Poisson}


class SquareRoot(Model):
    """The model Φ(f(w)) whose Gauss-Newton metric is the Fisher metric of f, Jᵀ F(f) J.

    `family` names the distribution of which f(w) are the natural parameters: "bernoulli" (logits),
    Φ = 2 arctan e^(ψ/2); "poisson" (log-rates), 2 e^(ψ/2); "categorical" (logits of `num_classes`
    classes, sample by sample), 2 sqrt(softmax ψ). Its geometry is that of FisherMetric, by an
    immersion into a Euclidean space.
    Raises ArgumentError for another family or a missing number of classes, ShapeError where the
    outputs are no whole number of samples.
    S. Amari and H. Nagaoka, Methods of Information Geometry, section 2.
    """

    def __init__(self, model: Model, family: str, num_classes: int | None = None) -> None:
        self.model = as_model("model", model)
        self.family = one_of("family", family, ("bernoulli", "poisson", "categorical"))
        self.num_parameters, self.num_outputs = model.num_parameters, model.num_outputs
        self.scale = model.scale
        self.initial_parameters = model.initial_parameters
        if family != "categorical":
            self._map: _Family = _FAMILIES[family]()
            return
        if num_classes is None or positive_int("num_classes", num_classes) < 2:
            raise ArgumentError(f"the categorical family needs num_classes > 1, got {num_classes}")
        self._map = _Categorical(num_classes)
        if model.num_outputs % num_classes:
            raise ShapeError(
                f"the {model.num_outputs} outputs are no whole number of samples with "
                f"{num_classes} logits each"
            )

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._map.value(self.model(w))

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        return self._map.push(self.model(w), self.model.jacobian(w))

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._map.push(self.model(w), self.model.jvp(w, a))

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.vjp(w, self._map.pull(self.model(w), self._outputs("z", z)))

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        psi, images = self.model(w), (self.model.jvp(w, a), self.model.jvp(w, b))
        straight = self._map.push(psi, self.model.second_derivative(w, a, b))
        return straight + self._map.second(psi, *images)

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n p"]:
        psi = self.model(w)
        straight = self._map.push(psi, self.model.jacobian_derivative(w, a))
        return straight + self._map.second(psi, self.model.jvp(w, a), self.model.jacobian(w))

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        psi, z = self.model(w), self._outputs("z", z)
        bent = self.model.weighted_hessian(w, self._map.pull(psi, z), a)
        return bent + self.model.vjp(w, self._map.weighted(psi, z, self.model.jvp(w, a)))

    @property
    def second_order_accuracy(self) -> float:
        """That of the model inside."""
        return self.model.second_order_accuracy
