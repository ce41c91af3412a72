"""Riemannian metrics on parameters: rules that give a metric tensor at every linearization."""

from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import (
    EuclideanMetric,
    FisherMetric,
    GaussNewtonMetric,
    GeneralizedGaussNewtonMetric,
    LevenbergMarquardtMetric,
)
from gnmanifold.metrics.hessian import HessianMetric
from gnmanifold.metrics.induced import InducedMetric

__all__ = [
    "EuclideanMetric",
    "FisherMetric",
    "GaussNewtonMetric",
    "GeneralizedGaussNewtonMetric",
    "HessianMetric",
    "InducedMetric",
    "LevenbergMarquardtMetric",
    "LocalMetric",
    "Metric",
]
