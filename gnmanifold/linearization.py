"""The linearization of a model at a point: value, Jacobian and one factorization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import NonFiniteError, ShapeError
from gnmanifold.factorization import Factor, Root, factorize, smallest_singular_value
from gnmanifold.models import Model
from gnmanifold.validation import as_vector, first_nonfinite, frozen

_REMEDY = (
    "damp the metric (GaussNewtonMetric(damping=...)), remove parameters that the outputs do not "
    "determine, or start elsewhere"
)


@dataclass
class Evaluations:
    """Counts of what was computed: values of f, Jacobians, directional products and so on.

    `second_derivatives` are directional, `integrations` solutions of differential equations.
    """

    values: int = 0
    jacobians: int = 0
    products: int = 0
    second_derivatives: int = 0
    factorizations: int = 0
    integrations: int = 0


@dataclass(frozen=True, eq=False)
class Linearization:
    """A model at parameters w: ψ = f(w), J = Df(w), the factor of J, and what they solve.

    Everything is computed when first asked for and kept; nothing else changes. `solver` factors
    the root B = J and is the place for another least-squares solver.
    Raises NonFiniteError where w, f(w) or J is not finite.
    """

    model: Model
    w: Float[np.ndarray, " p"]
    known_psi: Float[np.ndarray, " n"] | None = None
    counts: Evaluations = field(default_factory=Evaluations)
    solver: Callable[[Root], Factor] = factorize

    def __post_init__(self) -> None:
        w = as_vector("w", self.w, self.model.num_parameters, finite=False)
        object.__setattr__(self, "w", frozen(w))

    @cached_property
    def psi(self) -> Float[np.ndarray, " n"]:
        """Predictions f(w), shape (n,)."""
        psi = self.known_psi if self.known_psi is not None else evaluate(self)
        require_finite(self.w, psi)
        return psi

    @cached_property
    def jacobian(self) -> Float[np.ndarray, "n p"]:
        """Jacobian Df(w), shape (n, p)."""
        require_finite(self.w, self.known_psi)
        self.counts.jacobians += 1
        with np.errstate(all="ignore"):
            J = self.model.jacobian(self.w)
        wanted = (self.model.num_outputs, self.model.num_parameters)
        if np.shape(J) != wanted:
            raise ShapeError(f"the model's jacobian must return shape {wanted}, got {np.shape(J)}")
        return J

    @property
    def has_psi(self) -> bool:
        """Whether the predictions were computed already, and are finite."""
        return "psi" in self.__dict__

    @property
    def has_jacobian(self) -> bool:
        """Whether the Jacobian was computed already."""
        return "jacobian" in self.__dict__

    @cached_property
    def least_squares(self) -> Factor:
        """Factor of the Jacobian, of full rank or not."""
        return self.factorize(Root(self.jacobian))

    @property
    def factor(self) -> Factor:
        """Factor of the Jacobian; raises RankDeficientError unless it has full rank."""
        return self.least_squares.require_full_rank(_REMEDY)

    def factorize(self, root: Root) -> Factor:
        """Factor some root at this point, and count it."""
        self.counts.factorizations += 1
        return self.solver(root)

    @property
    def rank(self) -> int:
        """Numerical rank of the Jacobian."""
        return self.least_squares.rank

    @property
    def condition(self) -> float:
        """Condition number of the Jacobian with its columns scaled to unit length."""
        return self.least_squares.condition

    @cached_property
    def smallest_singular_value(self) -> float:
        """Smallest of the min(n, p) singular values of the Jacobian."""
        return smallest_singular_value(self.jacobian)

    def push(self, a: np.ndarray) -> Float[np.ndarray, " n"]:
        """Image J a of a parameter velocity, shape (n,)."""
        if self.has_jacobian:
            return self.jacobian @ a
        self.counts.products += 1
        return self.model.jvp(self.w, a)

    def pull_covector(self, z: np.ndarray) -> Float[np.ndarray, " p"]:
        """Pulled back output covector Jᵀz, shape (p,)."""
        if self.has_jacobian:
            return self.jacobian.T @ z
        z0, covector = self.__dict__.get("_pulled", (None, None))
        if z0 is None or not np.array_equal(z0, z):
            self.counts.products += 1
            covector = self.model.vjp(self.w, z)
            self.__dict__["_pulled"] = z, covector  # the gradient is asked for more than once
        return covector.copy()

    def pull(self, u: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity J⁺u (p,) whose image is closest to u, of minimum norm for p > n."""
        return self.factor.lstsq(u)

    def lift(self, c: np.ndarray) -> Float[np.ndarray, " n"]:
        """Tangent vector J (JᵀJ)⁻¹ c (n,) that pulls back to the covector c."""
        return self.factor.lift(c)

    def project(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        """Orthogonal projection P x = J J⁺ x onto the tangent space."""
        return self.factor.project(x)

    def second_derivative(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " n"]:
        """Second derivative D²f(w)[a, b], shape (n,)."""
        self.counts.second_derivatives += 1
        return _finite("second_derivative", self.model.second_derivative(self.w, a, b))

    def jacobian_derivative(self, a: np.ndarray) -> Float[np.ndarray, "n p"]:
        """Derivative D²f(w)[a, ·] of the Jacobian along a, shape (n, p)."""
        self.counts.second_derivatives += self.model.num_parameters
        return _finite("jacobian_derivative", self.model.jacobian_derivative(self.w, a))

    def hessian_matrix(self, z: np.ndarray) -> Float[np.ndarray, "p p"]:
        """Matrix Σ_i z_i ∇²f_i(w), shape (p, p)."""
        columns = [self.weighted_hessian(z, e) for e in np.eye(self.model.num_parameters)]
        return np.column_stack(columns)

    def weighted_hessian(self, z: np.ndarray, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Product (Σ_i z_i ∇²f_i(w)) a, shape (p,)."""
        self.counts.second_derivatives += 1
        return _finite("weighted_hessian", self.model.weighted_hessian(self.w, z, a))


def evaluate(lin: Linearization) -> np.ndarray:
    """Value of the model at the point, counted, with overflow left for the caller to see."""
    lin.counts.values += 1
    with np.errstate(all="ignore"):
        psi = np.array(lin.model(lin.w))
    if psi.shape != (lin.model.num_outputs,):
        wanted = (lin.model.num_outputs,)
        raise ShapeError(f"the model must return an array of shape {wanted}, got {psi.shape}")
    psi.flags.writeable = False
    return psi


def _finite(name: str, value: np.ndarray) -> np.ndarray:
    index = first_nonfinite(value)
    if index is not None:
        raise NonFiniteError(
            f"the model's {name} is {value.flat[index]} in entry {index}: it overflows there, or "
            "that derivative is wrong"
        )
    return value


def require_finite(w: np.ndarray, psi: np.ndarray | None) -> None:
    """Raise NonFiniteError naming the first bad parameter, or output where those are known."""
    index = first_nonfinite(w)
    if index is not None:
        raise NonFiniteError(f"parameter {index} is {w[index]}: start from finite parameters")
    index = None if psi is None else first_nonfinite(psi)
    if psi is not None and index is not None:
        raise NonFiniteError(
            f"the model's output {index} is {psi[index]} at |w| = {np.linalg.norm(w):.3g}: at the "
            "start, check the model's data for NaN or start elsewhere; on the way, bound the steps "
            "with a line search or damping"
        )
