"""Intrinsic and extrinsic curvature of an immersed metric, by the Gauss equation.

Second derivatives of f are all that it takes; the Riemann tensor of G would need third ones.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import ArgumentError
from gnmanifold.geometry.second_form import GaussForm, gauss_form, gauss_forms, total, trace
from gnmanifold.metrics.induced import InducedMetric

_PARALLEL = 1e-7  # sine of the angle below which rounding decides which plane is meant


def sectional_curvature(
    local: InducedMetric, a: Float[np.ndarray, " p"], b: Float[np.ndarray, " p"]
) -> np.float64:
    """Sectional curvature of the plane spanned by a and b, from the Gauss equation.

    K = (<II(a,a), II(b,b)> - |II(a,b)|² - ¼c (T_aa A⁻¹T_bb - T_ab A⁻¹T_ab)) / |a ∧ b|² with
    T_ab = T[J a, J b]; the last term is the curvature of the outputs with the metric A.
    Raises ArgumentError when a and b are parallel.
    do Carmo, Riemannian Geometry, ch. 6, th. 2.5; H. Shima, The Geometry of Hessian Structures.
    """
    a, b = _orthonormal(local, a, b)
    straight = gauss_form(local, a, a).product(gauss_form(local, b, b))
    mixed = gauss_form(local, a, b)
    return np.float64(straight - mixed.product(mixed))


def ricci_curvature(
    local: InducedMetric, a: Float[np.ndarray, " p"], b: Float[np.ndarray, " p"]
) -> np.float64:
    """Ricci curvature Ric(a, b) = Σ_i R(e_i, a, b, e_i) over an orthonormal frame.

    For unit a it is the sum of the sectional curvatures of p - 1 orthogonal planes through a.
    do Carmo, Riemannian Geometry, ch. 4.
    """
    first = gauss_forms(local, a).along(local.frame)
    second = first if b is a else gauss_forms(local, b).along(local.frame)
    crossed = np.trace(first.product(second))
    return np.float64(trace(local).product(gauss_form(local, a, b)) - crossed)


def scalar_curvature(local: InducedMetric) -> np.float64:
    """Scalar curvature Σ_ij K(e_i, e_j), the trace of the Ricci curvature: 2/r² on a sphere in R³.

    p derivatives of the Jacobian, each projected.
    """
    diagonal, squares = [], 0.0
    for i, e in enumerate(local.frame.T):
        forms = gauss_forms(local, e).along(local.frame)
        diagonal.append(GaussForm(*(part[:, i] for part in forms)))
        squares += np.sum(forms.normal**2) - np.sum(forms.skew**2)
    traced = total(diagonal)
    return np.float64(traced.product(traced) - squares)


def mean_curvature(local: InducedMetric) -> Float[np.ndarray, " m"]:
    """Mean curvature vector H = Σ_i II(e_i, e_i), the trace and not the mean: 2/r on a sphere.

    Normal, in the coordinates of the second fundamental form.
    """
    return trace(local).normal


def jacobi_operators(
    local: InducedMetric, v: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "p p"], Float[np.ndarray, "p p"]]:
    """Matrices of b -> Γ(v, b) and b -> R(b, v)v: the connection and the force on Jacobi fields.

    do Carmo, Riemannian Geometry, ch. 5.
    """
    lin, outputs = local.lin, local.outputs
    forms = gauss_forms(local, v)
    if local.weight == 0:
        return forms.turn, np.zeros_like(forms.turn)
    x = local.bend(v, v) - lin.push(forms.turn @ v)
    covector = lin.hessian_matrix(local.weight * outputs.product(x))
    if not outputs.flat:
        # <II(v,v), II(b,c)> holds ½T[x, Jb, Jc], and the ambient curvature -½ skew(v,v) of it.
        turned = x - local.skew(v, lin.push(v))
        covector += 0.5 * local.weight * (lin.jacobian.T @ outputs.third(turned, lin.jacobian))
    return forms.turn, local.raise_index(covector - forms.product(forms))


def _orthonormal(
    local: InducedMetric, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    local.require_regular()
    lengths = local.length(a), local.length(b)
    if not min(lengths) > 0:
        raise ArgumentError("a plane needs two tangent vectors that are not zero, got a zero one")
    a, b = a / lengths[0], b / lengths[1]
    rest = b - local.inner_product(a, b) * a
    sine = local.length(rest)
    if not sine > _PARALLEL:
        raise ArgumentError(
            f"a plane needs two tangent vectors that are not parallel, got an angle of {sine:.1e} "
            "between them"
        )
    return a, rest / sine
