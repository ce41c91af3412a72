"""Flows in continuous time: ẇ = -G(w)⁻¹Jᵀ∇g in the metric G of a manifold.

| metric of the manifold       | flow                                                |
|------------------------------|-----------------------------------------------------|
| GaussNewtonMetric            | Gauss-Newton, (6) of Cayci                          |
| GeneralizedGaussNewtonMetric | generalized Gauss-Newton, ψ' = -(∇²g)⁻¹∇g for p > n |
| FisherMetric                 | natural gradient                                    |
| HessianMetric                | Newton: ∇h(w(t)) = e^-t ∇h(w(0))                    |
| EuclideanMetric              | gradient                                            |
"""

from gnmanifold.flows.flow import integrate, stability_limit
from gnmanifold.flows.trajectory import Trajectory

__all__ = ["Trajectory", "integrate", "stability_limit"]
