"""What a fit found, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from gnmanifold.diagnostics.nonlinearity import Nonlinearity, nonlinearity
from gnmanifold.diagnostics.profile import Profile, profile
from gnmanifold.errors import ArgumentError, GnmanifoldError, ShapeError, UnderdeterminedError
from gnmanifold.linearization import Evaluations, Linearization
from gnmanifold.losses import Loss
from gnmanifold.models import Model
from gnmanifold.optimizers.base import Result
from gnmanifold.optimizers.linear_model import LinearModel
from gnmanifold.theory.hypotheses import plain
from gnmanifold.validation import fraction

_AFFORDABLE = 1e6  # second derivatives, n p², that a summary computes unasked
_DETERMINED = 1e-8  # share of a parameter's own direction that the data need not determine
LossOfTargets = Callable[[np.ndarray], Loss]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fit: its parameters, how certain they are, and how the run went.

    It unpacks as `popt, pcov`. `parameters` are the estimates and `names` what they are called,
    `model`, `y`, `sigma` and `absolute_sigma` what was fitted, `run` the optimizer's result with
    its log. `weighted` is the model with its outputs in units of their standard deviations and
    `loss` that of the likewise divided data.
    """

    model: Model
    weighted: Model
    y: Float[np.ndarray, " n"]
    loss: Loss
    sigma: Float[np.ndarray, " n"] | None
    absolute_sigma: bool
    parameters: Float[np.ndarray, " p"]
    run: Result
    names: tuple[str, ...]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.parameters, self.covariance))

    @cached_property
    def _linear(self) -> LinearModel:
        lin = Linearization(self.weighted, self.parameters)
        return LinearModel(lin, self.loss, np.ones(lin.model.num_parameters))

    @property
    def cost(self) -> float:
        """Loss at the fit: half the weighted sum of squares for the squared error."""
        return float(self.run.cost)

    @property
    def rank(self) -> int:
        """Number of parameter combinations that the data determine."""
        return self._linear.undamped.rank

    @property
    def degrees_of_freedom(self) -> int:
        """Number of data less the rank."""
        return self.model.num_outputs - self.rank

    @property
    def residuals(self) -> Float[np.ndarray, " n"]:
        """Differences f(w) - y, in the units of the data."""
        return self.model(self.parameters) - self.y

    @property
    def residual_standard_deviation(self) -> float:
        """Square root of the weighted sum of squares over the degrees of freedom; NaN for none."""
        freedom = self.degrees_of_freedom
        residuals = self.residuals if self.sigma is None else self.residuals / self.sigma
        squares = float(np.sum(residuals**2))
        return float(np.sqrt(squares / freedom)) if freedom > 0 else np.nan

    @cached_property
    def covariance(self) -> Float[np.ndarray, "p p"]:
        """Covariance of the parameters, from the factorization of the last Jacobian.

        s² (JᵀJ)⁻¹ for the squared error, (JᵀJ)⁻¹ with absolute_sigma; for other losses the sandwich
        n/(n-p) H⁻¹Jᵀdiag(g'²)J H⁻¹ with H = Jᵀ∇²g J. Infinite for parameters that the data do not
        determine, where the rank is not full.
        Seber and Wild, Nonlinear Regression, ch. 2; Huber, Robust Statistics, ch. 7.
        """
        factor, p = self._linear.undamped, len(self.parameters)
        if self.loss.isotropic is None:
            slopes = self.loss.gradient(self._linear.lin.psi)
            spread = factor.solve(self._linear.lin.jacobian.T * slopes)
            freedom = self.degrees_of_freedom
            scale = self.model.num_outputs / freedom if freedom > 0 else np.nan
            return self._marked(scale * spread @ spread.T)
        inverse = factor.solve(np.eye(p))
        scale = 1.0 if self.absolute_sigma else self.residual_standard_deviation**2
        return self._marked(0.5 * scale * (inverse + inverse.T))

    def _marked(self, covariance: np.ndarray) -> np.ndarray:
        """Covariance with infinite rows and columns of the parameters that are not determined."""
        if self.rank == len(self.parameters):
            return covariance
        determined = np.diag(self._linear.undamped.lstsq(self._linear.matrix))
        lost = np.abs(1 - determined) > _DETERMINED
        covariance[lost, :] = covariance[:, lost] = np.inf
        return covariance

    @property
    def standard_errors(self) -> Float[np.ndarray, " p"]:
        """Standard errors of the parameters, square roots of the diagonal of the covariance."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> Float[np.ndarray, "p p"]:
        """Correlations of the parameters."""
        errors = self.standard_errors
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.covariance / np.outer(errors, errors)

    def confidence_intervals(self, level: float = 0.95) -> Float[np.ndarray, "p 2"]:
        """Linear confidence intervals w ± t·se, lower and upper ends in columns."""
        width = self._quantile(level) * self.standard_errors
        return np.column_stack([self.parameters - width, self.parameters + width])

    def confidence_band(
        self, model: Model | None = None, level: float = 0.95
    ) -> Float[np.ndarray, "m 2"]:
        """Pointwise confidence band of the fitted curve, by J C Jᵀ, lower and upper ends.

        `model` is the same model at other inputs, with the same parameters; the fitted one else.
        """
        return self._band(model, level, 0.0)

    def prediction_band(
        self, model: Model | None = None, level: float = 0.95
    ) -> Float[np.ndarray, "m 2"]:
        """Pointwise band for new observations with the residual standard deviation of the fit.

        Raises ArgumentError for other losses than the squared error, and where the data have
        standard deviations of their own and `model` is given: those of new data are not known.
        """
        if self.loss.isotropic is None:
            raise ArgumentError(
                "a robust loss does not say how new data scatter: take confidence_band"
            )
        if self.sigma is not None and model is not None:
            raise ArgumentError(
                "the standard deviations of new data are not known: take confidence_band and add "
                "their variance"
            )
        spread = self.residual_standard_deviation
        noise = 1.0 if self.absolute_sigma else spread
        sigma = 1.0 if self.sigma is None else self.sigma
        return self._band(model, level, (noise * sigma) ** 2)

    def _band(self, model: Model | None, level: float, added: Any) -> np.ndarray:
        model = self.model if model is None else model
        if model.num_parameters != len(self.parameters):
            raise ShapeError(
                f"the model has {model.num_parameters} parameters, the fit {len(self.parameters)}"
            )
        J, center = model.jacobian(self.parameters), model(self.parameters)
        variance = np.einsum("ij,jk,ik->i", J, self._finite_covariance(), J) + added
        width = self._quantile(level) * np.sqrt(np.maximum(variance, 0.0))
        return np.column_stack([center - width, center + width])

    def _finite_covariance(self) -> np.ndarray:
        if self.rank < len(self.parameters):
            raise ArgumentError(
                f"the data determine only {self.rank} of {len(self.parameters)} combinations of "
                "the parameters: there is no band; fix or remove a parameter"
            )
        return self.covariance

    def _quantile(self, level: float) -> float:
        share = 0.5 + 0.5 * fraction("level", level)
        if self.absolute_sigma:
            return float(stats.norm.ppf(share))
        freedom = self.degrees_of_freedom
        return float(stats.t.ppf(share, freedom)) if freedom > 0 else np.nan

    def nonlinearity(self, level: float = 0.95) -> Nonlinearity:
        """Bates and Watts' curvatures, Box's bias and Hougaard's skewness of the fit.

        Raises ArgumentError for other losses than the squared error, UnderdeterminedError without
        degrees of freedom, RankDeficientError where the data do not determine the parameters.
        """
        self._require_least_squares()
        return nonlinearity(
            self.weighted,
            self.parameters,
            1.0 if self.absolute_sigma else self.residual_standard_deviation,
            degrees_of_freedom=np.inf if self.absolute_sigma else None,
            level=level,
            names=self.names,
        )

    def profile(self, parameter: str | int, level: float = 0.95, points: int = 12) -> Profile:
        """Profile of a parameter, named or numbered: the cost as it moves, the others refitted.

        Raises ArgumentError for other losses than the squared error and unknown parameters, and
        where a refit finds a lower cost, so that the fit is no minimum.
        """
        self._require_least_squares()
        if parameter in self.names:
            parameter = self.names.index(str(parameter))
        if not isinstance(parameter, int | np.integer):
            raise ArgumentError(f"no parameter is called {parameter!r}: {', '.join(self.names)}")
        return profile(
            self.weighted,
            self.y if self.sigma is None else self.y / self.sigma,
            self.parameters,
            int(parameter),
            scale=1.0 if self.absolute_sigma else self.residual_standard_deviation,
            quantile=self._quantile(level),
            points=points,
            name=self.names[int(parameter)] if -1 < parameter < len(self.names) else None,
        )

    def profile_intervals(self, level: float = 0.95) -> Float[np.ndarray, "p 2"]:
        """Confidence intervals where the profiles reach the quantile, lower and upper ends.

        They hold for nonlinear models too, to the extent that the surface itself is flat; infinite
        where the data set no limit.
        """
        found = [self.profile(i, level, points=2).interval for i in range(len(self.parameters))]
        return np.array(found)

    def _require_least_squares(self) -> None:
        if self.degrees_of_freedom <= 0 and not self.absolute_sigma:
            raise UnderdeterminedError("there is no degree of freedom left to know the errors from")
        if self.loss.isotropic is None:
            raise ArgumentError("this is for fits by least squares, not for robust losses")

    @property
    def stop_reason(self) -> str:
        """Why the run ended, a sentence."""
        return str(self.run.stopping_criterion)

    @property
    def converged(self) -> bool:
        """Whether the run ended because it was done."""
        return self.stop_reason.startswith("Converged")

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return int(self.run.iterations)

    @property
    def evaluations(self) -> Evaluations:
        """Counts of what the run evaluated."""
        assert self.run.evaluations is not None
        return self.run.evaluations

    @property
    def costs(self) -> list[float]:
        """Costs at the start and after every iteration."""
        return [float(cost) for cost in self.run.log["iterations"]["cost"]]

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Estimates, errors and how the run ended in JSON's types, None for what is not finite."""
        intervals = self.confidence_intervals(level)
        rows = zip(self.names, self.parameters, self.standard_errors, intervals, strict=True)
        return {
            "parameters": {
                name: {
                    "estimate": plain(value),
                    "standard_error": plain(error),
                    "interval": [plain(end) for end in ends],
                }
                for name, value, error, ends in rows
            },
            "level": level,
            "covariance": [[plain(each) for each in row] for row in self.covariance],
            "residual_standard_deviation": plain(self.residual_standard_deviation),
            "degrees_of_freedom": self.degrees_of_freedom,
            "rank": self.rank,
            "cost": self.cost,
            "iterations": self.iterations,
            "converged": self.converged,
            "stop_reason": self.stop_reason,
        }

    def summary(self, level: float = 0.95) -> str:
        """Table of the parameters with errors and intervals, and the warnings there are."""
        n, p = self.model.num_outputs, len(self.parameters)
        low = f"{100 * level:g} % from"
        head = f"{'':10s} {'estimate':>14s} {'std. error':>12s} {low:>14s} {'to':>14s}"
        lines = [head, "-" * len(head)]
        rows = zip(
            self.names,
            self.parameters,
            self.standard_errors,
            self.confidence_intervals(level),
            strict=True,
        )
        for name, value, error, (lower, upper) in rows:
            lines.append(f"{name:10s} {value:14.7g} {error:12.4g} {lower:14.6g} {upper:14.6g}")
        spread = self.residual_standard_deviation
        lines.append(
            f"{n} data, {p} parameters; residual standard deviation {spread:.6g} on "
            f"{self.degrees_of_freedom} degrees of freedom; cost {self.cost:.7g}"
        )
        lines.append(f"{self.iterations} iterations. {self.stop_reason}")
        return "\n".join([*lines, *self._warnings(), *self._doubts(level)])

    def _doubts(self, level: float) -> list[str]:
        """What the curvature says of the linear intervals, where it can be had."""
        n, p = self.model.num_outputs, len(self.parameters)
        full = self.rank == p and self.degrees_of_freedom > 0
        if self.loss.isotropic is None or not full or n * p * p > _AFFORDABLE:
            return []
        try:
            found = self.nonlinearity(level)
        except GnmanifoldError:  # no second derivatives there
            return []
        if found.trusted:
            names = ", ".join(found.skewed)
            better = f"Note: the estimates of {names} are skewed: profile_intervals() are better."
            return [better] if found.skewed else []
        curvatures = (
            f"rms·√F: parameter effects {found.parameter_effects_rms * found.sqrt_f:.2g}, "
            f"intrinsic {found.intrinsic_rms * found.sqrt_f:.2g}, good below 0.3; "
            f"largest skewness {np.max(np.abs(found.skewness)):.2g}, good below 1"
        )
        return [
            f"Warning: the linear intervals cannot be trusted ({curvatures}): take "
            "profile_intervals(), and see nonlinearity()."
        ]

    def _warnings(self) -> list[str]:
        found = []
        if not self.converged:
            found.append("Warning: the fit is not known to have converged.")
        if self.rank < len(self.parameters):
            found.append(
                f"Warning: the data determine only {self.rank} of {len(self.parameters)} "
                "combinations of the parameters; errors that are infinite say which are not."
            )
        elif self._linear.undamped.condition * self.weighted.first_order_accuracy > 1:
            found.append(
                "Warning: the Jacobian, from differences, cannot be told from one of lower rank: "
                "errors may be infinite. Give derivatives: jacobian=, or an AutogradModel."
            )
        if self.degrees_of_freedom <= 0:
            found.append("Warning: no degree of freedom is left to estimate errors from.")
        return found

    def __repr__(self) -> str:
        return self.summary()
