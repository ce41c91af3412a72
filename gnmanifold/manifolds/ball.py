"""The ball B of parameters that the papers' prediction surface f(B) is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.models import Model
from gnmanifold.validation import as_vector, frozen, positive


@dataclass(frozen=True, eq=False)
class Ball:
    """The parameters with |w - center| < radius, in the Euclidean norm."""

    center: np.ndarray
    radius: float

    def distance(self, w: np.ndarray) -> float:
        """Distance from the centre."""
        return float(np.linalg.norm(w - self.center))

    def contains(self, w: np.ndarray) -> bool:
        """Whether parameters lie inside; those that are not finite do not."""
        return self.distance(w) < self.radius

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Parameters drawn uniformly from the inside."""
        direction = rng.standard_normal(self.center.size)
        share = rng.uniform() ** (1 / self.center.size)
        return self.center + self.radius * share * direction / np.linalg.norm(direction)

    def excess(self, w: np.ndarray) -> float:
        """Smooth function of the parameters that is negative inside and positive outside."""
        return (self.distance(w) / self.radius) ** 2 - 1


def make_ball(model: Model, center: ArrayLike | None, radius: float | None) -> Ball | None:
    """Checked ball, or None where neither centre nor radius is given.

    The centre defaults to the model's initial parameters. Raises ArgumentError or ShapeError.
    """
    if radius is None:
        if center is not None:
            raise ArgumentError("a ball needs its radius too: pass radius=R with center")
        return None
    center = model.initial_parameters if center is None else center
    if center is None:
        raise ArgumentError("a ball needs its centre: pass center=w0 with radius")
    w = frozen(as_vector("center", center, model.num_parameters))
    return Ball(w, positive("radius", radius))
