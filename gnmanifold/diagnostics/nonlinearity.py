"""How nonlinear a fit is: Bates and Watts' curvatures, Box's bias, Hougaard's skewness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.linalg import solve_triangular

from gnmanifold.errors import ArgumentError, UnderdeterminedError
from gnmanifold.factorization import column_norms
from gnmanifold.linearization import Linearization
from gnmanifold.models import Model
from gnmanifold.models.base import as_model
from gnmanifold.validation import (
    RandomState,
    as_generator,
    as_vector,
    fraction,
    nonnegative,
    positive_int,
)

_LARGEST = 5e7  # entries n p² of the second derivatives, which are held at once
_ROUGH = 0.3  # rms curvature times sqrt(F), from which linear regions are off by 15 % and more
_SKEWED, _VERY_SKEWED = 0.25, 1.0  # of Ratkowsky's rules for Hougaard's skewness
_BIASED = 0.1  # bias in standard errors that is worth a word
_SWEEPS, _SETTLED = 200, 1e-14


@dataclass(frozen=True, eq=False)
class Nonlinearity:
    """Nonlinearity of a fit with p parameters, n data and residual standard deviation s.

    The curvatures are relative ones, s sqrt(p) times those of the surface: of the coordinates that
    the parameters are on it, `parameter_effects_rms` and `_max`, and of the surface itself,
    `intrinsic_rms` and `_max`, which no other parameters change. Times `sqrt_f`, the square root of
    F(p, n - p) at `level`, they say how much the confidence region bends; `max` directions are
    velocities of the parameters. `bias` (p,) is Box's estimate of E(ŵ) - w, `skewness` (p,)
    Hougaard's of the estimates; both of leading order in s. It prints as a table with advice.
    """

    names: tuple[str, ...]
    level: float
    parameter_effects_rms: float
    parameter_effects_max: float
    intrinsic_rms: float
    intrinsic_max: float
    parameter_effects_direction: Float[np.ndarray, " p"]
    intrinsic_direction: Float[np.ndarray, " p"]
    sqrt_f: float
    bias: Float[np.ndarray, " p"]
    skewness: Float[np.ndarray, " p"]
    standard_errors: Float[np.ndarray, " p"]

    @property
    def trusted(self) -> bool:
        """Whether linear confidence intervals are a fair description of what is known."""
        symmetric = bool(np.all(np.abs(self.skewness) <= _VERY_SKEWED))  # NaN is not
        return self._flat and self._straight and symmetric

    @property
    def skewed(self) -> tuple[str, ...]:
        """Names of the parameters whose profile interval is better than the linear one."""
        pairs = zip(self.names, self.skewness, strict=True)
        return tuple(name for name, skew in pairs if not abs(skew) <= _SKEWED)

    @property
    def relative_bias(self) -> Float[np.ndarray, " p"]:
        """Bias in standard errors, zero where those are."""
        known = self.standard_errors > 0
        return np.divide(self.bias, self.standard_errors, out=np.zeros_like(self.bias), where=known)

    @property
    def _flat(self) -> bool:
        return self.intrinsic_rms * self.sqrt_f <= _ROUGH

    @property
    def _straight(self) -> bool:
        return self.parameter_effects_rms * self.sqrt_f <= _ROUGH

    def advice(self) -> list[str]:
        """A plain sentence on the surface, one on the parameters, and one for each parameter."""
        found = []
        if not self._flat:
            found.append(
                "The model itself is too nonlinear for its data (intrinsic curvature): linear "
                "confidence regions are wrong in any parameters; take profile intervals, or more "
                "data."
            )
        if not self._straight:
            found.append(
                "The parameters are too nonlinear (parameter effects): take profile intervals, or "
                "other parameters for the same model."
            )
        return [*found, *(self._sentence(i) for i in range(len(self.names)))]

    def _sentence(self, i: int) -> str:
        name, skew = self.names[i], abs(self.skewness[i])
        if self.standard_errors[i] == 0:
            return f"{name}: the residual is zero: there is no error to assess."
        if not np.isfinite(skew):
            return f"{name}: not assessed, as numbers overflow: take other units."
        relative = abs(self.relative_bias[i])
        biased = f" and biased by {relative:.2g} standard errors" if relative > _BIASED else ""
        if skew > _VERY_SKEWED:
            return f"{name}: far from symmetric{biased}: its linear interval misleads."
        if skew > _SKEWED:
            return f"{name}: skewed{biased}: its profile interval is better."
        if not (self._flat and self._straight):
            return f"{name}: symmetric to leading order{biased}, which may not be enough here."
        return f"{name}: symmetric{biased}: its linear interval is good."

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        numbers = (
            "parameter_effects_rms", "parameter_effects_max", "intrinsic_rms", "intrinsic_max",
            "sqrt_f", "level",
        )  # fmt: skip
        return {
            **{name: float(getattr(self, name)) for name in numbers},
            "bias": self.bias.tolist(),
            "skewness": self.skewness.tolist(),
            "names": list(self.names),
            "trusted": bool(self.trusted),
        }

    def __str__(self) -> str:
        head = (
            f"{'relative curvature':22s} {'rms':>10s} {'rms·√F':>10s} {'max':>10s} {'max·√F':>10s}"
        )
        lines = [head, "-" * len(head)]
        for label, name in (("parameter effects", "parameter_effects"), ("intrinsic", "intrinsic")):
            rms, largest = getattr(self, f"{name}_rms"), getattr(self, f"{name}_max")
            lines.append(
                f"{label:22s} {rms:10.4g} {rms * self.sqrt_f:10.4f} {largest:10.4g} "
                f"{largest * self.sqrt_f:10.4f}"
            )
        lines.append(f"linear regions are good while rms·√F <= {_ROUGH}")
        lines.append(f"{'':10s} {'bias / std. error':>18s} {'skewness':>10s}")
        rows = zip(self.names, self.relative_bias, self.skewness, strict=True)
        lines += [f"{name:10s} {bias:18.4f} {skew:10.4f}" for name, bias, skew in rows]
        return "\n".join([*lines, *self.advice()])


def nonlinearity(
    model: Model,
    w: Float[np.ndarray, " p"],
    scale: float,
    *,
    degrees_of_freedom: float | None = None,
    level: float = 0.95,
    names: Sequence[str] | None = None,
    restarts: int = 30,
    rng: RandomState = 0,
) -> Nonlinearity:
    """Curvatures, bias and skewness of a least-squares fit at w (p,), with standard deviation s.

    With the orthonormal frame E, JE = Q, and A_n = EᵀD²f_n E: the parameter-effects array is QᵀA
    (p, p, p), the intrinsic one A - QQᵀA (n, p, p). Their rms is sqrt(Σ_k 2|A_k|² + (tr A_k)²) over
    sqrt(p(p+2)), their maximum that of |A(d, d)| over directions d, both times s sqrt(p), s =
    `scale`. bias = -s²/2 J⁺ Σ_i D²f[E_i, E_i]; the third moment of parameter i is
    -3 s⁴ (J a)·D²f[a, a] with a = (JᵀJ)⁻¹e_i. `degrees_of_freedom` is n - p without it, infinite
    for a known s.
    Raises UnderdeterminedError unless n > p, RankDeficientError, ArgumentError for a fit too large.
    D. M. Bates and D. G. Watts, J. R. Stat. Soc. B 42 (1980); M. J. Box, J. R. Stat. Soc. B 33
    (1971); P. Hougaard, J. R. Stat. Soc. B 47 (1985).
    """
    w = as_vector("w", w, as_model("model", model).num_parameters)
    nonnegative("scale", scale)
    n, p = model.num_outputs, model.num_parameters
    if n <= p:
        raise UnderdeterminedError(f"curvatures of a fit need more data than the {p} parameters")
    if n * p * p > _LARGEST:
        raise ArgumentError(
            f"the second derivatives of a fit with n = {n}, p = {p} have {n * p * p:.1e} entries: "
            "take second_fundamental_form_norm of the manifold"
        )
    lin = Linearization(model, w)
    freedom = n - p if degrees_of_freedom is None else degrees_of_freedom
    fraction("level", level)
    positive_int("restarts", restarts)
    effects, intrinsic, E = curvature_arrays(lin)
    generator, unit = as_generator(rng), scale * np.sqrt(p)
    tangent_max, tangent_direction = largest_curvature(effects, restarts, generator)
    normal_max, normal_direction = largest_curvature(intrinsic, restarts, generator)
    quantile = stats.chi2.ppf(level, p) / p if np.isinf(freedom) else stats.f.ppf(level, p, freedom)
    deviations = column_norms(E.T)  # square roots of the diagonal of (JᵀJ)⁻¹ = E Eᵀ
    return Nonlinearity(
        names=parameter_names(names, p),
        level=level,
        parameter_effects_rms=unit * rms_curvature(effects),
        parameter_effects_max=unit * tangent_max,
        intrinsic_rms=unit * rms_curvature(intrinsic),
        intrinsic_max=unit * normal_max,
        parameter_effects_direction=E @ tangent_direction,
        intrinsic_direction=E @ normal_direction,
        sqrt_f=float(np.sqrt(quantile)),
        bias=-0.5 * scale**2 * (E @ np.trace(effects, axis1=1, axis2=2)),
        skewness=scale * _third_moments(effects, E / deviations[:, None]),
        standard_errors=scale * deviations,
    )


def parameter_names(names: Sequence[str] | None, p: int) -> tuple[str, ...]:
    """The names, checked, or w0, w1, … without them."""
    if names is not None and len(names) != p:
        raise ArgumentError(f"names must be as many as the {p} parameters, got {len(names)}")
    return tuple(f"w{i}" for i in range(p)) if names is None else tuple(names)


def curvature_arrays(
    lin: Linearization,
) -> tuple[Float[np.ndarray, "p p p"], Float[np.ndarray, "n p p"], Float[np.ndarray, "p p"]]:
    """Parameter-effects and intrinsic arrays in an orthonormal frame, and that frame E, JE = Q."""
    lin.factor  # noqa: B018 - a Jacobian without full rank has no frame
    J = lin.jacobian
    norms = np.linalg.norm(J, axis=0)
    Q, R = np.linalg.qr(J / norms)
    E = solve_triangular(R, np.eye(len(R))) / norms[:, None]
    A = np.stack([lin.jacobian_derivative(column) @ E for column in E.T], axis=1)
    A = 0.5 * (A + A.swapaxes(1, 2))
    effects = np.tensordot(Q.T, A, axes=1)
    return effects, A - np.tensordot(Q, effects, axes=1), E


def rms_curvature(A: Float[np.ndarray, "m p p"]) -> float:
    """Root mean square of |A(d, d)| over the unit sphere of directions d (p,)."""
    p = A.shape[1]
    squares = 2 * np.sum(A**2) + np.sum(np.trace(A, axis1=1, axis2=2) ** 2)
    return float(np.sqrt(squares / (p * (p + 2))))


def largest_curvature(
    A: Float[np.ndarray, "m p p"], restarts: int, rng: np.random.Generator
) -> tuple[float, Float[np.ndarray, " p"]]:
    """Largest |A(d, d)| over unit directions d (p,), and where, by ascent from random starts.

    For a symmetric array the ascent alternates between the best unit vector c (m,) for d and the
    best d for c, an eigenvector of Σ_k c_k A_k.
    """
    p = A.shape[1]
    starts = np.vstack([np.eye(p), rng.standard_normal((restarts, p))])
    found = [_ascend(A, start / np.linalg.norm(start)) for start in starts]
    return max(found, key=lambda pair: pair[0])


def _ascend(A: np.ndarray, d: np.ndarray) -> tuple[float, np.ndarray]:
    value = 0.0
    for _ in range(_SWEEPS):
        image = A @ d @ d
        size = float(np.linalg.norm(image))
        if size <= value * (1 + _SETTLED):
            break
        value = size
        eigenvalues, vectors = np.linalg.eigh(np.tensordot(image / size, A, axes=1))
        d = vectors[:, np.argmax(np.abs(eigenvalues))]
    return value, d


def _third_moments(effects: np.ndarray, E: np.ndarray) -> Float[np.ndarray, " p"]:
    """-3 (J a)·D²f[a, a] with a = E Eᵀe_i, in the frame: Jᵀ-part of D²f alone enters."""
    return -3 * np.einsum("kab,ik,ia,ib->i", effects, E, E, E)
