"""Fitting a model to data: one call, and a result that says how far it can be trusted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.linearization import Evaluations, Linearization
from gnmanifold.losses import Loss, Softmax, SquaredError, StronglyConvex
from gnmanifold.manifolds import ParameterManifold
from gnmanifold.metrics import EuclideanMetric
from gnmanifold.models import CallableModel, Model, Weighted
from gnmanifold.optimizers import LevenbergMarquardt
from gnmanifold.optimizers.base import Optimizer, Result
from gnmanifold.optimizers.linear_model import LinearModel
from gnmanifold.problems import CompositeProblem
from gnmanifold.validation import as_vector, fraction, frozen

_DETERMINED = 1e-8  # share of a parameter's own direction that the data need not determine
LossOfTargets = Callable[[np.ndarray], Loss]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fit: its parameters, how certain they are, and how the run went.

    It unpacks as `popt, pcov`. `weighted` is the model with its outputs in units of their standard
    deviations and `loss` that of the likewise divided data.
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
        return "\n".join([*lines, *self._warnings()])

    def _warnings(self) -> list[str]:
        found = []
        if not self.converged:
            found.append("Warning: the fit is not known to have converged.")
        if self.rank < len(self.parameters):
            found.append(
                f"Warning: the data determine only {self.rank} of {len(self.parameters)} "
                "combinations of the parameters; errors that are infinite say which are not."
            )
        if self.degrees_of_freedom <= 0:
            found.append("Warning: no degree of freedom is left to estimate errors from.")
        return found

    def __repr__(self) -> str:
        return self.summary()


def fit(
    model: Model | Callable[[np.ndarray], ArrayLike],
    y: ArrayLike,
    start: ArrayLike,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    loss: LossOfTargets | None = None,
    *,
    optimizer: Optimizer | None = None,
    names: tuple[str, ...] | None = None,
) -> FitResult:
    """Fit the parameters of a model to data y (n,), by least squares or with a robust loss.

    `model` is a Model or a function of the parameters. `sigma` are standard deviations of the
    data, a number or (n,): relative ones, or with `absolute_sigma` true ones. `loss` makes a loss
    from the data in units of sigma, such as gn.PseudoHuber. The optimizer is LevenbergMarquardt().
    Raises ArgumentError, ShapeError or NonFiniteError for bad arguments.
    """
    y = as_vector("y", y)
    start = as_vector("start", start)
    if not isinstance(model, Model):
        model = CallableModel(model, start.size, y.size)
    _require_size("start", start.size, model.num_parameters, "parameters")
    _require_size("y", y.size, model.num_outputs, "outputs")
    deviations = None if sigma is None else _deviations(sigma, y.size)
    weighted = model if deviations is None else Weighted(model, 1 / deviations)
    targets = y if deviations is None else y / deviations
    made = _make_loss(loss, targets, absolute_sigma)
    problem = CompositeProblem(ParameterManifold(weighted, EuclideanMetric()), made)
    optimizer = LevenbergMarquardt(verbosity=0) if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer must be one of gn.optimizers, got {optimizer!r}")
    run = optimizer.run(problem, initial_point=start)
    names = tuple(f"w{i}" for i in range(start.size)) if names is None else tuple(names)
    _require_size("names", len(names), start.size, "parameters")
    return FitResult(
        model, weighted, y, made, deviations, bool(absolute_sigma), frozen(run.point), run, names
    )


def curve_fit(
    function: Callable[..., ArrayLike],
    x: Any,
    y: ArrayLike,
    start: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    *,
    jacobian: Callable[..., ArrayLike] | None = None,
    **options: Any,
) -> FitResult:
    """Fit a plain function of (x, *parameters) to data, in SciPy's calling convention.

    The result unpacks as `popt, pcov`. `start` defaults to ones, as many as the function names;
    `jacobian` is a function of the same arguments that gives (n, p), differences else. Other
    keywords are those of `fit`.
    Raises ArgumentError where the number of parameters cannot be told.
    """
    if not callable(function):
        raise ArgumentError(f"function must be a function, got {type(function).__name__}")
    if jacobian is not None and not callable(jacobian):
        raise ArgumentError(f"jacobian must be a function or None, got {jacobian!r}")
    if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.dtype.kind in "iub"):
        x = np.asarray(x, dtype=float)  # as SciPy does: whole numbers overflow and refuse powers
    names = _parameter_names(function)
    if start is None:
        if names is None:
            raise ArgumentError("the function does not name its parameters: pass start")
        start = np.ones(len(names))
    start = as_vector("start", start)
    if names is None or len(names) != start.size:
        names = tuple(f"w{i}" for i in range(start.size))
    derivative = None if jacobian is None else lambda w: jacobian(x, *w)
    y = as_vector("y", y)
    model = CallableModel(lambda w: function(x, *w), start.size, y.size, jacobian=derivative)
    return fit(model, y, start, sigma, absolute_sigma, names=names, **options)


def _make_loss(loss: LossOfTargets | None, targets: np.ndarray, absolute_sigma: bool) -> Loss:
    """Loss of single data whose estimate the covariance is that of."""
    if loss is None:
        return SquaredError(targets)
    if isinstance(loss, Loss) or not callable(loss):
        raise ArgumentError(
            f"loss must be a function that makes one from the data, such as gn.PseudoHuber or "
            f"lambda t: gn.PseudoHuber(t, 0.5), got {loss!r}"
        )
    made = loss(targets)
    if not isinstance(made, Loss):
        raise ArgumentError(f"loss must make a gnmanifold loss from the data, got {made!r}")
    if isinstance(made, StronglyConvex | Softmax):
        raise ArgumentError(
            f"{type(made).__name__} is no sum over single data, which the standard errors are for: "
            "minimise it with an optimizer instead"
        )
    if absolute_sigma and made.isotropic is None:
        raise ArgumentError(
            "absolute_sigma is for the squared error: a robust loss finds the scale"
        )
    return made


def _deviations(sigma: ArrayLike, n: int) -> np.ndarray:
    values = np.full(n, sigma, dtype=float) if np.ndim(sigma) == 0 else as_vector("sigma", sigma, n)
    if not np.all(values > 0) or not np.all(np.isfinite(values)):
        raise ArgumentError(f"sigma must be positive and finite, got {np.min(values):g}")
    return frozen(values)


def _require_size(name: str, given: int, wanted: int, what: str) -> None:
    if given != wanted:
        raise ShapeError(f"{name} must have shape ({wanted},) for {wanted} {what}, got ({given},)")


def _parameter_names(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Names of the arguments after the first, or None where they are not all named."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    skipped = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    parameters = [parameter for parameter in parameters if parameter.kind not in skipped]
    if not parameters or any(parameter.kind not in named for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)
