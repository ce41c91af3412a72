"""Riemannian metrics on parameters: rules that give a metric tensor at every linearization."""

from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import (
    EuclideanMetric,
    FisherMetric,
    GaussNewtonMetric,
    GeneralizedGaussNewtonMetric,
    LevenbergMarquardtMetric,
)
from gnmanifold.metrics.filtered import FilteredHessianMetric
from gnmanifold.metrics.hessian import HessianMetric
from gnmanifold.metrics.induced import InducedMetric
from gnmanifold.metrics.kronecker import KroneckerFactoredMetric

__all__ = [
    "EuclideanMetric",
    "FilteredHessianMetric",
    "FisherMetric",
    "GaussNewtonMetric",
    "GeneralizedGaussNewtonMetric",
    "HessianMetric",
    "InducedMetric",
    "KroneckerFactoredMetric",
    "LevenbergMarquardtMetric",
    "LocalMetric",
    "Metric",
]
