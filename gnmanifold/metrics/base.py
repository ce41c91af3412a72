"""What every metric offers: a rule, and the metric tensor that it gives at a point."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import UnderdeterminedError
from gnmanifold.linearization import Linearization
from gnmanifold.models import Model


class Metric(ABC):
    """A rule that gives a metric tensor at every linearization, a small frozen value.

    `immersed` tells whether a fixed immersion induces it, so that it has Christoffel symbols;
    `undamped` whether it needs a Jacobian of full column rank.
    """

    @property
    def weight(self) -> float:
        """Factor of JᵀJ in the metric."""
        return 1.0

    @property
    def immersed(self) -> bool:
        """Whether a fixed immersion induces the metric."""
        return True

    @property
    def undamped(self) -> bool:
        """Whether the metric is degenerate where the Jacobian has not full column rank."""
        return False

    @abstractmethod
    def at(self, lin: Linearization) -> LocalMetric:
        """Metric tensor at a point."""

    def check(self, model: Model) -> None:
        """Raise UnderdeterminedError where the metric is degenerate at every point of a model."""
        if self.undamped and model.num_parameters > model.num_outputs:
            raise UnderdeterminedError(
                f"{self} is degenerate with p = {model.num_parameters} parameters and only "
                f"n = {model.num_outputs} outputs: take a damping > 0"
            )


class LocalMetric(ABC):
    """A metric tensor G at a point, for velocities a, b and covectors c of the parameters (p,)."""

    lin: Linearization

    @abstractmethod
    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Covector G a."""

    @abstractmethod
    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        """Velocity G⁻¹c of a covector, or of each column of a matrix."""

    def inner_product(self, a: np.ndarray, b: np.ndarray) -> np.float64:
        """Inner product aᵀG b."""
        return np.float64(a @ self.lower(b))

    def length(self, a: np.ndarray) -> np.float64:
        """Length sqrt(aᵀG a) of a velocity."""
        return np.sqrt(self.inner_product(a, a))

    def gradient(self, z: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity G⁻¹Jᵀz: the Riemannian gradient of g∘f where z = ∇g."""
        return self.raise_index(self.lin.pull_covector(z))

    def receive(self, source: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity a at another point brought here by the identity of the parameters."""
        return a
