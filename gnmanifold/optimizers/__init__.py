"""Optimizers with pymanopt's keywords and results.

An optimizer is a metric, a Hessian model, a retraction and a globalisation. The manifold of the
problem gives the retraction, and the metric where the table says "manifold's":

| optimizer          | metric, or matrix of the step      | Hessian model       | globalisation    |
|--------------------|------------------------------------|---------------------|------------------|
| GradientDescent    | manifold's                         | identity            | line search      |
| SharpnessAware     | manifold's                         | identity            | line search      |
| Adam               | diagonal of past squared gradients | identity            | constant step    |
| BFGS, LBFGS        | manifold's                         | secant pairs        | line search      |
| GaussNewton        | (1-ρ) JᵀAJ + ρα²I, A = ∇²g         | identity            | line search      |
| NaturalGradient    | (1-ρ) JᵀFJ + ρα²I, F Fisher        | identity            | line search      |
| Newton             | ∇²(g∘f)                            | identity            | line search      |
| FilteredNewton     | k eigenvalues of ∇²(g∘f)           | identity            | line search      |
| LevenbergMarquardt | JᵀAJ + λD²                         | identity            | gain ratio and λ |
| HessianFree        | JᵀAJ + λI, by products             | identity            | gain ratio and λ |
| KFAC               | Kronecker blocks of JᵀFJ, + λI     | identity            | gain ratio and λ |
| TrustRegions       | manifold's                         | exact, Gauss-Newton | trust radius     |
"""

from gnmanifold.optimizers import line_search, stopping
from gnmanifold.optimizers.adam import Adam
from gnmanifold.optimizers.base import Optimizer, Result, StopReason
from gnmanifold.optimizers.descent import Descent, ModelDescent
from gnmanifold.optimizers.gauss_newton import GaussNewton, NaturalGradient
from gnmanifold.optimizers.gradient_descent import GradientDescent, SharpnessAware
from gnmanifold.optimizers.hessian_free import HessianFree
from gnmanifold.optimizers.kfac import KFAC
from gnmanifold.optimizers.levenberg_marquardt import LevenbergMarquardt
from gnmanifold.optimizers.line_search import BackTracking, ConstantStep, UnitStep
from gnmanifold.optimizers.newton import FilteredNewton, Newton
from gnmanifold.optimizers.quasi_newton import BFGS, LBFGS
from gnmanifold.optimizers.stopping import CostBelow, Criterion, GradientReduced, Stagnation, When
from gnmanifold.optimizers.trust_regions import TrustRegions

__all__ = [
    "BFGS",
    "KFAC",
    "LBFGS",
    "Adam",
    "BackTracking",
    "ConstantStep",
    "CostBelow",
    "Criterion",
    "Descent",
    "FilteredNewton",
    "GaussNewton",
    "GradientDescent",
    "GradientReduced",
    "HessianFree",
    "LevenbergMarquardt",
    "ModelDescent",
    "NaturalGradient",
    "Newton",
    "Optimizer",
    "Result",
    "SharpnessAware",
    "Stagnation",
    "StopReason",
    "TrustRegions",
    "UnitStep",
    "When",
    "line_search",
    "stopping",
]
