"""`diagnose`: all that is affordable to say of a point of a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnmanifold.diagnostics.convexity import HessianTerms, hessian_terms
from gnmanifold.diagnostics.critical_points import classify
from gnmanifold.diagnostics.nonlinearity import Nonlinearity, nonlinearity
from gnmanifold.diagnostics.rates import LocalRate, local_factor
from gnmanifold.diagnostics.report import Diagnosis, Line, Section
from gnmanifold.diagnostics.sloppiness import Sloppiness, sloppiness
from gnmanifold.diagnostics.spectrum import Spectrum, spectrum
from gnmanifold.errors import GnmanifoldError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import SquaredError
from gnmanifold.problems import CompositeProblem, require_composite

_HESSIANS = 600  # parameters up to which the Riemannian Hessian is taken apart
_CURVATURES = 1e7  # second derivatives n p² up to which the nonlinearity is computed
_FORMED = 2e7  # entries of a Jacobian that is formed
_CLASSIFIED = 200  # parameters up to which the point is classified, which can take refits
_CRITICAL = 1e-4  # share of the residual in the tangent space from which a point is no fit
_ILL = 1e8


Lines = Callable[[Any], Any]


def diagnose(problem: CompositeProblem, point: Any) -> Diagnosis:
    """Diagnose a point of a problem, such as the end of a fit, with all that is affordable there.

    Rank and condition of the Jacobian; eigenvalues of the Gauss-Newton matrix, the Hessian and the
    Riemannian Hessian; what the loss and the surface add to the last one; the local factor of
    Gauss-Newton steps; Bates and Watts' curvatures, bias and skewness for least squares; stiff and
    sloppy directions. What cannot be computed is said with the reason.
    Raises ArgumentError for other problems, NonFiniteError for points off the domain.
    """
    require_composite(problem, "diagnose")
    point = problem.manifold.as_point(point)
    lin, loss = problem.manifold.at(point).lin, problem.loss
    n, p = problem.model.num_outputs, problem.model.num_parameters
    sections: list[Section] = []
    made: dict[str, Any] = {}

    def part(
        name: str, title: str, compute: Callable[[], Any], lines: Callable[[Any], Any]
    ) -> None:
        try:
            made[name] = compute()
            sections.append(Section(title, tuple(lines(made[name]))))
        except GnmanifoldError as error:
            sections.append(Section(title, missing=str(error)))

    fit = _Fit(problem, lin)
    part("fit", "The fit", fit.check, _fit_lines)
    part("spectrum", "Curvature of the cost", lambda: spectrum(problem, point), _spectrum_lines)
    if p <= _HESSIANS:
        part(
            "terms", "Convexity on the surface", lambda: hessian_terms(problem, point), _term_lines
        )
    if fit.critical and p <= _CLASSIFIED:
        part("critical_point", "Kind of critical point", lambda: classify(problem, point),
             lambda kind: [Line(kind.kind, "", str(kind))])  # fmt: skip
    if fit.critical:
        part("local_rate", "Gauss-Newton steps nearby", lambda: local_factor(problem, point),
             _rate_lines)  # fmt: skip
    if isinstance(loss, SquaredError) and n > p and n * p * p <= _CURVATURES:
        part("nonlinearity", "Nonlinearity of the fit", fit.nonlinearity, _curvature_lines)
    if n * p <= _FORMED:
        part("sloppiness", "Stiff and sloppy directions", lambda: sloppiness(problem.model, lin.w),
             _sloppy_lines)  # fmt: skip
    numbers = made.pop("fit", {})
    return Diagnosis(
        tuple(sections),
        tuple(_advice(numbers, made)),
        np.array(lin.psi),
        np.array(loss.gradient(lin.psi)),
        numbers=numbers,
        **made,
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    problem: CompositeProblem
    lin: Linearization

    @property
    def share(self) -> float:
        """Share of ∇g in the tangent space, zero at a critical point."""
        z = self.problem.loss.gradient(self.lin.psi)
        size = float(np.linalg.norm(z))
        if size == 0 or self.lin.model.num_parameters * len(z) > _FORMED:
            return 0.0 if size == 0 else np.nan
        return float(np.linalg.norm(self.lin.least_squares.project(z))) / size

    @property
    def critical(self) -> bool:
        return self.share <= _CRITICAL

    def check(self) -> dict[str, Any]:
        """Numbers of the fit."""
        lin, loss = self.lin, self.problem.loss
        n, p = lin.model.num_outputs, lin.model.num_parameters
        z = loss.gradient(lin.psi)
        formed = n * p <= _FORMED
        return {
            "outputs": n,
            "parameters": p,
            "cost": float(loss.value(lin.psi)),
            "gradient_norm": float(np.linalg.norm(lin.pull_covector(z))),
            "tangent_share": self.share,
            "rank": lin.rank if formed else None,
            "condition": float(lin.condition) if formed else None,
        }

    def nonlinearity(self) -> Nonlinearity:
        """Curvatures with the residual standard deviation of the fit."""
        n, p = self.lin.model.num_outputs, self.lin.model.num_parameters
        r = self.problem.loss.gradient(self.lin.psi) / self.problem.loss.mu
        return nonlinearity(self.problem.model, self.lin.w, float(np.sqrt(r @ r / (n - p))))


def _fit_lines(numbers: dict[str, Any]) -> list[Line]:
    lines = [
        Line("outputs n, parameters p", f"{numbers['outputs']}, {numbers['parameters']}"),
        Line("cost", f"{numbers['cost']:.6g}"),
        Line("gradient by the parameters", f"{numbers['gradient_norm']:.2e}"),
        Line(
            "share of the residual in the tangent space",
            f"{numbers['tangent_share']:.2e}",
            "0 at a critical point",
        ),
    ]
    if numbers["rank"] is not None:
        full = min(numbers["outputs"], numbers["parameters"])
        lines.append(Line("rank of the Jacobian", f"{numbers['rank']} of {full}"))
        lines.append(Line("its condition, columns of length one", f"{numbers['condition']:.2e}"))
    return lines


def _spectrum_lines(found: Spectrum) -> list[Line]:
    rows = [("Gauss-Newton matrix JᵀAJ", found.gauss_newton), ("Hessian ∇²h", found.hessian)]
    if found.riemannian is not None:
        rows.append(("Riemannian Hessian, in the metric", found.riemannian))
    lines = []
    for label, part in rows:
        signs = part.signs
        meaning = f"{signs.negative} negative" if signs.negative else "no negative eigenvalue"
        lines.append(Line(label, f"{part.smallest:.3g} … {part.largest:.3g}", meaning))
    if found.riemannian is None:
        lines.append(Line("Riemannian Hessian", "none", found.absent))
    return lines


def _term_lines(terms: HessianTerms) -> list[Line]:
    low, high = terms.eigenvalues[0], terms.eigenvalues[-1]
    return [
        Line("eigenvalues", f"{low:.3g} … {high:.3g}", "relative to the metric"),
        Line("smallest: from the loss", f"{terms.loss_part:.3g}"),
        Line("smallest: from the surface", f"{terms.surface_part:.3g}"),
    ]


def _rate_lines(rate: LocalRate) -> list[Line]:
    lines = [
        Line(
            "factor of full steps",
            f"{rate.radius:.4g}",
            "they converge" if rate.full_steps_converge else "they do not converge",
        ),
        Line("rate of the flow", f"{rate.flow_rate:.4g}"),
    ]
    if rate.best_step is not None:
        lines.append(Line("best constant step", f"{rate.best_step:.3g}"))
    return lines


def _curvature_lines(found: Nonlinearity) -> list[Line]:
    effects, intrinsic = (
        name * found.sqrt_f for name in (found.parameter_effects_rms, found.intrinsic_rms)
    )
    skewest = int(np.argmax(np.abs(found.skewness)))
    return [
        Line("intrinsic curvature, rms·√F", f"{intrinsic:.3g}", "good below 0.3"),
        Line("parameter effects, rms·√F", f"{effects:.3g}", "good below 0.3"),
        Line(
            "largest skewness",
            f"{found.skewness[skewest]:.3g}",
            f"of {found.names[skewest]}; good below 0.25",
        ),
    ]


def _sloppy_lines(found: Sloppiness) -> list[Line]:
    order = np.argsort(-np.abs(found.sloppy()[:, 0]))[:3]
    worst = " ".join(f"{found.sloppy()[i, 0]:+.2f} {found.names[i]}" for i in order)
    return [
        Line("eigenvalues of JᵀJ span", f"{found.decades:.1f} decades"),
        Line("least determined combination", worst),
    ]


def _advice(numbers: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Plain sentences: what is wrong, and what to do."""
    found = [*_advice_on_fit(numbers), *_advice_on_curvature(made)]
    kind = made.get("critical_point")
    if kind is not None and kind.kind in ("saddle", "maximum"):
        found.append(f"{kind} Start elsewhere, or go on with TrustRegions.")
    rate, curvature = made.get("local_rate"), made.get("nonlinearity")
    if rate is not None and not rate.full_steps_converge:
        found.append(
            f"Full Gauss-Newton steps run away from this point (factor {rate.radius:.3g}): the "
            "residual is large where the surface bends; take LevenbergMarquardt or Newton."
        )
    if curvature is not None:
        found += [each for each in curvature.advice() if not each.endswith("interval is good.")]
    return found or ["Nothing is wrong: a fit whose linear approximation can be trusted."]


def _advice_on_fit(numbers: dict[str, Any]) -> list[str]:
    found = []
    if numbers.get("tangent_share", 0.0) > _CRITICAL:
        found.append(
            f"This is no minimum yet: {numbers['tangent_share']:.2g} of the residual can still be "
            "removed to first order; run an optimizer to the end, such as LevenbergMarquardt()."
        )
    rank, p, n = (numbers.get(name) for name in ("rank", "parameters", "outputs"))
    if rank is not None and p is not None and n is not None:
        if p > n:
            found.append(
                f"There are {p - n} more parameters than outputs: only combinations of them are "
                "determined; standard errors of single parameters do not exist."
            )
        elif rank < p:
            found.append(
                f"The outputs determine only {rank} of {p} combinations of the parameters: remove "
                "or fix a parameter (the least determined combination says which)."
            )
        elif numbers["condition"] > _ILL:
            found.append(
                f"The parameters are nearly dependent (condition {numbers['condition']:.1e}): "
                "their standard errors are large and strongly correlated."
            )
    return found


def _advice_on_curvature(made: dict[str, Any]) -> list[str]:
    terms, spectrum_ = made.get("terms"), made.get("spectrum")
    if terms is not None and terms.cause == "surface":
        return [
            "The cost is not convex on the surface here, and the surface is the cause, not the "
            f"loss: its term is {terms.surface_part:.3g} against {terms.loss_part:.3g}. A larger "
            "scale α makes the surface flatter; trust regions can use the negative curvature."
        ]
    if terms is not None and terms.cause == "loss":
        return ["The loss itself is not convex in its metric here: take the Gauss-Newton metric."]
    if spectrum_ is not None and spectrum_.hessian.signs.negative:
        return [
            f"The Hessian by the parameters has {spectrum_.hessian.signs.negative} negative "
            "eigenvalues, though the cost is convex on the surface: plain Newton steps can go to "
            "a saddle; Gauss-Newton and trust regions on the surface do not."
        ]
    return []
