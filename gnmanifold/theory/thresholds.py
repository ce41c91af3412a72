"""Thresholds on α, lengths of paths, and curvature bounds of the theorems.

With more parameters than outputs (r0 = λ0/L):

| theorem                                       | function                                    |
|-----------------------------------------------|---------------------------------------------|
| any schedule, by the length of the path       | path_threshold, path_bound                  |
| Lemma 4 and Theorem 5 of the paper            | lemma4_threshold, lemma4_bound              |
| Corollary 9 of the paper, adaptive damping    | corollary9_threshold                        |
| Theorem 7, in discrete time                   | discrete_threshold                          |
| Theorem 10, generalized Gauss-Newton          | generalized_threshold, generalized_bound    |
| Lemma 13 and Corollary 14, deep networks      | deep_width, deep_threshold                  |

With fewer (R_B = 2rλ0/L):

| theorem                                       | function                                    |
|-----------------------------------------------|---------------------------------------------|
| Lemma 28, second fundamental form             | second_form_bound                           |
| geodesic convexity in place of Lemma 21       | convexity_radius, convexity_modulus         |
| Theorem 22, (27)                              | convexity_threshold                         |
| Theorem 25, by the length of the path         | contained_threshold, contained_bound        |
| Theorem 25 of the paper                       | paper_contained_threshold                   |
| in discrete time                              | discrete_contained_threshold                |

S. Cayci, arXiv 2412.14031v5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnmanifold.errors import ArgumentError
from gnmanifold.theory.constants import ActivationConstants
from gnmanifold.validation import fraction, positive, positive_int, unit_interval


@dataclass(frozen=True)
class Setting:
    """The numbers that thresholds are made of.

    `lipschitz` L of Df, `lambda0` and `lambda_n` half the extreme singular values of Df(w0), `nu`
    and `mu` the moduli of the loss g, and `gap` Δ0 = g(αf(w0)) - inf g.
    Raises ArgumentError for negative numbers and NaN.
    """

    lipschitz: float
    lambda0: float
    lambda_n: float
    nu: float
    mu: float
    gap: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ArgumentError(f"{name} must be a number >= 0, got {value!r}")

    @property
    def ceiling(self) -> float:
        """Bound Λ = 2λ_n + λ0 of |Df| within r0 of the start."""
        return 2 * self.lambda_n + self.lambda0


def path_threshold(setting: Setting) -> float:
    """Threshold α >= L sqrt(2Δ0/ν)/λ0² for every damping schedule, p >= n.

    By `path_bound` the path then ends before r0 = λ0/L, so that K_t >= λ0² I for all t.
    """
    s = setting
    return _ratio(s.lipschitz * np.sqrt(_ratio(2 * s.gap, s.nu)), s.lambda0**2)


def path_bound(setting: Setting, alpha: float) -> float:
    """Length sqrt(2Δ0/ν)/(αλ0) of the path of the flow, for every measurable ρ_t in [0, 1], p >= n.

    With D = (1-ρ)λ0² + ρ, M = Df H⁻¹Dfᵀ and q = ∇gᵀM∇g = -Δ' one has |w'|² <= q/(α²D), as
    K/((1-ρ)K + ρ)² <= M/D, and q >= 2νλ0²Δ/D. So -d sqrt(Δ)/dt = q/(2 sqrt(Δ)) is at least
    sqrt(ν/2) λ0 α |w'|, which integrates to the bound.
    """
    s = setting
    return _ratio(np.sqrt(_ratio(2 * s.gap, s.nu)), positive("alpha", alpha) * s.lambda0)


def kernel_peak(setting: Setting, rho: float) -> float:
    """Bound B_ρ of |H_ρ⁻¹Dfᵀ|: the maximum of σ/((1-ρ)σ² + ρ) over σ in [λ0, Λ].

    The function rises up to σ² = ρ/(1-ρ) and falls beyond: its value at Λ is no bound.
    """
    s, rho = setting, unit_interval("rho", rho)
    best = np.sqrt(rho / (1 - rho)) if rho < 1 else np.inf
    sigma = float(np.clip(best, s.lambda0, s.ceiling))
    return _ratio(sigma, (1 - rho) * sigma**2 + rho)


def lemma4_threshold(setting: Setting, rho: float) -> float:
    """The paper's threshold α >= μL sqrt(2Δ0) B_ρ ((1-ρ)λ0² + ρ)/(ν^{3/2} λ0³), constant ρ, p >= n.

    It is μL sqrt(2Δ0)/(ν^{3/2} λ0²) for ρ <= λ0²/(1 + λ0²). Lemma 4 and Theorem 5.
    """
    return _ratio(setting.lipschitz * lemma4_bound(setting, 1.0, rho), setting.lambda0)


def lemma4_bound(setting: Setting, alpha: float, rho: float) -> float:
    """The paper's bound μ sqrt(2Δ0) B_ρ ((1-ρ)λ0² + ρ)/(α ν^{3/2} λ0²) of |w_t - w0|, p >= n.

    From |w'| <= B_ρ |∇g|/α and |∇g| <= μ sqrt(2Δ/ν), which decays at rate νλ0²/((1-ρ)λ0² + ρ).
    """
    s = setting
    slowness = _ratio((1 - rho) * s.lambda0**2 + rho, s.nu * s.lambda0**2)
    steepness = s.mu * np.sqrt(_ratio(2 * s.gap, s.nu))
    return steepness * kernel_peak(s, rho) * slowness / positive("alpha", alpha)


def corollary9_threshold(setting: Setting, kappa: float) -> float:
    """The paper's threshold α >= μL sqrt(2Δ0) (1+κ)/(ν^{3/2} λ0²) for adaptive damping, p >= n."""
    s = setting
    factor = (1 + positive("kappa", kappa)) * _ratio(s.mu, s.nu)
    return factor * path_threshold(s)


def discrete_threshold(setting: Setting) -> float:
    """Threshold α >= 2L sqrt(2Δ0/ν)/λ0² for the steps of `rates.discrete_rate`, p >= n.

    The linearization error |e| <= ητq/sqrt(2μΔ0) has τ = ηL sqrt(2μΔ0)/(2αD) <= 1/8, so that
    Δ_{k+1} <= Δ_k - ηq (1 - τ - (μηb/2)(1+τ)²) <= Δ_k - ηq/2 for η = 1/(2μb), and the path has
    twice the length of that of the flow at most. In place of Theorem 7.
    """
    return 2 * path_threshold(setting)


def generalized_threshold(setting: Setting) -> float:
    """Threshold α >= L sqrt(2Δ0μ)/(νλ0²) of generalized Gauss-Newton, any schedule, p >= n."""
    return _ratio(setting.lipschitz * generalized_bound(setting, 1.0), setting.lambda0)


def generalized_bound(setting: Setting, alpha: float) -> float:
    """Length sqrt(2Δ0μ)/(ναλ0) of the path of the generalized Gauss-Newton flow, p >= n."""
    s = setting
    return _ratio(np.sqrt(2 * s.gap * s.mu), s.nu * positive("alpha", alpha) * s.lambda0)


def deep_width(
    depth: int,
    samples: int,
    sigma: ActivationConstants,
    c_sigma: float,
    failure: float = 0.05,
) -> float:
    """Width m >= 2c_σ²σ0⁴ (Σ_{h<H} C^h)² log(2nH/δ) that keeps all |x^h|² in [½, 3/2].

    C = 2 sqrt(2/π) c_σσ0σ1; with probability 1 - δ, δ = `failure`. Lemma 13, (19).
    """
    positive_int("depth", depth)
    growth = 2 * np.sqrt(2 / np.pi) * positive("c_sigma", c_sigma) * sigma.value * sigma.slope
    total = float(np.sum(growth ** np.arange(depth)))
    deviations = np.log(2 * positive_int("samples", samples) * depth / fraction("failure", failure))
    return float(2 * c_sigma**2 * sigma.value**4 * total**2 * deviations)


def deep_threshold(setting: Setting, radius: float) -> float:
    """Threshold α >= sqrt(2Δ0/ν)/(λ0 radius) of a network with K(w) >= λ0² I up to that radius.

    Corollary 14 has radius sqrt(m) R, with R of the order λ0²/n and an unknown constant: measure
    λ_min(K_t), as Certificate.monitor does.
    """
    return path_bound(setting, 1.0) / positive("radius", radius)


def second_form_bound(setting: Setting, alpha: float, r: float) -> float:
    """Bound L/(4α(1-r)²λ0²) of the second fundamental form in unit directions on B, p <= n.

    Attained for r -> 0 by f(w) = (w, Lw²/2) at zero. Lemma 28.
    """
    s = setting
    return _ratio(s.lipschitz, 4 * positive("alpha", alpha) * (1 - _ball(r)) ** 2 * s.lambda0**2)


def convexity_radius(setting: Setting) -> float:
    """Radius λ0/L within which ½|w - w0|² is geodesically convex in the metric JᵀJ, p <= n.

    Its Hessian is I - Σ_k (w - w0)_k Γ^k, and |(w - w0)·J⁺D²Φ[v, v]| <= r/(1-r) |v|² in the ball
    of radius 2rλ0/L: at least (1-2r)/(1-r) I, whatever α. So smaller balls have a strictly convex
    boundary, and shortest paths in them are geodesics. In place of Lemma 21.
    """
    return _ratio(setting.lambda0, setting.lipschitz)


def convexity_modulus(r: float) -> float:
    """Smallest eigenvalue (1-2r)/(1-r) of the Hessian of ½|w - w0|² in the ball of 2rλ0/L."""
    return (1 - 2 * _ball(r)) / (1 - r)


def convexity_threshold(setting: Setting, r: float) -> float:
    """Threshold α0 = L sqrt(2μΔ0)/(2ν(1-r)²λ0²), (27), for a ν/2-convex loss on αf(B), p <= n.

    The surface's curvature times |∇g| <= sqrt(2μΔ0) is then ν/2 at most. Theorem 22.
    """
    s = setting
    return _ratio(
        s.lipschitz * np.sqrt(2 * s.mu * s.gap), 2 * s.nu * (1 - _ball(r)) ** 2 * s.lambda0**2
    )


def contained_threshold(setting: Setting, r: float) -> float:
    """Threshold α > L sqrt(Δ0/ν)/(2r(1-r)λ0²) that keeps the flow inside of B, p <= n.

    By `contained_bound`. Strictly above it the limit is an inner point of B.
    """
    radius = 2 * _ball(r) * setting.lambda0
    return _ratio(setting.lipschitz * contained_bound(setting, 1.0, r), radius)


def contained_bound(setting: Setting, alpha: float, r: float) -> float:
    """Length sqrt(Δ0/ν)/(α(1-r)λ0) of the path of the flow, p <= n, above convexity_threshold.

    |w'| <= |grad g|/(2α(1-r)λ0) and |grad g|² >= νΔ for a modulus of ν/2.
    """
    s = setting
    speed = positive("alpha", alpha) * (1 - _ball(r)) * s.lambda0
    return _ratio(np.sqrt(_ratio(s.gap, s.nu)), speed)


def paper_contained_threshold(setting: Setting, r: float) -> float:
    """The paper's (μ + ν/2) L sqrt(Δ0)/(r(1-r)λ0²ν^{3/2}) for the same, (30)."""
    s = setting
    return 2 * _ratio(s.mu + s.nu / 2, s.nu) * contained_threshold(s, r)


def discrete_contained_threshold(setting: Setting, r: float) -> float:
    """Threshold α >= L sqrt(Δ0/ν)/(r(1-r)λ0²) for steps of 1/(2μ), p <= n."""
    return 2 * contained_threshold(setting, r)


def _ball(r: float) -> float:
    if not 0 <= r <= 0.5:
        raise ArgumentError(f"r must be a number in [0, ½], got {r!r}")
    return float(r)


def _ratio(numerator: float, denominator: float) -> float:
    """Quotient, with 0/0 = 0 (nothing is asked for) and x/0 = infinity."""
    if numerator == 0:
        return 0.0
    return float(numerator / denominator) if denominator > 0 else np.inf
