"""Gauss-Newton as Riemannian optimization: prediction surfaces and metrics for pymanopt."""

from gnmanifold import damping, datasets, geometry, optimizers
from gnmanifold.checks import (
    check_gradient,
    check_hessian,
    check_manifold,
    check_retraction,
)
from gnmanifold.errors import (
    ArgumentError,
    ForeignPointError,
    GeodesicError,
    GnmanifoldError,
    IndefiniteError,
    LeftBallWarning,
    NonFiniteError,
    NotAnImmersionError,
    RankDeficientError,
    ShapeError,
    UnderdeterminedError,
)
from gnmanifold.fitting import FitResult, curve_fit, fit
from gnmanifold.linearization import Evaluations, Linearization
from gnmanifold.losses import (
    Logistic,
    Loss,
    Poisson,
    PseudoHuber,
    Softmax,
    SquaredError,
    StronglyConvex,
)
from gnmanifold.manifolds import OutputManifold, OutputPoint, ParameterManifold
from gnmanifold.metrics import (
    EuclideanMetric,
    FisherMetric,
    GaussNewtonMetric,
    GeneralizedGaussNewtonMetric,
    HessianMetric,
    LevenbergMarquardtMetric,
)
from gnmanifold.models import (
    AutogradModel,
    CallableModel,
    Centered,
    Composed,
    FeedforwardNetwork,
    Graph,
    Model,
    Scaled,
    SquareRoot,
    Weighted,
)
from gnmanifold.problems import CompositeProblem

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "AutogradModel",
    "CallableModel",
    "Centered",
    "Composed",
    "CompositeProblem",
    "EuclideanMetric",
    "Evaluations",
    "FeedforwardNetwork",
    "FisherMetric",
    "FitResult",
    "ForeignPointError",
    "GaussNewtonMetric",
    "GeneralizedGaussNewtonMetric",
    "GeodesicError",
    "GnmanifoldError",
    "Graph",
    "HessianMetric",
    "IndefiniteError",
    "LeftBallWarning",
    "LevenbergMarquardtMetric",
    "Linearization",
    "Logistic",
    "Loss",
    "Model",
    "NonFiniteError",
    "NotAnImmersionError",
    "OutputManifold",
    "OutputPoint",
    "ParameterManifold",
    "Poisson",
    "PseudoHuber",
    "RankDeficientError",
    "Scaled",
    "ShapeError",
    "Softmax",
    "SquareRoot",
    "SquaredError",
    "StronglyConvex",
    "UnderdeterminedError",
    "Weighted",
    "check_gradient",
    "check_hessian",
    "check_manifold",
    "check_retraction",
    "curve_fit",
    "damping",
    "datasets",
    "fit",
    "geometry",
    "optimizers",
]
