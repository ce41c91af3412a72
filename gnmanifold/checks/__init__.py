"""Checks of gradients, Hessians, retractions and manifolds, for any pymanopt problem or manifold.

Each returns numbers and is true when they are right, so that the same line serves user code,
tests and documentation: `assert check_gradient(problem, point, rng=0)`.
"""

from gnmanifold.checks.contract import ManifoldCheck, check_manifold
from gnmanifold.checks.slopes import SlopeCheck, check_gradient, check_hessian, check_retraction

__all__ = [
    "ManifoldCheck",
    "SlopeCheck",
    "check_gradient",
    "check_hessian",
    "check_manifold",
    "check_retraction",
]
