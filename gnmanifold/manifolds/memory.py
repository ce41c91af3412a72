"""What the manifolds share: the model, the metric, and the memory of the last point."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.geometry.geodesics import RETRACTIONS
from gnmanifold.linearization import Evaluations, Linearization, evaluate, require_finite
from gnmanifold.metrics import LocalMetric, Metric
from gnmanifold.models import Model
from gnmanifold.models.base import as_model
from gnmanifold.validation import RandomState, as_generator, as_vector, one_of, positive


class ModelManifold:
    """A model with a metric, which remembers the last two linearizations and the last value.

    pymanopt passes nothing but points and asks for the metric 3 to 33 times at each; transports
    between two points ask for both. The linearizations are found again by their parameters. A trial
    point of a line search needs its value alone and does not push them out. `evaluations` counts
    the work.
    """

    def __init__(
        self,
        model: Model,
        metric: Metric,
        retraction: str,
        typical_dist: float | None,
        rng: RandomState,
    ) -> None:
        as_model("model", model)
        if not isinstance(metric, Metric):
            raise ArgumentError(f"metric must be a gnmanifold metric, got {metric!r}")
        self._check_model(model, metric)
        self.model = model
        self.metric = metric
        self.retraction_name = one_of("retraction", retraction, tuple(RETRACTIONS))
        if retraction != "first_order" and not metric.immersed:
            raise ArgumentError(f"retraction must be 'first_order' for {metric}")
        self.evaluations = Evaluations()
        self._rng = as_generator(rng)
        self._slots: tuple[LocalMetric, ...] = ()
        self._value: tuple[np.ndarray, np.ndarray] | None = None
        if typical_dist is not None:
            positive("typical_dist", typical_dist)
        self._typical_dist = typical_dist
        self._suggested_dist: float | None = None

    def _check_model(self, model: Model, metric: Metric) -> None:
        metric.check(model)

    @property
    def typical_dist(self) -> float:
        """Length scale from which pymanopt's TrustRegions takes its largest radius.

        Eight times the distance that a CompositeProblem says the predictions have to travel, so
        that the first radius, an eighth of it, allows a full step; without a problem scale sqrt(n).
        For metrics of the parameters alone it is sqrt(p), pymanopt's own choice.
        """
        if self._typical_dist is not None:
            return self._typical_dist
        if self.metric.weight == 0:
            return float(np.sqrt(self.model.num_parameters))
        if self._suggested_dist is not None:
            return self._suggested_dist
        return float(self.model.scale * np.sqrt(self.model.num_outputs))

    def suggest_typical_dist(self, value: float) -> None:
        """Set the length scale that holds unless the manifold was made with its own."""
        self._suggested_dist = value if np.isfinite(value) and value > 0 else None

    def forget(self) -> None:
        """Forget the last linearizations, so that what follows counts all of its evaluations."""
        self._slots, self._value = (), None

    def _recall(self, w: np.ndarray, psi: np.ndarray | None = None) -> LocalMetric:
        """Local metric at w, a remembered one if it is there, else new and not remembered."""
        for local in self._slots:
            if np.array_equal(local.lin.w, w):
                return local
        if psi is None and self._value is not None and np.array_equal(self._value[0], w):
            psi = self._value[1]
        return self.metric.at(Linearization(self.model, w, psi, self.evaluations))

    def _remember(self, w: np.ndarray, psi: np.ndarray | None = None) -> LocalMetric:
        local = self._recall(w, psi)
        if not self._slots or self._slots[0] is not local:
            self._slots = (local, *self._slots[:1])
        return local

    def _predict(self, w: np.ndarray) -> Float[np.ndarray, " n"]:
        """Value f(w), finite or not, computed once for the last w."""
        for local in self._slots:
            if local.lin.has_psi and np.array_equal(local.lin.w, w):
                return local.lin.psi
        if self._value is None or not np.array_equal(self._value[0], w):
            lin = Linearization(self.model, w, counts=self.evaluations)
            self._value = lin.w, evaluate(lin)
        return self._value[1]

    def _start(self, w: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Checked parameters and their finite predictions, before any other work."""
        w = as_vector("w", w, self.model.num_parameters)
        psi = self._predict(w)
        require_finite(w, psi)
        return w, psi

    def _retract(self, local: LocalMetric, a: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return RETRACTIONS[self.retraction_name](self.metric, local, a)

    def _random_parameters(self) -> np.ndarray:
        start = self.model.initial_parameters
        noise = self._rng.standard_normal(self.model.num_parameters)
        return noise if start is None else start + 0.1 * noise
