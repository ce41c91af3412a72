"""Activation functions of networks with two derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.integrate import quad
from scipy.special import erf, expit

from gnmanifold.validation import one_of

Derivatives = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Activation:
    """A scalar function σ applied entry by entry.

    `derivatives(z, order)` returns (σ(z), σ'(z), σ''(z)) up to that order, sharing their parts.
    """

    name: str
    derivatives: Callable[[np.ndarray, int], Derivatives]

    @cached_property
    def normalization(self) -> float:
        """The constant c_σ = 1/E σ(Z)² for standard normal Z that keeps layer norms near one."""
        value, _ = quad(self._weighted_square, -np.inf, np.inf, epsabs=0, epsrel=1e-12, limit=400)
        return 1 / value

    def _weighted_square(self, z: float) -> float:
        (value,) = self.derivatives(np.array(z), 0)
        return float(value) ** 2 * float(_normal_density(np.array(z)))


def activation(name: str) -> Activation:
    """Return the activation of that name; an unknown name is an ArgumentError listing all."""
    return _ACTIVATIONS[one_of("activation", name, tuple(_ACTIVATIONS))]


def _normal_density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def _tanh(z: np.ndarray, order: int) -> Derivatives:
    value = np.tanh(z)
    if order == 0:
        return (value,)
    first = 1 - value * value
    return (value, first) if order == 1 else (value, first, -2 * value * first)


def _sigmoid(z: np.ndarray, order: int) -> Derivatives:
    value = expit(z)
    if order == 0:
        return (value,)
    first = value * expit(-z)
    return (value, first) if order == 1 else (value, first, first * (1 - 2 * value))


def _softplus(z: np.ndarray, order: int) -> Derivatives:
    value = np.logaddexp(0, z)
    return (value,) if order == 0 else (value, *_sigmoid(z, order - 1))


def _sin(z: np.ndarray, order: int) -> Derivatives:
    value = np.sin(z)
    return (value, np.cos(z), -value)[: order + 1]


def _gelu(z: np.ndarray, order: int) -> Derivatives:
    cumulative = 0.5 * (1 + erf(z / np.sqrt(2)))
    if order == 0:
        return (z * cumulative,)
    density = _normal_density(z)
    first = cumulative + z * density
    return (z * cumulative, first, density * (2 - z * z))[: order + 1]


def _identity(z: np.ndarray, order: int) -> Derivatives:
    return (z, np.ones_like(z), np.zeros_like(z))[: order + 1]


_ACTIVATIONS = {
    function.name: function
    for function in (
        Activation("tanh", _tanh),
        Activation("sigmoid", _sigmoid),
        Activation("softplus", _softplus),
        Activation("sin", _sin),
        Activation("gelu", _gelu),
        Activation("identity", _identity),
    )
}
