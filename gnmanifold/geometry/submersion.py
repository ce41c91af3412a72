"""More parameters than outputs: what the Gauss-Newton metric means where f is a submersion.

JᵀJ is then degenerate, and a metric only of the quotient of the parameters by the fibres f = const,
which is locally R^n with the Euclidean metric: flat, with straight lines of outputs as geodesics.
Everything here is the horizontal lift of that, by the minimum-norm solution J⁺ = Jᵀ(JJᵀ)⁻¹.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.geometry.geodesics import integrate
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import EuclideanMetric
from gnmanifold.metrics.family import check_loss
from gnmanifold.models import Model
from gnmanifold.models.base import as_model
from gnmanifold.validation import as_vector, positive


def horizontal_lift(model: Model, w: ArrayLike, q: ArrayLike) -> Float[np.ndarray, " p"]:
    """Velocity J⁺q (p,) of least norm among those with image q (n,), orthogonal to the fibre.

    Raises ArgumentError unless p >= n and RankDeficientError where the rows of J are dependent.
    """
    lin = _submersion(model, w)
    return lin.pull(as_vector("q", q, model.num_outputs))


def horizontal_part(model: Model, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
    """Part J⁺J a of a velocity that is orthogonal to the fibre; the rest leaves f unchanged."""
    lin = _submersion(model, w)
    return lin.pull(lin.push(as_vector("a", a, model.num_parameters)))


def minimum_norm_step(model: Model, w: ArrayLike, loss: Loss) -> Float[np.ndarray, " p"]:
    """Riemannian gradient J⁺∇g of the quotient, lifted: w' = -J⁺∇g gives ψ' = -∇g(ψ).

    For the squared error it is minus the Gauss-Newton step of minimum norm.
    """
    check_loss(loss, model)
    lin = _submersion(model, w)
    return lin.pull(loss.gradient(lin.psi))


def submersion_hessian(model: Model, w: ArrayLike, loss: Loss) -> Float[np.ndarray, "p p"]:
    """Riemannian Hessian of g on the quotient in parameters, exactly the Gauss-Newton matrix.

    It is Jᵀ∇²g J: the normal part of ∇g, which meets D²f elsewhere, is zero. The Riemannian Hessian
    of the damped metric tends to it as the damping vanishes.
    """
    check_loss(loss, model)
    lin = _submersion(model, w)
    lin.factor.require_full_rank("the predictions are no submersion here")
    root = loss.hessian_root(lin.psi, lin.jacobian)
    return root.T @ root


def straight_line(
    model: Model, w: ArrayLike, q: ArrayLike, time: float = 1.0
) -> Float[np.ndarray, " p"]:
    """Parameters reached by the horizontal lift w' = J⁺q of the straight line ψ(t) = f(w) + t q.

    The lift of a geodesic. (The geodesic equation w'' = -J⁺D²f[w', w'] has the same outputs, but
    its velocity does not stay horizontal.) Raises GeodesicError, RankDeficientError where the line
    leaves the image of f.
    """
    lin = _submersion(model, w)
    q = as_vector("q", q, model.num_outputs)
    positive("time", time)

    def velocity(_: float, at: np.ndarray) -> np.ndarray:
        return Linearization(model, at, counts=lin.counts).pull(q)

    local = EuclideanMetric().at(lin)
    scale = max(float(np.linalg.norm(lin.w)), float(np.linalg.norm(lin.pull(q))))
    return integrate(local, velocity, lin.w, (0.0, float(time)), scale).y[:, -1]


def _submersion(model: Model, w: ArrayLike) -> Linearization:
    as_model("model", model)
    if model.num_parameters < model.num_outputs:
        raise ArgumentError(
            f"with p = {model.num_parameters} parameters and n = {model.num_outputs} outputs the "
            "predictions are a surface: use OutputManifold or ParameterManifold"
        )
    return Linearization(model, as_vector("w", w, model.num_parameters))
