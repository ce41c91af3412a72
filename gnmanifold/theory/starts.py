"""A problem at its start, with the constants that every theorem takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.theory.constants import (
    Constant,
    jacobian_lipschitz,
    loss_infimum,
    output_lipschitz,
    shallow,
    start_constants_at,
)
from gnmanifold.theory.estimate import jacobian_lipschitz_estimate
from gnmanifold.theory.hypotheses import Hypothesis
from gnmanifold.theory.thresholds import Setting
from gnmanifold.validation import RandomState, nonnegative

_EPS = float(np.finfo(np.float64).eps)

Threshold = Callable[[Setting], float]


@dataclass(frozen=True)
class Start:
    """A problem at its start, with what every theorem asks of it."""

    lin: Linearization
    loss: Loss
    setting: Setting
    lipschitz: Constant
    infimum: float

    @property
    def alpha(self) -> float:
        """Scale α of the model."""
        return self.lin.model.scale

    @property
    def paper_setting(self) -> Setting:
        """Setting with the paper's own L where it has one."""
        found = shallow(self.lin.model)
        if found is None or found.net.train_output:
            return self.setting
        paper = jacobian_lipschitz(self.lin.model, kind="paper")
        return replace(self.setting, lipschitz=paper.value)

    def limit(self, threshold: Threshold) -> float | None:
        """Largest L that α suffices for, where L is an estimate: thresholds are linear in L."""
        if not self.lipschitz.estimated:
            return None
        unit = threshold(replace(self.setting, lipschitz=1.0))
        return self.alpha / unit if unit > 0 else np.inf

    def above(self, name: str, threshold: Threshold, relation: str = ">=") -> Hypothesis:
        """Hypothesis that α is above a threshold."""
        required = threshold(self.setting)
        return Hypothesis(name, relation, required, self.alpha, self.limit(threshold))

    def common(self, assumption: str) -> list[Hypothesis]:
        """Hypotheses on the loss and on the rank of Df(w0)."""
        s, shape = self.setting, self.lin.jacobian.shape
        rounding = max(shape) * _EPS * 2 * s.lambda_n
        return [
            Hypothesis("(4): strong convexity ν of the loss", ">", 0.0, s.nu),
            Hypothesis(f"{assumption}: σ_min(Df(w0)) = 2λ0", ">", rounding, 2 * s.lambda0),
        ]

    def inputs(self) -> dict[str, Constant]:
        """Numbers that entered, and where they came from."""
        s, model = self.setting, self.lin.model
        rows = {
            "α": Constant(self.alpha, "exact", "scale of the model"),
            "L": self.lipschitz,
            "λ0": Constant(s.lambda0, "exact", "½ σ_min(Df(w0))"),
            "λ_n": Constant(s.lambda_n, "exact", "½ |Df(w0)|"),
            "ν": Constant(s.nu, "exact", repr(self.loss)),
            "μ": Constant(s.mu, "exact", repr(self.loss)),
            "inf g": Constant(self.infimum, "exact", "over all predictions"),
            "Δ0": Constant(s.gap, "exact", "g(αf(w0)) - inf g"),
        }
        if self.paper_setting is not s:
            rows["L, paper"] = jacobian_lipschitz(model, kind="paper")
        return rows

    def notes(self) -> tuple[str, ...]:
        """Reservations."""
        notes = []
        if np.any(self.lin.psi != 0):
            notes.append("αf(w0) is not zero, so that Δ0 and the thresholds change with α")
        if self.lipschitz.estimated:
            notes.append("L is an estimate: nothing is proved unless L is as small as stated")
        return tuple(notes)


def start_at(
    problem: CompositeProblem,
    w0: ArrayLike,
    name: str,
    given: float | Constant | None,
    safety: float,
    rng: RandomState,
) -> Start:
    """Problem at w0 for the certificate `name`, with L on the ball of radius λ0/L.

    Raises ArgumentError for what is no CompositeProblem, and for a loss with ν = 0.
    """
    require_composite(problem, name)
    lin, loss = problem.manifold.at(problem.manifold.as_point(w0)).lin, problem.loss
    infimum = loss_infimum(loss)[0]
    lambda0, lambda_n = start_constants_at(lin)
    lipschitz = _lipschitz(lin, given, lambda0, safety, rng)
    gap = max(float(loss.value(lin.psi)) - infimum, 0.0)
    setting = Setting(lipschitz.value, lambda0, lambda_n, loss.nu, loss.mu, gap)
    return Start(lin, loss, setting, lipschitz, infimum)


def require_smooth(loss: Loss) -> None:
    """Raise ArgumentError for a loss without a finite μ."""
    if not np.isfinite(loss.mu):
        raise ArgumentError(
            f"{loss!r} has curvature without bound (μ = inf): the theorem needs a finite μ, as of "
            "SquaredError, Logistic, Softmax or PseudoHuber"
        )


def output_bound(start: Start) -> Constant:
    """Lip_f on B: the closed form of one hidden layer, or |Df(w0)| + L R_B with R_B <= λ0/L."""
    s = start.setting
    local = Constant(2 * s.lambda_n + s.lambda0, "bound", "|Df(w0)| + λ0 on B")
    found = shallow(start.lin.model)
    if found is None or found.net.train_output:
        return local
    return min(local, output_lipschitz(start.lin.model), key=float)


def _lipschitz(
    lin: Linearization,
    given: float | Constant | None,
    reach: float,
    safety: float,
    rng: RandomState,
) -> Constant:
    """L on the ball of radius reach/L: that of the ball which L at the start alone would give."""
    if isinstance(given, Constant):
        return given
    if given is not None:
        return Constant(nonnegative("jacobian_lipschitz", given), "given", "by the caller")
    model, w0 = lin.model, lin.w

    def on_ball(radius: float) -> Constant:
        if shallow(model) is not None:
            return jacobian_lipschitz(model, w0, radius)
        return jacobian_lipschitz_estimate(model, w0, radius, safety=safety, rng=rng)

    found, covered = on_ball(0.0), 0.0
    while reach > covered * found.value * (1 + 1e-12):  # the ball of radius reach/L is larger
        covered = reach / found.value if found.value > 0 else max(1.0, float(np.linalg.norm(w0)))
        found = max(on_ball(covered), found, key=float)  # of equals the one on the ball
        if found.value == 0:
            break
    return found
