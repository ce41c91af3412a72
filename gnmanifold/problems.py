"""Problems g(f(w)) with exact gradient and Hessian for pymanopt's solvers and ours."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymanopt

from gnmanifold.errors import ArgumentError, NonFiniteError, ShapeError
from gnmanifold.losses import Loss
from gnmanifold.manifolds import OutputManifold, ParameterManifold
from gnmanifold.metrics import LocalMetric
from gnmanifold.metrics.induced import induced
from gnmanifold.validation import first_nonfinite


@dataclass(frozen=True, eq=False)
class _Gradient:
    """What gradient and Hessian share at a point, each part computed when first asked for."""

    local: LocalMetric
    covector: np.ndarray

    @cached_property
    def velocity(self) -> np.ndarray:
        return self.local.gradient(self.covector)

    @cached_property
    def normal(self) -> np.ndarray:
        return induced(self.local).normal(self.covector, self.velocity)


class CompositeProblem(pymanopt.Problem):
    """The pymanopt problem of minimising h(w) = g(f(w)) on a manifold of the model f.

    Cost, Riemannian gradient and Riemannian Hessian are exact and share one Jacobian and one
    factorization at each point; a cost that overflows is NaN or infinite, for the solver to
    refuse. The manifold takes the loss's distance from zero predictions to the minimum as its
    typical length, unless it was made with its own.
    Raises ShapeError when the loss has targets for another number of outputs.

    >>> import gnmanifold as gn
    >>> model = gn.CallableModel(lambda w: w**2, num_parameters=2)
    >>> problem = gn.CompositeProblem(gn.ParameterManifold(model), gn.SquaredError([1.0, 4.0]))
    >>> print(f"{problem.cost(np.array([2.0, 2.0])):.1f}")
    4.5
    """

    def __init__(self, manifold: OutputManifold | ParameterManifold, loss: Loss) -> None:
        if not isinstance(manifold, OutputManifold | ParameterManifold):
            raise ArgumentError(
                f"manifold must be an OutputManifold or a ParameterManifold, "
                f"got {type(manifold).__name__}"
            )
        if not isinstance(loss, Loss):
            raise ArgumentError(f"loss must be a gnmanifold loss, got {type(loss).__name__}")
        if loss.num_outputs != manifold.model.num_outputs:
            raise ShapeError(
                f"the loss has {loss.num_outputs} targets, the model "
                f"{manifold.model.num_outputs} outputs: they must be as many"
            )
        self.model = manifold.model
        self.loss = loss
        self._slot: _Gradient | None = None
        manifold.suggest_typical_dist(8 * loss.reach)
        backend = pymanopt.function.numpy(manifold)
        super().__init__(
            manifold,
            backend(self._evaluate_cost),
            riemannian_gradient=backend(self._evaluate_gradient),
            riemannian_hessian=backend(self._evaluate_hessian),
        )

    @property
    def euclidean_gradient(self) -> Any:
        """Gradient of the cost in the ambient space: ∇g on f(B), Jᵀ∇g on parameters."""
        return self._evaluate_euclidean_gradient

    def gauss_newton_hessian(self, point: Any, tangent_vector: Any) -> np.ndarray:
        """Gauss-Newton part G⁻¹JᵀAJ a of the Riemannian Hessian, A = ∇²g, as a tangent vector."""
        local = self.manifold.at(point)
        image = local.lin.push(self.manifold.velocity(local, tangent_vector))
        velocity = local.gradient(self.loss.hessian_product(local.lin.psi, image))
        return self.manifold.tangent(local, velocity)

    def _evaluate_cost(self, point: Any) -> np.float64:
        with np.errstate(all="ignore"):
            return self.loss.value(self.manifold.predictions(point))

    def _evaluate_euclidean_gradient(self, point: Any) -> np.ndarray:
        lin = self.manifold.at(point).lin
        z = self.loss.gradient(lin.psi)
        return z if isinstance(self.manifold, OutputManifold) else lin.pull_covector(z)

    def _evaluate_gradient(self, point: Any) -> np.ndarray:
        local = self.manifold.at(point)
        velocity = self._gradient(local).velocity
        _require_finite("gradient", velocity, local.lin.psi)
        return self.manifold.tangent(local, velocity)

    def _evaluate_hessian(self, point: Any, tangent_vector: Any) -> np.ndarray:
        local = self.manifold.at(point)
        psi = local.lin.psi
        return self.manifold.composite_hessian(
            local,
            self._gradient(local).normal,
            self._gradient(local).velocity,
            lambda u: self.loss.hessian_product(psi, u),
            tangent_vector,
        )

    def _gradient(self, local: LocalMetric) -> "_Gradient":
        if self._slot is None or self._slot.local is not local:
            psi = local.lin.psi
            with np.errstate(all="ignore"):
                self._slot = _Gradient(local, self.loss.gradient(psi))
            _require_finite("gradient of the loss", self._slot.covector, psi)
        return self._slot


def require_composite(problem: Any, name: str) -> None:
    """Raise ArgumentError for a problem whose model and loss are not known."""
    if not isinstance(problem, CompositeProblem):
        raise ArgumentError(
            f"{name} needs a CompositeProblem, whose model and loss it uses, "
            f"as in CompositeProblem(manifold, SquaredError(y)); got {type(problem).__name__}"
        )


def _require_finite(name: str, value: np.ndarray, psi: np.ndarray) -> None:
    index = first_nonfinite(value)
    if index is not None:
        raise NonFiniteError(
            f"the {name} is {value[index]} in entry {index}, at predictions of size "
            f"{np.linalg.norm(psi):.3g}: start elsewhere, or check the model's derivatives"
        )
