"""The interface of a model, a smooth map from parameters to predictions."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.models.differences import EPS, central_difference
from gnmanifold.validation import as_vector

Layers = list[tuple[np.ndarray, np.ndarray]]


class Model(ABC):
    """A smooth map f: R^p -> R^n with its derivatives.

    A subclass sets `num_parameters` p and `num_outputs` n, and writes `__call__` and `jacobian`.
    The other derivatives default to products with the Jacobian and to central differences of
    them, accurate to about 1e-10 relative; write them where the exact ones are known.
    A model must not change after it was made: manifolds remember what they computed from it.
    """

    num_parameters: int
    num_outputs: int
    scale: float = 1.0
    initial_parameters: np.ndarray | None = None
    identity: str  # a name that copies and pickles of this model keep and no other model has
    _derivative_noise: float = EPS  # relative accuracy of jvp and vjp

    @abstractmethod
    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        """Predictions f(w), shape (n,), for parameters of shape (p,)."""

    @abstractmethod
    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Jacobian Df(w), shape (n, p)."""

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        """Directional derivative Df(w) a, shape (n,)."""
        return self.jacobian(w) @ self._parameters("a", a)

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        """Pulled back covector Df(w)^T z, shape (p,), for z of shape (n,)."""
        return self.jacobian(w).T @ self._outputs("z", z)

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        """Second derivative D²f(w)[a, b], shape (n,); by default a central difference of `jvp`."""
        w, a, b = self._parameters("w", w), self._parameters("a", a), self._parameters("b", b)
        return central_difference(lambda v: self.jvp(v, a), w, b, self._derivative_noise)

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Derivative D²f(w)[a, ·] of the Jacobian along a, shape (n, p).

        By default from `second_derivative` by columns, or a central difference of the Jacobian
        where that is one too.
        """
        w, a = self._parameters("w", w), self._parameters("a", a)
        if self._differenced:
            return central_difference(self.jacobian, w, a, self._derivative_noise)
        columns = np.eye(self.num_parameters)
        return np.column_stack([self.second_derivative(w, a, column) for column in columns])

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        """Product (Σ_i z_i ∇²f_i(w)) a, shape (p,); by default a central difference of `vjp`."""
        w, a, z = self._parameters("w", w), self._parameters("a", a), self._outputs("z", z)
        return central_difference(lambda v: self.vjp(v, z), w, a, self._derivative_noise)

    def __new__(cls, *_: Any, **__: Any) -> Model:
        model = super().__new__(cls)
        # around dataclasses' frozen assignment; copies and pickles overwrite it with their own
        object.__setattr__(model, "identity", uuid.uuid4().hex)
        return model

    @property
    def first_order_accuracy(self) -> float:
        """Relative accuracy to expect of the Jacobian: rounding where it is exact."""
        return self._derivative_noise

    @property
    def second_order_accuracy(self) -> float:
        """Relative accuracy to expect of the second derivatives: rounding where they are exact."""
        return 10 * self._derivative_noise ** (2 / 3) if self._differenced else EPS

    def layers(self, w: ArrayLike) -> Layers:
        """Inputs x (N, m_in) of each layer, and derivatives δ (N, k, m_out) of the k outputs.

        The derivatives are by the layer's pre-activations W x; networks have them.
        """
        raise ArgumentError(
            f"{type(self).__name__} has no layers: the Kronecker-factored metric and KFAC are for "
            "FeedforwardNetwork, alone or in Scaled, Centered or Weighted"
        )

    @property
    def _differenced(self) -> bool:
        return type(self).second_derivative is Model.second_derivative

    def _parameters(self, name: str, value: ArrayLike) -> Float[np.ndarray, " p"]:
        return as_vector(name, value, self.num_parameters, finite=False)

    def _outputs(self, name: str, value: ArrayLike) -> Float[np.ndarray, " n"]:
        return as_vector(name, value, self.num_outputs, finite=False)


def as_model(name: str, model: Any) -> Model:
    """Return `model` if it is one, or raise an ArgumentError that names the argument."""
    if not isinstance(model, Model):
        raise ArgumentError(
            f"{name} must be a gnmanifold model, got {type(model).__name__}: "
            "wrap a function in CallableModel or AutogradModel"
        )
    return model
