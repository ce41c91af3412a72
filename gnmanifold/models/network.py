"""Feedforward networks on a fixed set of inputs, with hand-written batched derivatives."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.models.activations import activation as find_activation
from gnmanifold.models.base import Layers, Model
from gnmanifold.validation import (
    RandomState,
    as_generator,
    as_matrix,
    frozen,
    one_of,
    positive,
    positive_int,
)


@dataclass(frozen=True)
class _Pass:
    """What one forward pass leaves behind, layer by layer: first index 0 is the input.

    `states[h]` is x^h; `weights[h]` maps x^h to the next pre-activation, the last one to the
    output; `slopes[h]` and `bends[h]` are s σ'(z) and s σ''(z) of the layer that x^h feeds.
    """

    weights: list[np.ndarray]
    states: list[np.ndarray]
    slopes: list[np.ndarray]
    bends: list[np.ndarray]


class FeedforwardNetwork(Model):
    """A fully connected network evaluated on N inputs: f(w) = φ(X; w) - φ(X; w0).

    x⁰ is a row of `X` (N, d), x^h = s_h σ(W^h x^{h-1}) with s_h = sqrt(c_σ/m_h) for
    normalization "ntk" and 1 for "none", φ = C x^H. The parameters are w = vec(W¹, …, W^H), each
    matrix row by row, followed by C if `train_output`; C starts at ±1 and the W^h are standard
    normal, drawn from `rng` in the order C, W¹, …, W^H. Several outputs of a sample are adjacent
    in f(w). `c_sigma` is "auto" for 1/E σ(Z)², or a number. With `centered=False` nothing is
    subtracted.
    Raises ArgumentError, ShapeError or NonFiniteError on bad arguments.
    S. Cayci, arXiv 2412.14031v5, (1), (2), (5) and section 2.
    """

    def __init__(
        self,
        X: ArrayLike,
        widths: int | Sequence[int] = (18,),
        activation: str = "tanh",
        *,
        outputs: int = 1,
        train_output: bool = False,
        normalization: str = "ntk",
        centered: bool = True,
        c_sigma: float | Literal["auto"] = "auto",
        rng: RandomState = 0,
    ) -> None:
        self.inputs = frozen(as_matrix("X", X))
        hidden = widths if isinstance(widths, Sequence) else (widths,)
        self.widths = tuple(positive_int("widths", width) for width in hidden)
        if not self.widths:
            raise ArgumentError("widths must name at least one hidden layer, got ()")
        self.activation = find_activation(activation)
        self.outputs = positive_int("outputs", outputs)
        self.train_output = bool(train_output)
        self.normalization = one_of("normalization", normalization, ("ntk", "none"))
        self.centered = bool(centered)
        if isinstance(c_sigma, str):
            one_of("c_sigma", c_sigma, ("auto",))
            self.c_sigma = self.activation.normalization
        else:
            self.c_sigma = positive("c_sigma", c_sigma)
        # the last forward pass, for the many products that are taken at one point
        self._last: tuple[np.ndarray, int, _Pass] | None = None
        generator = as_generator(rng)
        sizes = (self.inputs.shape[1], *self.widths)
        self._shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.output_weights = generator.choice([-1.0, 1.0], size=(self.outputs, sizes[-1]))
        layers = [generator.standard_normal(shape) for shape in self._shapes]
        if self.train_output:
            self._shapes.append(self.output_weights.shape)
            layers.append(self.output_weights)
        self.initial_parameters: np.ndarray = frozen(_flatten(layers))
        self.num_parameters = self.initial_parameters.size
        self.num_outputs = len(self.inputs) * self.outputs
        self._offset = self._predict(self.initial_parameters) if self.centered else 0.0

    def __call__(self, w: ArrayLike) -> Float[np.ndarray, " n"]:
        """Predictions f(w), the outputs of one sample adjacent."""
        return np.asarray(self._predict(w) - self._offset)

    def jacobian(self, w: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Jacobian Df(w) by one batched backward pass."""
        layers = self.layers(w)
        J, blocks = self._empty_jacobian(layers[-1][0])
        for (states, delta), block in zip(layers[: len(self.widths)], blocks, strict=False):
            np.einsum("nki,nj->nkij", delta, states, out=block)
        return J.reshape(self.num_outputs, self.num_parameters)

    def layers(self, w: ArrayLike) -> Layers:
        """Inputs of each trained layer and derivatives of the outputs by its pre-activations.

        By one backward pass; the derivatives of a trained output layer are the unit matrix.
        """
        run = self._forward(w, order=1)
        samples = len(self.inputs)
        output = np.broadcast_to(np.eye(self.outputs), (samples, self.outputs, self.outputs))
        layers = [(run.states[-1], output)] if self.train_output else []
        delta = run.weights[-1][None, :, :]
        for h in reversed(range(len(self.widths))):
            delta = delta * run.slopes[h][:, None, :]
            layers.append((run.states[h], delta))
            if h > 0:
                delta = delta @ run.weights[h]
        return layers[::-1]

    def jacobian_derivative(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Derivative of the Jacobian along a: that of its batched backward pass."""
        run = self._forward(w, order=2)
        A = self._layers("a", a)
        (dz, dx), _ = self._tangents(run, A)
        J, blocks = self._empty_jacobian(dx[-1])
        delta, change = run.weights[-1][None, :, :], A[-1][None, :, :]
        for h in reversed(range(len(self.widths))):
            change = change * run.slopes[h][:, None, :] + delta * (run.bends[h] * dz[h])[:, None, :]
            delta = delta * run.slopes[h][:, None, :]
            np.einsum("nki,nj->nkij", change, run.states[h], out=blocks[h])
            if h > 0:
                blocks[h] += delta[:, :, :, None] * dx[h][:, None, None, :]
                change = change @ run.weights[h] + delta @ A[h]
                delta = delta @ run.weights[h]
        return J.reshape(self.num_outputs, self.num_parameters)

    def jvp(self, w: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " n"]:
        """Directional derivative Df(w) a by one forward pass of tangents."""
        run = self._forward(w, order=1)
        return self._tangents(run, self._layers("a", a))[1].ravel()

    def vjp(self, w: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " p"]:
        """Pulled back covector Df(w)^T z by one backward pass."""
        run = self._forward(w, order=1)
        covector = self._outputs("z", z).reshape(-1, self.outputs)
        gradients = [covector.T @ run.states[-1]] if self.train_output else []
        delta = covector @ run.weights[-1]
        for h in reversed(range(len(self.widths))):
            delta = delta * run.slopes[h]
            gradients.append(delta.T @ run.states[h])
            if h > 0:
                delta = delta @ run.weights[h]
        return _flatten(gradients[::-1])

    def second_derivative(
        self, w: ArrayLike, a: ArrayLike, b: ArrayLike
    ) -> Float[np.ndarray, " n"]:
        """Second derivative D²f(w)[a, b] by one forward pass of second-order tangents."""
        run = self._forward(w, order=2)
        A = self._layers("a", a)
        dza, dxa = self._tangents(run, A)[0]
        B = A if b is a else self._layers("b", b)
        dzb, dxb = (dza, dxa) if b is a else self._tangents(run, B)[0]
        second = run.bends[0] * dza[0] * dzb[0]  # the first layer is linear in its weights
        for h in range(1, len(self.widths)):
            curved = _mixed(second, run.weights[h], dxa[h], B[h], dxb[h], A[h])
            second = run.bends[h] * dza[h] * dzb[h] + run.slopes[h] * curved
        return _mixed(second, run.weights[-1], dxa[-1], B[-1], dxb[-1], A[-1]).ravel()

    def weighted_hessian(self, w: ArrayLike, z: ArrayLike, a: ArrayLike) -> Float[np.ndarray, " p"]:
        """Product (Σ_i z_i ∇²f_i(w)) a: the derivative along a of the backward pass of `vjp`."""
        run = self._forward(w, order=2)
        A = self._layers("a", a)
        (dz, dx), _ = self._tangents(run, A)
        covector = self._outputs("z", z).reshape(-1, self.outputs)
        products = [covector.T @ dx[-1]] if self.train_output else []
        back, change = covector @ run.weights[-1], covector @ A[-1]
        for h in reversed(range(len(self.widths))):
            change = run.bends[h] * dz[h] * back + run.slopes[h] * change
            back = run.slopes[h] * back
            product = change.T @ run.states[h]
            products.append(product + back.T @ dx[h] if h > 0 else product)  # inputs do not move
            if h > 0:
                change = change @ run.weights[h] + back @ A[h]
                back = back @ run.weights[h]
        return _flatten(products[::-1])

    def with_inputs(self, X: ArrayLike) -> FeedforwardNetwork:
        """Return the same network, same initialisation and centre, evaluated on other inputs."""
        other = copy(self)
        other.identity = uuid.uuid4().hex
        other._last = None
        other.inputs = frozen(as_matrix("X", X))
        as_matrix("X", X, (len(other.inputs), self.inputs.shape[1]))
        other.num_outputs = len(other.inputs) * self.outputs
        other._offset = other._predict(self.initial_parameters) if self.centered else 0.0
        return other

    def _empty_jacobian(self, output_states: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Array (N, k, p) and its views for the layers, with that of a trained output filled in."""
        samples = len(self.inputs)
        J = np.empty((samples, self.outputs, self.num_parameters))
        views = [
            J[:, :, block].reshape(samples, self.outputs, *shape)
            for block, shape in zip(self._blocks(), self._shapes, strict=True)
        ]
        if self.train_output:
            views[-1][...] = 0.0
            for k in range(self.outputs):
                views[-1][:, k, k, :] = output_states
        return J, views

    def _blocks(self) -> list[slice]:
        ends = np.cumsum([rows * columns for rows, columns in self._shapes])
        starts = np.concatenate([[0], ends[:-1]])
        return [slice(int(i), int(j)) for i, j in zip(starts, ends, strict=True)]

    def _layers(self, name: str, flat: ArrayLike) -> list[np.ndarray]:
        """Split a parameter vector into its matrices; a frozen output layer has a zero tangent."""
        vector = self._parameters(name, flat)
        layers = [
            vector[block].reshape(shape)
            for block, shape in zip(self._blocks(), self._shapes, strict=True)
        ]
        if self.train_output:
            return layers
        return [*layers, self.output_weights if name == "w" else np.zeros_like(self.output_weights)]

    def _gain(self, width: int) -> float:
        return float(np.sqrt(self.c_sigma / width)) if self.normalization == "ntk" else 1.0

    def _forward(self, w: ArrayLike, order: int) -> _Pass:
        w, last = self._parameters("w", w), self._last
        if last is not None and last[1] >= order and np.array_equal(last[0], w):
            return last[2]
        w = frozen(w)  # the layers are views of it
        weights = self._layers("w", w)
        run = _Pass(weights, [self.inputs], [], [])
        for weight in weights[:-1]:
            gain = self._gain(len(weight))
            derived = self.activation.derivatives(run.states[-1] @ weight.T, order)
            parts = derived if gain == 1.0 else [gain * part for part in derived]
            for collected, part in zip((run.states, run.slopes, run.bends), parts, strict=False):
                part.flags.writeable = False
                collected.append(part)
        self._last = w, order, run
        return run

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def _predict(self, w: ArrayLike) -> np.ndarray:
        run = self._forward(w, order=0)
        return np.asarray(run.states[-1] @ run.weights[-1].T).ravel()

    def _tangents(
        self, run: _Pass, A: list[np.ndarray]
    ) -> tuple[tuple[list[np.ndarray], list[np.ndarray]], np.ndarray]:
        """Return tangents of the pre-activations, of the states, and of the output, along A."""
        pre = [run.states[0] @ A[0].T]
        states = [np.zeros_like(self.inputs), run.slopes[0] * pre[0]]
        for h in range(1, len(self.widths)):
            pre.append(states[h] @ run.weights[h].T + run.states[h] @ A[h].T)
            states.append(run.slopes[h] * pre[h])
        return (pre, states), states[-1] @ run.weights[-1].T + run.states[-1] @ A[-1].T


def _mixed(
    second: np.ndarray, W: np.ndarray, xa: np.ndarray, B: np.ndarray, xb: np.ndarray, A: np.ndarray
) -> np.ndarray:
    """Second derivative of the product W x along two directions."""
    return np.asarray(second @ W.T + xa @ B.T + xb @ A.T)


def _flatten(layers: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([layer.ravel() for layer in layers])
