"""Models: smooth maps from parameters to predictions, with their derivatives."""

from gnmanifold.models.autograd import AutogradModel
from gnmanifold.models.base import Model
from gnmanifold.models.callables import CallableModel
from gnmanifold.models.network import FeedforwardNetwork
from gnmanifold.models.square_root import SquareRoot
from gnmanifold.models.transforms import Centered, Composed, Fixed, Graph, Scaled, Weighted

__all__ = [
    "AutogradModel",
    "CallableModel",
    "Centered",
    "Composed",
    "FeedforwardNetwork",
    "Fixed",
    "Graph",
    "Model",
    "Scaled",
    "SquareRoot",
    "Weighted",
]
