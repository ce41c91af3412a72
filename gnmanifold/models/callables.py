"""Models from plain functions, with differences where a derivative is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, GnmanifoldError, ShapeError
from gnmanifold.models.base import Model
from gnmanifold.models.differences import EPS, central_difference
from gnmanifold.validation import positive_int


class CallableModel(Model):
    """A model given by functions of w (p,): values (n,), and derivatives where they are known.

    `jacobian(w)` returns (n, p) and `second_derivative(w, a, b)` returns D²f(w)[a, b], (n,). What
    is missing is replaced by central differences, with steps relative to each parameter and
    widened where the function moves too little: a Jacobian to about 1e-10 relative from 2p calls
    or more, a second derivative to about 1e-10 from two Jacobians or to about 1e-4 from four
    values. `num_outputs` is found by one call at a vector of ones when it is not given.
    Raises ArgumentError when that call fails and ShapeError when a function returns a wrong shape.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], ArrayLike],
        num_parameters: int,
        num_outputs: int | None = None,
        *,
        jacobian: Callable[[np.ndarray], ArrayLike] | None = None,
        second_derivative: Callable[[np.ndarray, np.ndarray, np.ndarray], ArrayLike] | None = None,
    ) -> None:
        for name, given in (
            ("function", function),
            ("jacobian", jacobian or function),
            ("second_derivative", second_derivative or function),
        ):
            if not callable(given):
                raise ArgumentError(f"{name} must be a function, got {type(given).__name__}")
        self.function = function
        self.num_parameters = positive_int("num_parameters", num_parameters)
        self.num_outputs = (
            count_outputs(function, self.num_parameters)
            if num_outputs is None
            else positive_int("num_outputs", num_outputs)
        )
        self._jacobian = jacobian
        self._second_derivative = second_derivative
        self._derivative_noise = EPS if jacobian is not None else 1e-10

    @property
    def _differenced(self) -> bool:
        return self._second_derivative is None

    @property
    def second_order_accuracy(self) -> float:
        """Rounding for the user's own second derivative, else that of the differences."""
        if self._second_derivative is not None:
            return EPS
        return 1e-9 if self._jacobian is not None else 1e-4

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        """Predictions f(w)."""
        return check_outputs(self.function(self._parameters("w", w)), self.num_outputs)

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Jacobian Df(w), the user's own or central differences column by column."""
        w = self._parameters("w", w)
        if self._jacobian is None:
            units = np.eye(self.num_parameters)
            return np.column_stack([central_difference(self, w, unit) for unit in units])
        J = np.array(self._jacobian(w), dtype=np.float64)  # a copy: it may be reused
        if J.shape != (self.num_outputs, self.num_parameters):
            wanted = (self.num_outputs, self.num_parameters)
            raise ShapeError(f"jacobian must return shape {wanted}, got {J.shape}")
        return J

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        """Directional derivative Df(w) a, from the user's Jacobian or from two values."""
        w, a = self._parameters("w", w), self._parameters("a", a)
        return central_difference(self, w, a) if self._jacobian is None else self.jacobian(w) @ a

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        """Second derivative D²f(w)[a, b], the user's own or differences."""
        if self._second_derivative is None:
            return super().second_derivative(w, a, b)
        w, a, b = self._parameters("w", w), self._parameters("a", a), self._parameters("b", b)
        return check_outputs(self._second_derivative(w, a, b), self.num_outputs)

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        """Product (Σ_i z_i ∇²f_i(w)) a, entry by entry where `second_derivative` is the user's."""
        if self._second_derivative is None:
            return super().weighted_hessian(w, z, a)
        z = self._outputs("z", z)
        units = np.eye(self.num_parameters)
        return np.array([z @ self.second_derivative(w, a, unit) for unit in units])


def count_outputs(function: Callable[[np.ndarray], ArrayLike], num_parameters: int) -> int:
    """Length of the vector that `function` returns, from one call at a vector of ones."""
    try:
        with np.errstate(all="ignore"):
            value = function(np.ones(num_parameters))
    except GnmanifoldError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"the function fails at a vector of {num_parameters} ones, where its outputs are "
            f"counted: {error}. It must take one vector w of shape ({num_parameters},); if it does "
            "and is not defined there, pass num_outputs"
        ) from error
    return check_outputs(value).size


def check_outputs(value: Any, length: int | None = None) -> Float[np.ndarray, " n"]:
    """Return what a user's function gave as a float64 vector of the expected length."""
    array = np.array(value, dtype=np.float64)  # a copy: the function may reuse its array
    if array.ndim != 1 or (length is not None and array.size != length):
        wanted = "(n,)" if length is None else f"({length},)"
        raise ShapeError(f"the model must return an array of shape {wanted}, got {array.shape}")
    return array
