"""Models made from models: scaled, centred, weighted, graphs, compositions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.models.base import Layers, Model, as_model
from gnmanifold.validation import as_vector, finite, frozen, nonnegative, positive


class _Rows(Model):
    """A model whose outputs are those of another, each multiplied by its own positive number."""

    def __init__(self, model: Model, factors: float | np.ndarray) -> None:
        self.model = as_model("model", model)
        self.num_parameters = model.num_parameters
        self.num_outputs = model.num_outputs
        self.scale = model.scale
        self.initial_parameters = model.initial_parameters
        self._factors = factors

    @property
    def second_order_accuracy(self) -> float:
        """That of the model inside."""
        return self.model.second_order_accuracy

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._factors * self.model(w)

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        return np.asarray(np.atleast_1d(self._factors)[:, None] * self.model.jacobian(w))

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        return self._factors * self.model.jvp(w, a)

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.vjp(w, self._factors * self._outputs("z", z))

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        return self._factors * self.model.second_derivative(w, a, b)

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n p"]:
        return np.atleast_1d(self._factors)[:, None] * self.model.jacobian_derivative(w, a)

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.weighted_hessian(w, self._factors * self._outputs("z", z), a)

    def layers(self, w: ArrayLike) -> Layers:
        factors = np.broadcast_to(self._factors, self.num_outputs)
        return [
            (inputs, factors.reshape(*deltas.shape[:2], 1) * deltas)
            for inputs, deltas in self.model.layers(w)
        ]


class Scaled(_Rows):
    """The model α f; its `scale` is α times that of f.

    Raises ArgumentError unless α > 0. S. Cayci, arXiv 2412.14031v5, section 2.
    """

    def __init__(self, model: Model, alpha: float) -> None:
        self.alpha = positive("alpha", alpha)
        super().__init__(model, self.alpha)
        self.scale = self.alpha * model.scale


class Weighted(_Rows):
    """The model (c_i f_i(w))_i for positive weights c of shape (n,), such as 1/σ_i.

    Weight the targets alike: the least-squares cost is then Σ_i c_i² (f_i - y_i)² / 2.
    Raises ShapeError or ArgumentError unless there is one finite weight > 0 for each output.
    """

    def __init__(self, model: Model, weights: ArrayLike) -> None:
        self.weights = frozen(as_vector("weights", weights, as_model("model", model).num_outputs))
        if not np.all(self.weights > 0):
            index = int(np.argmin(self.weights))
            raise ArgumentError(
                f"weights must be > 0, but weights[{index}] is {self.weights[index]}: "
                "leave out such an output"
            )
        super().__init__(model, self.weights)


class Centered(_Rows):
    """The model f(w) - f(w0), so that its predictions at `center` = w0 are zero."""

    def __init__(self, model: Model, center: ArrayLike) -> None:
        self.center = frozen(as_vector("center", center, as_model("model", model).num_parameters))
        super().__init__(model, 1.0)
        self._offset = model(self.center)

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.model(w) - self._offset


class Graph(Model):
    """The model w -> (c f(w), m w) in R^(n+p), an immersion for every f where m > 0.

    It induces the damped Gauss-Newton metric c² JᵀJ + diag(m²): c² = 1 - ρ, m = sqrt(ρ) α for
    GaussNewtonMetric(ρ), c = 1, m = sqrt(λ) for LevenbergMarquardtMetric(λ). `multiple` m is a
    number or of shape (p,), `output_multiple` c a number.
    """

    def __init__(
        self, model: Model, multiple: float | ArrayLike, output_multiple: float = 1.0
    ) -> None:
        self.model = as_model("model", model)
        self.num_parameters = model.num_parameters
        self.num_outputs = model.num_outputs + model.num_parameters
        self.scale = model.scale
        self.initial_parameters = model.initial_parameters
        values = np.full(self.num_parameters, multiple) if np.ndim(multiple) == 0 else multiple
        self.multiple = frozen(as_vector("multiple", values, self.num_parameters))
        if np.any(self.multiple < 0):
            raise ArgumentError(f"multiple must be >= 0, got {np.min(self.multiple):g}")
        self.output_multiple = nonnegative("output_multiple", output_multiple)

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " m"]:
        w = self._parameters("w", w)
        return np.concatenate([self.output_multiple * self.model(w), self.multiple * w])

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "m p"]:
        return np.vstack([self.output_multiple * self.model.jacobian(w), np.diag(self.multiple)])

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " m"]:
        a = self._parameters("a", a)
        return np.concatenate([self.output_multiple * self.model.jvp(w, a), self.multiple * a])

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        top, bottom = self._split(z)
        return self.model.vjp(w, self.output_multiple * top) + self.multiple * bottom

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " m"]:
        bent = self.output_multiple * self.model.second_derivative(w, a, b)
        return np.concatenate([bent, np.zeros(self.num_parameters)])

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "m p"]:
        bent = self.output_multiple * self.model.jacobian_derivative(w, a)
        return np.vstack([bent, np.zeros((self.num_parameters, self.num_parameters))])

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.weighted_hessian(w, self.output_multiple * self._split(z)[0], a)

    @property
    def second_order_accuracy(self) -> float:
        """That of the model inside."""
        return self.model.second_order_accuracy

    def _split(self, z: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        z = self._outputs("z", z)
        return z[: self.model.num_outputs], z[self.model.num_outputs :]


class Composed(Model):
    """The model v -> f(T(v)) for an outer model f: R^p -> R^n and an inner one T: R^q -> R^p.

    Raises ShapeError unless the inner model has as many outputs as the outer one parameters.
    """

    def __init__(self, outer: Model, inner: Model) -> None:
        self.outer, self.inner = as_model("outer", outer), as_model("inner", inner)
        if inner.num_outputs != outer.num_parameters:
            raise ShapeError(
                f"the inner model must have as many outputs as the outer one has parameters, "
                f"{outer.num_parameters}, got {inner.num_outputs}"
            )
        self.num_parameters = inner.num_parameters
        self.num_outputs = outer.num_outputs
        self.scale = outer.scale
        self.initial_parameters = inner.initial_parameters

    @property
    def second_order_accuracy(self) -> float:
        """That of the worse model."""
        return max(self.outer.second_order_accuracy, self.inner.second_order_accuracy)

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.outer(self.inner(w))

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n q"]:
        return self.outer.jacobian(self.inner(w)) @ self.inner.jacobian(w)

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.outer.jvp(self.inner(w), self.inner.jvp(w, a))

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " q"]:
        return self.inner.vjp(w, self.outer.vjp(self.inner(w), z))

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        middle = self.inner(w)
        bent = self.outer.second_derivative(middle, self.inner.jvp(w, a), self.inner.jvp(w, b))
        return bent + self.outer.jvp(middle, self.inner.second_derivative(w, a, b))

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n q"]:
        middle = self.inner(w)
        bent = self.outer.jacobian_derivative(middle, self.inner.jvp(w, a))
        straight = self.outer.jacobian(middle) @ self.inner.jacobian_derivative(w, a)
        return bent @ self.inner.jacobian(w) + straight

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " q"]:
        middle = self.inner(w)
        bent = self.outer.weighted_hessian(middle, z, self.inner.jvp(w, a))
        turned = self.inner.weighted_hessian(w, self.outer.vjp(middle, z), a)
        return self.inner.vjp(w, bent) + turned


class Fixed(Model):
    """A model with some parameters held at values {index: value}; the others are its parameters.

    Raises ArgumentError for indices that are none, or where no parameter is left.

    >>> import gnmanifold as gn
    >>> line = gn.CallableModel(lambda w: w[0] + w[1] * np.arange(3), num_parameters=2)
    >>> Fixed(line, {0: 10.0})(np.array([2.0]))
    array([10., 12., 14.])
    """

    def __init__(self, model: Model, values: Mapping[int, float]) -> None:
        self.model = as_model("model", model)
        p = model.num_parameters
        for index, value in values.items():
            if not 0 <= index < p:
                raise ArgumentError(f"values must name parameters 0 to {p - 1}, got {index!r}")
            finite(f"values[{index}]", value)
        self.free = np.setdiff1d(np.arange(p), list(values))
        if not self.free.size:
            raise ArgumentError(f"all {p} parameters are fixed: leave one")
        self._base = np.zeros(p)
        self._base[list(values)] = list(values.values())
        self.num_parameters, self.num_outputs = self.free.size, model.num_outputs
        self.scale = model.scale
        start = model.initial_parameters
        self.initial_parameters = None if start is None else frozen(start[self.free])

    @property
    def second_order_accuracy(self) -> float:
        """That of the model inside."""
        return self.model.second_order_accuracy

    def full(self, w: ArrayLike) -> Float[np.ndarray, " _"]:
        """All parameters of the model inside, the fixed ones included."""
        return self._spread("w", w, self._base)

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.model(self.full(w))

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        return self.model.jacobian(self.full(w))[:, self.free]

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.model.jvp(self.full(w), self._spread("a", a))

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.vjp(self.full(w), z)[self.free]

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        a, b = self._spread("a", a), self._spread("b", b)
        return self.model.second_derivative(self.full(w), a, b)

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n p"]:
        moved = self.model.jacobian_derivative(self.full(w), self._spread("a", a))
        return moved[:, self.free]

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        return self.model.weighted_hessian(self.full(w), z, self._spread("a", a))[self.free]

    def _spread(self, name: str, value: ArrayLike, base: np.ndarray | None = None) -> np.ndarray:
        vector = np.zeros(self.model.num_parameters) if base is None else base.copy()
        vector[self.free] = self._parameters(name, value)
        return vector
