"""Models of known geometry, each with a point of its domain: the rows of the contract table."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import autograd.numpy as anp
import numpy as np

import gnmanifold as gn


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], gn.Model]
    point: tuple[float, ...] | None = None

    def __str__(self):
        return self.name

    @cached_property
    def model(self):
        return self.build()

    @cached_property
    def w(self):
        if self.point is not None:
            return np.array(self.point)
        noise = np.random.default_rng(5).standard_normal(self.model.num_parameters)
        return self.model.initial_parameters + 0.1 * noise


def surface(*coordinates):
    return gn.AutogradModel(lambda w: anp.array([c(*w) for c in coordinates]), num_parameters=2)


def sphere(radius=2.0):
    return surface(
        lambda s, t: radius * anp.sin(s) * anp.cos(t),
        lambda s, t: radius * anp.sin(s) * anp.sin(t),
        lambda s, t: radius * anp.cos(s),
    )


def torus(large=3.0, small=1.0):
    return surface(
        lambda s, t: (large + small * anp.cos(s)) * anp.cos(t),
        lambda s, t: (large + small * anp.cos(s)) * anp.sin(t),
        lambda s, t: small * anp.sin(s),
    )


def cylinder(radius=1.5):
    return surface(
        lambda s, t: radius * anp.cos(s), lambda s, t: radius * anp.sin(s), lambda s, t: t
    )


def saddle():
    return surface(lambda s, t: s, lambda s, t: t, lambda s, t: s * t)


def helicoid():
    return surface(lambda s, t: s * anp.cos(t), lambda s, t: s * anp.sin(t), lambda s, t: t)


def linear(n=7, p=3):
    A = np.random.default_rng(2).standard_normal((n, p))
    return gn.CallableModel(
        lambda w: A @ w, p, jacobian=lambda w: A, second_derivative=lambda w, a, b: np.zeros(n)
    )


def saturation():
    t = np.linspace(0.2, 4, 9)
    return gn.AutogradModel(lambda w: w[0] * (1 - anp.exp(-w[1] * t)) + w[2], num_parameters=3)


def network(**options):
    X = np.random.default_rng(7).standard_normal((20, 3))
    return gn.Scaled(gn.FeedforwardNetwork(X, rng=3, **{"widths": (4,), **options}), 2.0)


def deep_network():
    return network(widths=(3, 2), outputs=2, train_output=True, activation="sin")


def rank_deficient():
    return gn.AutogradModel(
        lambda w: anp.array([w[0] + w[1], (w[0] + w[1]) ** 2, anp.sin(w[0] + w[1])]), 2
    )


ZOO = (
    Case("sphere", sphere, (1.1, 0.4)),
    Case("torus", torus, (0.7, 0.3)),
    Case("cylinder", cylinder, (0.7, 0.3)),
    Case("saddle", saddle, (0.4, -0.7)),
    Case("helicoid", helicoid, (0.8, 0.5)),
    Case("linear", linear, (0.3, -1.0, 2.0)),
    Case("saturation", saturation, (3.0, 1.2, 0.5)),
    Case("network", network),
    Case("deep network", deep_network),
)

METRICS = (
    gn.GaussNewtonMetric(),
    gn.GaussNewtonMetric(damping=0.3),
    gn.GaussNewtonMetric(damping=1.0),
    gn.LevenbergMarquardtMetric(damping=0.5),
    gn.EuclideanMetric(),
)


def targets(model, w, noise=0.3):
    """Targets at some distance from the predictions at w."""
    return model(w) + noise * np.random.default_rng(11).standard_normal(model.num_outputs)
