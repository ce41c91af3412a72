"""The second fundamental form of the immersion behind a metric, and what the Gauss equation needs.

Normal vectors are given in coordinates in which the ambient inner product is the Euclidean one:
in R^n for the Gauss-Newton metric, in R^(n+p) for (sqrt(1-ρ) f, sqrt(ρ) α w) and its like.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gnmanifold.metrics.induced import InducedMetric

_RESTARTS = 20
_SWEEPS = 500
_SETTLED = 1e-13  # relative gain of a sweep that ends an ascent
_COLLAPSED = 1e-6  # length of a sum of unit vectors that is only their rounding


def second_fundamental_form(
    local: InducedMetric, a: Float[np.ndarray, " p"], b: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " m"]:
    """Second fundamental form II(a, b), the normal part of D²f[a, b] + ½A⁻¹T[J a, J b].

    do Carmo, Riemannian Geometry, ch. 6; A. Bates and D. Watts, J. R. Stat. Soc. B 42 (1980).
    """
    return gauss_form(local, a, b).normal


def weingarten(
    local: InducedMetric, x: Float[np.ndarray, " n"], a: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Weingarten map S_ν a with <S_ν a, b> = <ν, II(a, b)>, for ν with the part x (n,) in R^n."""
    return local.raise_index(local.dual_bend(x, a))


class GaussForm(NamedTuple):
    """What a bilinear form of two velocities adds to the curvature tensor by its products.

    `normal` is II(a, b); `skew` is ½A⁻¹T[J a, J b], which carries the curvature of the ambient
    space: R(a, b, c, d) = F(a, d) · F(b, c) - F(a, c) · F(b, d), with the product below.
    `turn` is the tangential part Γ(a, b), found on the way.
    """

    normal: Float[np.ndarray, " m *k"]
    skew: Float[np.ndarray, " l *k"]
    turn: Float[np.ndarray, " p *k"]

    def product(self, other: GaussForm) -> Any:
        """Indefinite inner product, the outputs' own connection counting negative."""
        return self.normal.T @ other.normal - self.skew.T @ other.skew

    def along(self, E: np.ndarray) -> GaussForm:
        """Combination of the columns with coefficients E."""
        return GaussForm(*(part @ E for part in self))


def gauss_form(local: InducedMetric, a: np.ndarray, b: np.ndarray) -> GaussForm:
    """Form F(a, b) of two velocities."""
    if local.weight == 0:
        return GaussForm(np.zeros(local.ambient_dimension), np.zeros(0), np.zeros(a.size))
    second = local.lin.second_derivative(a, b)
    return _split(local, second, None if local.outputs.flat else local.skew(a, local.lin.push(b)))


def gauss_forms(local: InducedMetric, a: np.ndarray) -> GaussForm:
    """Form F(a, e_j) for all parameters j, in columns."""
    if local.weight == 0:
        still = np.zeros((a.size, a.size))
        return GaussForm(np.zeros((local.ambient_dimension, a.size)), still[:0], still)
    second = local.lin.jacobian_derivative(a)
    return _split(local, second, None if local.outputs.flat else local.skews(a))


def _split(local: InducedMetric, second: np.ndarray, skew: np.ndarray | None) -> GaussForm:
    bend = second if skew is None else second + skew
    turn = local.tangential(bend)
    normal = local.coordinates(local.normal_part(bend, turn))
    return GaussForm(normal, second[:0] if skew is None else local.isometric(skew), turn)


def trace(local: InducedMetric) -> GaussForm:
    """Trace Σ_i F(e_i, e_i) over an orthonormal frame."""
    return total([gauss_form(local, e, e) for e in local.frame.T])


def total(forms: list[GaussForm]) -> GaussForm:
    """Sum of forms."""
    return GaussForm(*(np.sum(parts, axis=0) for parts in zip(*forms, strict=True)))


def form_norm(
    local: InducedMetric, rng: np.random.Generator, restarts: int = _RESTARTS
) -> tuple[float, Float[np.ndarray, " p"]]:
    """Largest |II(a, b)| over unit velocities, and the velocity a = b where it is attained.

    Alternating maximisation over a, b and the unit normal from random starts, each step one second
    derivative and one product with a weighted Hessian: a lower bound that more restarts can raise.
    L. De Lathauwer, B. De Moor and J. Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000).
    """
    starts = rng.standard_normal((restarts, local.lin.model.num_parameters))
    if local.weight == 0:
        return 0.0, starts[0] / local.length(starts[0])
    return max((_ascend(local, start) for start in starts), key=lambda found: found[0])


def _ascend(local: InducedMetric, start: np.ndarray) -> tuple[float, np.ndarray]:
    n = local.lin.model.num_outputs
    a = b = start / local.length(start)
    value = 0.0
    for _ in range(_SWEEPS):
        bend = local.bend(a, b)
        x = local.normal_part(bend, local.tangential(bend))
        size = float(np.linalg.norm(local.coordinates(x)))
        if size <= (1 + _SETTLED) * value:
            break
        value = size
        # given b, the unit a with the largest <II(a, b), ν> is along S_ν b
        ascent = weingarten(local, x[:n], b)
        a, b = b, ascent / local.length(ascent)
    # At a maximum II(a, b) = II(±a, ±b) but for the sign; where a ≠ ±b, as for principal curvatures
    # that differ in sign alone, it is attained at a + b or a - b.
    candidates = [c / local.length(c) for c in (a, b, a + b, a - b) if local.length(c) > _COLLAPSED]
    values = [float(np.linalg.norm(gauss_form(local, c, c).normal)) for c in candidates]
    best = int(np.argmax(values))
    return values[best], candidates[best]
