"""pymanopt manifolds: the prediction surface of a model, and its parameters with a metric."""

from gnmanifold.manifolds.output import OutputManifold
from gnmanifold.manifolds.parameter import ParameterManifold
from gnmanifold.manifolds.point import OutputPoint

__all__ = ["OutputManifold", "OutputPoint", "ParameterManifold"]
