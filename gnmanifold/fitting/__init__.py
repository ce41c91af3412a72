"""Fitting a model to data: one call, and a result that says how far it can be trusted."""

from gnmanifold.fitting.fit import curve_fit, fit
from gnmanifold.fitting.result import FitResult

__all__ = ["FitResult", "curve_fit", "fit"]
