"""Convex losses of the predictions: values, derivatives to third order, roots of the Hessian."""

from gnmanifold.losses.base import Loss
from gnmanifold.losses.elementwise import Logistic, Poisson, PseudoHuber, SquaredError
from gnmanifold.losses.softmax import Softmax
from gnmanifold.losses.strongly_convex import StronglyConvex

__all__ = [
    "Logistic",
    "Loss",
    "Poisson",
    "PseudoHuber",
    "Softmax",
    "SquaredError",
    "StronglyConvex",
]
