"""Geometry of the metrics: functions of a local metric tensor that know nothing of pymanopt.

The manifolds call them; those for more parameters than outputs, where f is a submersion and there
is no manifold to ask, are called as they are.
"""

from gnmanifold.geometry.submersion import (
    horizontal_lift,
    horizontal_part,
    minimum_norm_step,
    straight_line,
    submersion_hessian,
)

__all__ = [
    "horizontal_lift",
    "horizontal_part",
    "minimum_norm_step",
    "straight_line",
    "submersion_hessian",
]
