"""Models written with autograd's NumPy; the one place that imports autograd."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
from autograd.extend import Box, VSpace
from autograd.numpy.numpy_boxes import ArrayBox
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.models.base import Model
from gnmanifold.models.callables import check_outputs, count_outputs
from gnmanifold.validation import positive_int


class AutogradModel(Model):
    """A model given by a function of w (p,) that autograd can differentiate and returns (n,).

    The Jacobian is built from p forward passes, or from n reverse passes where n < p or where a
    primitive of the function has no forward rule; second derivatives are exact. `num_outputs` is
    found by one call at a vector of ones when it is not given.
    Raises ArgumentError when that call fails and ShapeError when it returns no vector.

    >>> AutogradModel(lambda w: w[0] * w, num_parameters=2).jacobian([2.0, 3.0])
    array([[4., 0.],
           [3., 2.]])
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        num_parameters: int,
        num_outputs: int | None = None,
    ) -> None:
        if not callable(function):
            raise ArgumentError(f"function must be a function, got {type(function).__name__}")
        self.function = _differentiable(function)
        self.num_parameters = positive_int("num_parameters", num_parameters)
        self.num_outputs = (
            count_outputs(self.function, self.num_parameters)
            if num_outputs is None
            else positive_int("num_outputs", num_outputs)
        )

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        """Predictions f(w)."""
        return check_outputs(self.function(self._parameters("w", w)), self.num_outputs)

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Jacobian Df(w) by forward columns, or by reverse rows where those are fewer."""
        w = self._parameters("w", w)
        if self.num_parameters <= self.num_outputs:
            directions = np.eye(self.num_parameters)
            return np.column_stack([self.jvp(w, direction) for direction in directions])
        pull = _reverse(self.function, w)
        return np.stack([pull(row) for row in np.eye(self.num_outputs)])

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        """Directional derivative Df(w) a by one forward pass."""
        return _forward_or_reverse(
            self.function, self._parameters("w", w), self._parameters("a", a)
        )

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        """Pulled back covector Df(w)^T z by one reverse pass."""
        return np.asarray(_reverse(self.function, self._parameters("w", w))(self._outputs("z", z)))

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        """Second derivative D²f(w)[a, b], a forward pass over a forward pass."""
        w, a, b = self._parameters("w", w), self._parameters("a", a), self._parameters("b", b)
        return _forward_or_reverse(lambda v: _forward_or_reverse(self.function, v, a), w, b)

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        """Product (Σ_i z_i ∇²f_i(w)) a, a reverse pass over a directional derivative."""
        w, z, a = self._parameters("w", w), self._outputs("z", z), self._parameters("a", a)

        def slope(v: Any) -> Any:
            return anp.dot(z, _forward_or_reverse(self.function, v, a))

        return np.asarray(_reverse(slope, w)(1.0))


def register_array_subclass(cls: type[np.ndarray]) -> None:
    """Make autograd differentiate functions of instances of `cls` as functions of plain arrays."""
    ArrayBox.register(cls)
    plain = VSpace.mappings[np.ndarray]
    VSpace.register(cls, lambda value: plain(np.asarray(value)))


def _differentiable(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, refusing results in which autograd has lost sight of the parameters.

    A list, or plain NumPy's array made of several traced numbers, would have derivative zero.
    """

    def checked(w: Any) -> Any:
        value = function(w)
        traced = isinstance(value, Box)
        if not traced and (not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub"):
            raise ShapeError(
                "the function must return an array of shape (n,) made by autograd.numpy, as in "
                "`import autograd.numpy as anp; anp.array([...])`; got a "
                f"{type(value).__name__} that autograd cannot look through"
            )
        return value

    return checked


def _reverse(function: Callable[[np.ndarray], Any], w: np.ndarray) -> Callable[[Any], Any]:
    """Pullback of covectors at w."""
    with _constants_allowed():
        return autograd.make_vjp(function)(w)[0]


def _forward_or_reverse(function: Callable[[np.ndarray], np.ndarray], w: Any, a: np.ndarray) -> Any:
    """Directional derivative by forward mode, or by reverse twice where a rule is missing."""
    with _constants_allowed():
        try:
            return autograd.make_jvp(function)(w)(a)[1]
        except NotImplementedError:
            pull, value = autograd.make_vjp(function)(w)
            # u -> J^T u is linear, so its own reverse pass is a -> J a.
            push, _ = autograd.make_vjp(pull)(0 * value)
            return push(a)


@contextmanager
def _constants_allowed() -> Iterator[None]:
    """Silence autograd's warning that a derivative is zero: that of a linear function's is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Output seems independent of input")
        yield
