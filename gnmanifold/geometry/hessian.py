"""The Riemannian Hessian of a loss of the predictions."""

import numpy as np
from jaxtyping import Float

from gnmanifold.metrics import LocalMetric


def riemannian_hessian(
    local: LocalMetric,
    normal: Float[np.ndarray, " n"],
    curvature: Float[np.ndarray, " n"],
    a: Float[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Riemannian Hessian of h = g∘f applied to a velocity, G⁻¹(Jᵀ∇²g J a + Σ_i ξ_i ∇²f_i a).

    `normal` is the covector ξ = local.normal(∇g), `curvature` is ∇²g J a.
    do Carmo, Riemannian Geometry, ch. 6; with damping the graph (f, w) takes the place of f.
    """
    return local.gradient(curvature) + local.raise_index(local.lin.weighted_hessian(normal, a))


def connection_term(
    local: LocalMetric, covector: Float[np.ndarray, " p"], a: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Covector b -> covector · Γ(a, b), what separates second derivatives from the Hessian.

    Raises NotAnImmersionError for a metric without connection.
    """
    local.require_immersion()
    if local.weight == 0:
        return np.zeros_like(a)
    image = local.lin.push(local.raise_index(covector))
    return local.weight * local.lin.weighted_hessian(image, a)
