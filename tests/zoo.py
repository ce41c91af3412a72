"""Models of known geometry, each with a point of its domain: the rows of the contract table."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import autograd.numpy as anp
import numpy as np
import sympy as sp

import gnmanifold as gn


class Symbolic(gn.Model):
    """A model written with sympy, whose exact derivatives are compiled: fast for few parameters."""

    def __init__(self, coordinates, num_parameters):
        symbols = sp.symbols(f"w:{num_parameters}", real=True)
        f = sp.Matrix([sp.sympify(c) for c in coordinates(*symbols)])
        self.num_parameters, self.num_outputs = num_parameters, len(f)
        J = f.jacobian(symbols)
        H = [J.diff(symbol) for symbol in symbols]
        self._f, self._J, self._H = (
            sp.lambdify([symbols], expression, "numpy", cse=True)
            for expression in (list(f), J.tolist(), [matrix.tolist() for matrix in H])
        )

    def __call__(self, w):
        return np.array(self._f(w), dtype=float)

    def jacobian(self, w):
        return np.array(self._J(w), dtype=float)

    def second_derivative(self, w, a, b):
        return self.jacobian_derivative(w, a) @ b

    def jacobian_derivative(self, w, a):
        return np.tensordot(a, np.array(self._H(w), dtype=float), axes=1)

    def weighted_hessian(self, w, z, a):
        return self.jacobian_derivative(w, a).T @ z


@dataclass(frozen=True)
class Case:
    """A model, a point, and functions of the parameters that give its curvatures where known.

    `sectional` is K for all planes, `mean` the length of the trace of the second fundamental form.
    """

    name: str
    build: Callable[[], gn.Model]
    point: tuple[float, ...] | None = None
    sectional: Callable[..., float] | None = None
    mean: Callable[..., float] | None = None

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


def surface(coordinates):
    return Symbolic(coordinates, 2)


def sphere(radius=2):
    return surface(
        lambda s, t: (
            radius * sp.sin(s) * sp.cos(t),
            radius * sp.sin(s) * sp.sin(t),
            radius * sp.cos(s),
        )
    )


ELLIPSOID = (3, 2, 1)


def ellipsoid():
    a, b, c = ELLIPSOID
    return surface(
        lambda s, t: (a * sp.sin(s) * sp.cos(t), b * sp.sin(s) * sp.sin(t), c * sp.cos(s))
    )


def ellipsoid_curvature(s, t):
    """K = 1/(abc (x²/a⁴ + y²/b⁴ + z²/c⁴))²; do Carmo, Differential Geometry, 3-3."""
    a, b, c = ELLIPSOID
    x, y, z = a * np.sin(s) * np.cos(t), b * np.sin(s) * np.sin(t), c * np.cos(s)
    return 1 / (a * b * c * (x**2 / a**4 + y**2 / b**4 + z**2 / c**4)) ** 2


def torus(large=3, small=1):
    return surface(
        lambda s, t: (
            (large + small * sp.cos(s)) * sp.cos(t),
            (large + small * sp.cos(s)) * sp.sin(t),
            small * sp.sin(s),
        )
    )


def cylinder(radius=1.5):
    return surface(lambda s, t: (radius * sp.cos(s), radius * sp.sin(s), t))


def cone():
    return surface(lambda s, t: (s * sp.cos(t), s * sp.sin(t), s))


def saddle():
    return surface(lambda s, t: (s, t, s * t))


def helicoid():
    """Isometric to the catenoid in these coordinates: G = cosh²s I."""
    return surface(lambda s, t: (sp.sinh(s) * sp.cos(t), sp.sinh(s) * sp.sin(t), t))


def catenoid():
    return surface(lambda s, t: (sp.cosh(s) * sp.cos(t), sp.cosh(s) * sp.sin(t), s))


def pseudosphere():
    return surface(lambda s, t: (sp.sech(s) * sp.cos(t), sp.sech(s) * sp.sin(t), s - sp.tanh(s)))


def flat_torus():
    return surface(lambda s, t: (2 * sp.cos(s), 2 * sp.sin(s), sp.cos(t), sp.sin(t)))


def veronese():
    """The Veronese surface: the unit sphere by products of its coordinates, K = 1/3 of scale √3."""
    r3 = sp.sqrt(3)

    def coordinates(s, t):
        x, y, z = sp.sin(s) * sp.cos(t), sp.sin(s) * sp.sin(t), sp.cos(s)
        return (
            r3 * y * z,
            r3 * x * z,
            r3 * x * y,
            r3 * (x**2 - y**2) / 2,
            (x**2 + y**2 - 2 * z**2) / 2,
        )

    return surface(coordinates)


def five_sphere(radius=2):
    """The sphere S⁵ in R⁶ by stereographic projection."""

    def coordinates(*w):
        square = sum(x**2 for x in w)
        return (*(2 * radius * x / (1 + square) for x in w), radius * (square - 1) / (1 + square))

    return Symbolic(coordinates, 5)


def linear(n=7, p=3):
    A = np.random.default_rng(2).standard_normal((n, p))
    return gn.CallableModel(
        lambda w: A @ w, p, jacobian=lambda w: A, second_derivative=lambda w, a, b: np.zeros(n)
    )


def categorical():
    """Three classes by two free logits: 2√softmax is a sphere of radius 2."""
    logits = gn.CallableModel(
        lambda w: np.array([w[0], w[1], 0.0]),
        2,
        jacobian=lambda w: np.eye(3, 2),
        second_derivative=lambda w, a, b: np.zeros(3),
    )
    return gn.SquareRoot(logits, "categorical", num_classes=3)


def saturation():
    t = np.linspace(0.2, 4, 9)
    return Symbolic(lambda a, b, c: [a * (1 - sp.exp(-b * x)) + c for x in t], 3)


def autograd_saturation():
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


def _zero(*_):
    return 0.0


ZOO = (
    Case("sphere", sphere, (1.1, 0.4), lambda s, t: 1 / 4, lambda s, t: 1.0),
    Case("ellipsoid", ellipsoid, (1.1, 0.4), ellipsoid_curvature),
    Case("torus outside", torus, (0.7, 0.3), lambda s, t: np.cos(s) / (3 + np.cos(s))),
    Case("torus inside", torus, (2.5, 0.3), lambda s, t: np.cos(s) / (3 + np.cos(s))),
    Case("cylinder", cylinder, (0.7, 0.3), _zero, lambda s, t: 1 / 1.5),
    Case("cone", cone, (1.3, 0.3), _zero, lambda s, t: 1 / (np.sqrt(2) * s)),
    Case("saddle", saddle, (0.4, -0.7), lambda s, t: -1 / (1 + s**2 + t**2) ** 2),
    Case("helicoid", helicoid, (0.8, 0.5), lambda s, t: -(np.cosh(s) ** -4.0), _zero),
    Case("catenoid", catenoid, (0.8, 0.5), lambda s, t: -(np.cosh(s) ** -4.0), _zero),
    Case("pseudosphere", pseudosphere, (1.2, 0.5), lambda s, t: -1.0),
    Case("flat torus", flat_torus, (0.7, 0.3), _zero, lambda s, t: np.sqrt(1 / 4 + 1)),
    Case("Veronese", veronese, (1.1, 0.4), lambda s, t: 1 / 3),
    Case("five-sphere", five_sphere, (0.3, -0.2, 0.5, 0.1, -0.4), lambda *w: 1 / 4, lambda *w: 2.5),
    Case("linear", linear, (0.3, -1.0, 2.0), _zero, _zero),
    Case("categorical", categorical, (0.4, -0.3), lambda s, t: 1 / 4, lambda s, t: 1.0),
    Case("saturation", saturation, (3.0, 1.2, 0.5)),
    Case("network", network),
    Case("deep network", deep_network),
)
CASES = {case.name: case for case in ZOO}

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
