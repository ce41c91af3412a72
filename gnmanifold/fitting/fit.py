"""Fitting a model to data: one call, and a result that says how far it can be trusted."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.fitting.result import FitResult
from gnmanifold.losses import Loss, Softmax, SquaredError, StronglyConvex
from gnmanifold.manifolds import ParameterManifold
from gnmanifold.metrics import EuclideanMetric
from gnmanifold.models import CallableModel, Model, Weighted
from gnmanifold.optimizers import LevenbergMarquardt
from gnmanifold.optimizers.base import Optimizer
from gnmanifold.problems import CompositeProblem
from gnmanifold.validation import as_vector, frozen

_OF_SCIPY = {
    "p0": "the start is called start here",
    "jac": "the Jacobian is called jacobian here",
    "bounds": "there are none here; take parameters that cannot leave them, such as logarithms",
    "method": "pass optimizer=..., one of gn.optimizers",
    "maxfev": "pass optimizer=gn.optimizers.LevenbergMarquardt(max_cost_evaluations=...)",
    "check_finite": "what is not finite is always refused",
    "nan_policy": "leave data that are missing out",
    "full_output": "the result has everything",
    **dict.fromkeys(("ftol", "xtol", "gtol"), "a fit ends at the accuracy of the arithmetic"),
}
LossOfTargets = Callable[[np.ndarray], Loss]


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

    >>> x = np.linspace(0, 1, 5)
    >>> fit(lambda w: w[0] + w[1] * x, 1 + 2 * x + 0.1 * x**2, [0.0, 0.0]).parameters.round(4)
    array([0.9875, 2.1   ])
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

    >>> x = np.linspace(0, 2, 9)
    >>> y = 3 * np.exp(-0.5 * x) + 0.01 * np.cos(9 * x)
    >>> found = curve_fit(lambda x, scale, rate: scale * np.exp(-rate * x), x, y, [1.0, 1.0])
    >>> for name, value in zip(found.names, found.parameters):
    ...     print(f"{name} {value:.2f}")
    scale 3.00
    rate 0.50
    """
    _refuse_scipys(options)
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
    derivative = None if jacobian is None else _Curve(jacobian, x)
    y = as_vector("y", y)
    model = CallableModel(_Curve(function, x), start.size, y.size, jacobian=derivative)
    return fit(model, y, start, sigma, absolute_sigma, names=names, **options)


@dataclass(frozen=True, eq=False)
class _Curve:
    """A function of (x, *parameters) at the x of the data; a value, so that fits can be pickled."""

    function: Callable[..., ArrayLike]
    x: Any

    def __call__(self, w: np.ndarray) -> ArrayLike:
        return self.function(self.x, *w)


def _refuse_scipys(options: dict[str, Any]) -> None:
    for name, remedy in _OF_SCIPY.items():
        if name in options:
            raise ArgumentError(f"{name} is an argument of SciPy's curve_fit: {remedy}")


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
