"""Constants that the theorems take: of activations, of Df and f, of a start, of a loss.

They belong to the unscaled model f with Φ = αf, J = αDf and α = model.scale.
S. Cayci, arXiv 2412.14031v5, section 2; the sharper forms are proved in the docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import ndtr

from gnmanifold.errors import ArgumentError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss, SquaredError
from gnmanifold.models import Centered, FeedforwardNetwork, Model, Scaled, Weighted
from gnmanifold.models.base import as_model
from gnmanifold.validation import as_vector, nonnegative, one_of, positive

SOURCES = ("exact", "bound", "estimate", "given")
_NEWTON_STEPS = 200


@dataclass(frozen=True)
class Constant:
    """A number and how far it can be trusted.

    `source` is "exact" (to rounding), "bound" (proved, on the safe side), "estimate" (nothing is
    proved) or "given" (by the caller, and believed); `origin` says in words where it comes from.
    Raises ArgumentError for another source or a NaN.
    """

    value: float
    source: str = "exact"
    origin: str = ""

    def __post_init__(self) -> None:
        one_of("source", self.source, SOURCES)
        if np.isnan(self.value):
            raise ArgumentError(f"the constant ({self.origin or self.source}) is NaN")
        object.__setattr__(self, "value", float(self.value))

    def __float__(self) -> float:
        return self.value

    @property
    def estimated(self) -> bool:
        """Whether nothing is proved about it."""
        return self.source == "estimate"


class ActivationConstants(NamedTuple):
    """Suprema of |σ|, |σ'| and |σ''| over the real line, infinite where there is none."""

    value: float
    slope: float
    bend: float


_GELU_SLOPE = float(ndtr(np.sqrt(2)) + np.sqrt(2 / (2 * np.pi)) * np.exp(-1))  # at z = √2
_ACTIVATIONS = {
    "tanh": ActivationConstants(1.0, 1.0, 4 / (3 * np.sqrt(3))),
    "sigmoid": ActivationConstants(1.0, 0.25, np.sqrt(3) / 18),
    "softplus": ActivationConstants(np.inf, 1.0, 0.25),
    "sin": ActivationConstants(1.0, 1.0, 1.0),
    "gelu": ActivationConstants(np.inf, _GELU_SLOPE, np.sqrt(2 / np.pi)),
    "identity": ActivationConstants(np.inf, 1.0, 0.0),
}


def activation_constants(name: str) -> ActivationConstants:
    """Constants σ0, σ1, σ2 with |σ| <= σ0, |σ'| <= σ1, |σ''| <= σ2, in closed form.

    Raises ArgumentError for an activation that networks do not have.

    >>> activation_constants("sigmoid").slope
    0.25
    """
    return _ACTIVATIONS[one_of("activation", name, tuple(_ACTIVATIONS))]


class Shallow(NamedTuple):
    """A network of one hidden layer inside of a model: what its constants are made of.

    `gain` is s, sqrt(c_σ/m) or 1; `factors` (N,) of the samples, one unless it is Weighted, and
    then the largest of the outputs of each; `outer` the output matrix C (k, m) at w0.
    """

    net: FeedforwardNetwork
    gain: float
    factors: np.ndarray
    outer: np.ndarray

    @property
    def sigma(self) -> ActivationConstants:
        """Constants of its activation."""
        return activation_constants(self.net.activation.name)

    @property
    def column(self) -> float:
        """Largest norm of a column of C: |c|_∞ for one output, sqrt(k) at ±1."""
        return float(np.max(np.linalg.norm(self.outer, axis=0)))

    @property
    def rows(self) -> np.ndarray:
        """Inputs times their factors, shape (N, d)."""
        return self.factors[:, None] * self.net.inputs

    @property
    def long_rows(self) -> np.ndarray:
        """Those rows, times the lengths |x_j|."""
        return np.linalg.norm(self.net.inputs, axis=1)[:, None] * self.rows


def shallow(model: Model, w0: ArrayLike | None = None) -> Shallow | None:
    """Network of one hidden layer in Scaled, Centered and Weighted, None for any other model.

    `w0` is where C is read if it is trained, by default the network's initial parameters.
    """
    inner = as_model("model", model)
    weights = np.ones(inner.num_outputs)
    while isinstance(inner, Scaled | Centered | Weighted):
        weights = weights * (inner.weights if isinstance(inner, Weighted) else 1.0)
        inner = inner.model
    if not isinstance(inner, FeedforwardNetwork) or len(inner.widths) != 1:
        return None
    gain = np.sqrt(inner.c_sigma / inner.widths[0]) if inner.normalization == "ntk" else 1.0
    outer = inner.output_weights
    if inner.train_output and w0 is not None:
        outer = as_vector("w0", w0, inner.num_parameters)[-outer.size :].reshape(outer.shape)
    factors = np.max(weights.reshape(-1, inner.outputs), axis=1)
    return Shallow(inner, float(gain), factors, outer)


def jacobian_lipschitz(
    model: Model, w0: ArrayLike | None = None, radius: float = 0.0, *, kind: str = "sharp"
) -> Constant:
    """Lipschitz constant L of Df in closed form, for one hidden layer.

    "paper", (8): L = s σ2 (Σ_j |x_j|⁴)^½. "sharp": L = s σ2 |diag(|x_j|) X|₂, never larger, since
    |D²f[u, v]_j| <= s σ2 |U x_j| |V x_j| with the matrices U, V (m, d) of u, v, and
    Σ_j |U x_j|² |V x_j|² <= |U|_F² Σ_j |V |x_j| x_j|². With a trained output layer "sharp" is
    s (a + sqrt(a² + 4b²))/2 with a = σ2 (|c|_∞ + radius) |diag(|x_j|) X|₂ and b = σ1 |X|₂, on the
    ball of that radius around w0: the norm of the matrix (a b; b 0). With k outputs the columns of
    C take the place of c_i, of norm sqrt(k) at the start.
    Raises ArgumentError for models of another kind (see jacobian_lipschitz_estimate), and for the
    paper's constant with a trained output layer, which the paper does not have.
    """
    one_of("kind", kind, ("sharp", "paper"))
    found = _require_shallow(model, w0, "L")
    nonnegative("radius", radius)
    bend = found.gain * found.sigma.bend
    if kind == "paper":
        _require_frozen(found, "L")
        value = bend * found.column * np.linalg.norm(found.long_rows)
        return Constant(value, "bound", "s σ2 (Σ|x|⁴)^½, (8)")
    longest = float(np.linalg.norm(found.long_rows, 2))
    if not found.net.train_output:
        return Constant(bend * found.column * longest, "bound", "s σ2 |diag(|x|) X|₂")
    a = bend * (found.column + radius) * longest
    b = found.gain * found.sigma.slope * np.linalg.norm(found.rows, 2)
    origin = f"trained output layer, within {radius:.3g} of w0"
    return Constant((a + np.hypot(a, 2 * b)) / 2, "bound", origin)


def output_lipschitz(
    model: Model, w0: ArrayLike | None = None, radius: float = 0.0, *, kind: str = "sharp"
) -> Constant:
    """Lipschitz constant Lip_f of f in closed form, for one hidden layer of width m.

    "paper": s σ1 |C|_F |X|_F, which is σ1 sqrt(c_σ n) for unit rows. "sharp": s σ1 |C|₂ |X|₂, since
    |Df(w) u|² <= s² |C|₂² σ1² Σ_j |U x_j|². A trained output layer adds s σ0 sqrt(m N) as the
    other leg of a right triangle, and `radius` to |C|₂.
    Raises ArgumentError as jacobian_lipschitz does; on a ball of radius R around w0 every model has
    |Df| <= |Df(w0)| + L R.
    """
    one_of("kind", kind, ("sharp", "paper"))
    found = _require_shallow(model, w0, "Lip_f")
    nonnegative("radius", radius)
    slope = found.gain * found.sigma.slope
    if kind == "paper":
        _require_frozen(found, "Lip_f")
        value = slope * np.linalg.norm(found.outer) * np.linalg.norm(found.rows)
        return Constant(value, "bound", "s σ1 sqrt(m) |X|_F")
    longest = np.linalg.norm(found.rows, 2)
    if not found.net.train_output:
        return Constant(slope * np.linalg.norm(found.outer, 2) * longest, "bound", "s σ1 |C|₂ |X|₂")
    hidden = slope * (np.linalg.norm(found.outer, 2) + radius) * longest
    width = found.outer.shape[1]
    states = found.gain * found.sigma.value * np.sqrt(width) * np.linalg.norm(found.factors)
    return Constant(np.hypot(hidden, states), "bound", f"within {radius:.3g} of w0")


class StartConstants(NamedTuple):
    """Singular values of Df(w0): 2λ0 the smallest of min(n, p), 2λ_n the largest."""

    lambda0: float
    lambda_n: float


def start_constants(model: Model, w0: ArrayLike) -> StartConstants:
    """Constants λ0 and λ_n of a start: 2λ0 = σ_min(Df(w0)), 2λ_n = |Df(w0)|, Df = J/α.

    Raises NonFiniteError where the Jacobian is not finite.
    """
    return start_constants_at(Linearization(as_model("model", model), as_vector("w0", w0)))


def start_constants_at(lin: Linearization) -> StartConstants:
    """Constants λ0 and λ_n of a start that is linearized already."""
    largest = float(np.linalg.norm(lin.jacobian, 2))
    scale = 2 * lin.model.scale
    return StartConstants(lin.smallest_singular_value / scale, largest / scale)


def nondegenerate_radius(lambda0: float, lipschitz: float) -> float:
    """Radius r0 = λ0/L, (9): K(w) = Df Dfᵀ >= λ0² I for |w - w0| < r0; infinite for L = 0."""
    return nonnegative("lambda0", lambda0) / lipschitz if lipschitz > 0 else np.inf


def ball_ratio(
    nu: float, mu: float, lambda0: float, output_lipschitz: float, *, sufficient: bool = False
) -> float:
    """Largest r of (20), the radius 2rλ0/L of the ball B of fewer parameters than outputs.

    r/(1-r)² = c with c = νλ0/(μ Lip_f): r = ((2c + 1) - sqrt(4c + 1))/(2c), computed as
    2c/(2c + 1 + sqrt(4c + 1)); `sufficient=True` gives the simpler c/4, for r <= ½.
    Raises ArgumentError unless all four are > 0.
    """
    for name, value in (("nu", nu), ("mu", mu), ("lambda0", lambda0)):
        positive(name, value)
    c = nu * lambda0 / (mu * positive("output_lipschitz", output_lipschitz))
    if sufficient:
        return float(min(c / 4, 0.5))
    return float(2 * c / (2 * c + 1 + np.sqrt(4 * c + 1)))


def ball_radius(r: float, lambda0: float, lipschitz: float) -> float:
    """Radius R_B = 2rλ0/L of the ball B on which αf is an embedding; infinite for L = 0."""
    return 2 * r * nondegenerate_radius(lambda0, lipschitz)


def loss_infimum(loss: Loss) -> tuple[float, Float[np.ndarray, " n"]]:
    """Infimum of a strongly convex loss over R^n, from below, and where it is.

    Zero at the targets for SquaredError; for others by Newton's method with halved steps, less the
    |∇g|²/(2ν) by which a value can lie above the infimum.
    Raises ArgumentError for a loss with ν = 0, or where Newton's method stalls.
    """
    if isinstance(loss, SquaredError):
        return 0.0, np.array(loss.targets)
    if not loss.nu > 0:
        raise ArgumentError(
            f"{loss!r} is not strongly convex (ν = 0) and may have no minimum: take "
            "StronglyConvex(loss, nu)"
        )
    psi, settled = np.zeros(loss.num_outputs), False
    for _ in range(_NEWTON_STEPS):
        following = _newton_step(loss, psi)
        settled = bool(np.array_equal(following, psi))
        if settled:
            break
        psi = following
    slope = loss.gradient(psi)
    excess = float(slope @ slope) / (2 * loss.nu)
    value = float(loss.value(psi))
    if not settled and not excess <= 1e-8 * max(abs(value), 1.0):
        raise ArgumentError(f"Newton's method finds no minimum of {loss!r}: give its infimum")
    return value - excess, psi


def _newton_step(loss: Loss, psi: np.ndarray) -> np.ndarray:
    """Point after a step of Newton's method that lowers the loss, or the point itself."""
    gradient = loss.gradient(psi)
    direction = loss.hessian_solve(psi, gradient)
    value, slope = float(loss.value(psi)), float(gradient @ direction)
    t = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        while t > 1e-12:
            there = psi - t * direction
            if float(loss.value(there)) < value - 1e-4 * t * slope:
                return there
            t /= 2
    return psi


def _require_shallow(model: Model, w0: ArrayLike | None, what: str) -> Shallow:
    found = shallow(model, w0)
    if found is None:
        raise ArgumentError(
            f"{what} has a closed form for a FeedforwardNetwork of one hidden layer, alone or in "
            f"Scaled, Centered or Weighted, got {type(model).__name__}: take "
            "jacobian_lipschitz_estimate, or give a number"
        )
    return found


def _require_frozen(found: Shallow, what: str) -> None:
    if found.net.train_output:
        raise ArgumentError(
            f'the paper has no {what} for a trained output layer: take kind="sharp"'
        )
