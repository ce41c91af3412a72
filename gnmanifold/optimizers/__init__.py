"""Optimizers with pymanopt's keywords and results."""

from gnmanifold.optimizers import line_search
from gnmanifold.optimizers.base import Optimizer, Result, StopReason
from gnmanifold.optimizers.gauss_newton import GaussNewton
from gnmanifold.optimizers.levenberg_marquardt import LevenbergMarquardt
from gnmanifold.optimizers.line_search import BackTracking, ConstantStep, UnitStep
from gnmanifold.optimizers.trust_regions import TrustRegions

__all__ = [
    "BackTracking",
    "ConstantStep",
    "GaussNewton",
    "LevenbergMarquardt",
    "Optimizer",
    "Result",
    "StopReason",
    "TrustRegions",
    "UnitStep",
    "line_search",
]
