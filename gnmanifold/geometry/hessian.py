"""The Riemannian Hessian of a loss of the predictions."""

import numpy as np
from jaxtyping import Float

from gnmanifold.losses import Loss
from gnmanifold.metrics.induced import InducedMetric


def riemannian_hessian(
    local: InducedMetric,
    normal: Float[np.ndarray, " n"],
    gradient: Float[np.ndarray, " p"],
    curvature: Float[np.ndarray, " n"],
    a: Float[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Riemannian Hessian of h = g∘f applied to a velocity, G⁻¹(∇²h a - ∇h · Γ(a, ·)).

    It is G⁻¹(Jᵀ∇²g J a - (c/2) JᵀT[J grad h, J a] + Σ_i ξ_i ∇²f_i a) with the covector
    ξ = `normal` = local.normal(∇g), `gradient` = grad h and `curvature` = ∇²g J a.
    do Carmo, Riemannian Geometry, ch. 6; with damping the graph (f, w) takes the place of f.
    """
    if local.weight != 0 and not local.outputs.flat:
        lin = local.lin
        turned = local.outputs.third(lin.push(gradient), lin.push(a))
        curvature = curvature - 0.5 * local.weight * turned
    return local.gradient(curvature) + local.raise_index(local.lin.weighted_hessian(normal, a))


def hessian_form(local: InducedMetric, loss: Loss) -> Float[np.ndarray, "p p"]:
    """Riemannian Hessian of g∘f as the matrix of a bilinear form of velocities, aᵀM b.

    M = Jᵀ∇²g J + Σ_i ξ_i ∇²f_i - (c/2) JᵀT[J grad h, J ·]; its eigenvalues in the metric are those
    of EᵀM E for an orthonormal frame E. Undamped with p = n, or with vanishing damping for p > n,
    it is the generalized Gauss-Newton matrix Jᵀ∇²g J for A = I.
    """
    lin = local.lin
    z = loss.gradient(lin.psi)
    gradient = local.gradient(z)
    root = loss.hessian_root(lin.psi, lin.jacobian)
    form = root.T @ root + lin.hessian_matrix(local.normal(z, gradient))
    if local.weight != 0 and not local.outputs.flat:
        turned = local.outputs.third(lin.push(gradient), lin.jacobian)
        form -= 0.5 * local.weight * (lin.jacobian.T @ turned)
    return 0.5 * (form + form.T)


def connection_term(
    local: InducedMetric, covector: Float[np.ndarray, " p"], a: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Covector b -> covector · Γ(a, b), what separates second derivatives from the Hessian."""
    if local.weight == 0:
        return np.zeros_like(a)
    return local.dual_bend(local.lin.push(local.raise_index(covector)), a)
