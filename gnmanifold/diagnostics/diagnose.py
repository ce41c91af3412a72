"""`diagnose`: all that is affordable to say of a point of a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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
from gnmanifold.manifolds import ParameterManifold
from gnmanifold.metrics import EuclideanMetric
from gnmanifold.problems import CompositeProblem, require_composite

_HESSIANS = 600  # parameters up to which the Riemannian Hessian is taken apart
_CURVATURES = 1e7  # second derivatives n p² up to which the nonlinearity is computed
_FORMED = 2e7  # entries of a Jacobian that is formed
_CLASSIFIED = 200  # parameters up to which the point is classified, which can take refits
_CRITICAL = 1e-4  # share of the residual in the tangent space from which a point is no fit
_ILL = 1e8
_ROUNDING = 1e-12


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
        name: str, title: str, compute: Callable[[], Any], lines: Lines, reason: str = ""
    ) -> None:
        if reason:
            sections.append(Section(title, missing=reason))
            return
        try:
            made[name] = compute()
            sections.append(Section(title, tuple(lines(made[name]))))
        except GnmanifoldError as error:
            sections.append(Section(title, missing=str(error)))

    fit = _Fit(problem, lin)
    part("fit", "The fit", fit.check, _fit_lines)
    posed, where = problem, point
    if p > _HESSIANS:  # the metric's own Hessian takes a solve for each product
        posed = CompositeProblem(ParameterManifold(problem.model, EuclideanMetric()), loss)
        where = lin.w
    part("spectrum", "Curvature of the cost", lambda: spectrum(posed, where), _spectrum_lines)
    large = f"more than {_HESSIANS} parameters" if p > _HESSIANS else ""
    part("terms", "Convexity on the surface", lambda: hessian_terms(problem, point), _term_lines,
         large)  # fmt: skip
    away = fit.away
    many = f"more than {_CLASSIFIED} parameters" if p > _CLASSIFIED else ""
    part("critical_point", "Kind of critical point", lambda: classify(problem, point),
         lambda kind: [Line(kind.kind, "", str(kind))], away or many)  # fmt: skip
    part("local_rate", "Gauss-Newton steps nearby", lambda: local_factor(problem, point),
         _rate_lines, away)  # fmt: skip
    part("nonlinearity", "Nonlinearity of the fit", fit.nonlinearity, _curvature_lines,
         away or fit.unlike_a_fit)  # fmt: skip
    part("sloppiness", "Stiff and sloppy directions", lambda: sloppiness(problem.model, lin.w),
         _sloppy_lines, "" if n * p <= _FORMED else "the Jacobian is too large")  # fmt: skip
    numbers = made.pop("fit", {})
    return Diagnosis(
        tuple(sections),
        tuple(_advice(numbers, made, [each.title for each in sections if each.missing])),
        np.array(lin.psi),
        np.array(loss.gradient(lin.psi)),
        numbers=numbers,
        **made,
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    problem: CompositeProblem
    lin: Linearization

    @cached_property
    def share(self) -> float:
        """Share of ∇g in the tangent space; zero at a critical point, and where it is rounding."""
        lin, loss = self.lin, self.problem.loss
        z = loss.gradient(lin.psi)
        size = float(np.linalg.norm(z))
        if size == 0 or lin.model.num_parameters * len(z) > _FORMED:
            return 0.0 if size == 0 else np.nan
        tangent = float(np.linalg.norm(lin.least_squares.project(z)))
        mu = loss.mu if np.isfinite(loss.mu) else 1.0
        noise = _ROUNDING * (size + mu * float(np.linalg.norm(lin.psi)))
        return 0.0 if tangent <= noise else tangent / size

    @property
    def away(self) -> str:
        """Why the point cannot be taken for a fit, "" where it can."""
        if np.isnan(self.share):
            return "the Jacobian is too large to tell whether this is a minimum"
        return "" if self.share <= _CRITICAL else "this is no minimum yet"

    @property
    def unlike_a_fit(self) -> str:
        """Why the curvatures of a least-squares fit do not apply, "" where they do."""
        n, p = self.lin.model.num_outputs, self.lin.model.num_parameters
        if not isinstance(self.problem.loss, SquaredError):
            return "it is for least squares"
        if n <= p:
            return "there is no degree of freedom left"
        return "there are too many second derivatives" if n * p * p > _CURVATURES else ""

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
        known = "" if part.complete else "at least "
        count = part.signs.negative
        meaning = f"{known}{count} negative" if count else "no negative eigenvalue"
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


def _advice(numbers: dict[str, Any], made: dict[str, Any], missing: list[str]) -> list[str]:
    """Plain sentences: what is wrong, and what to do."""
    kind = made.get("critical_point")
    if kind is not None and kind.kind in ("saddle", "maximum"):
        return [f"{kind} This is no fit: start elsewhere, or go on with TrustRegions."]
    found = [*_advice_on_fit(numbers), *_advice_on_curvature(made)]
    rate, curvature = made.get("local_rate"), made.get("nonlinearity")
    if rate is not None and rate.radius > 1 + _ROUNDING:
        found.append(
            f"Full Gauss-Newton steps run away from this point (factor {rate.radius:.3g}): the "
            "residual is large where the surface bends; take LevenbergMarquardt or Newton."
        )
    if curvature is not None:
        found += [each for each in curvature.advice() if not each.endswith("interval is good.")]
    if found:
        return found
    if curvature is not None and curvature.trusted:
        return ["Nothing is wrong: a fit whose linear approximation can be trusted."]
    return [f"Nothing wrong was found in what was computed; not assessed: {'; '.join(missing)}."]


def _advice_on_fit(numbers: dict[str, Any]) -> list[str]:
    found = []
    if numbers.get("tangent_share", 0.0) > _CRITICAL:
        found.append(
            f"This is no minimum yet: {100 * numbers['tangent_share']:.3g} % of the residual can "
            "still be removed to first order; run an optimizer to the end, such as "
            "gn.optimizers.LevenbergMarquardt()."
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
    if spectrum_ is not None and spectrum_.hessian.signs.negative and terms is not None:
        known = "" if spectrum_.hessian.complete else "at least "
        return [
            "Negative eigenvalues of the Hessian by the parameters: "
            f"{known}{spectrum_.hessian.signs.negative}, though the cost is convex on the surface: "
            "plain Newton steps can go to a saddle, those of Gauss-Newton and of trust regions on "
            "the surface do not."
        ]
    return []
