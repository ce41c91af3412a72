"""Damping: rules for λ of Levenberg-Marquardt, schedules for ρ of Gauss-Newton and its flows."""

from gnmanifold.damping.rules import (
    UNDAMPED,
    ConstantLambda,
    Damping,
    DampingRule,
    DelayedGratification,
    Marquardt,
    Nielsen,
    TrustRadius,
)
from gnmanifold.damping.schedules import (
    Adaptive,
    Constant,
    CurvatureAware,
    DampingSchedule,
    DataBased,
    Switch,
)

__all__ = [
    "UNDAMPED",
    "Adaptive",
    "Constant",
    "ConstantLambda",
    "CurvatureAware",
    "Damping",
    "DampingRule",
    "DampingSchedule",
    "DataBased",
    "DelayedGratification",
    "Marquardt",
    "Nielsen",
    "Switch",
    "TrustRadius",
]
