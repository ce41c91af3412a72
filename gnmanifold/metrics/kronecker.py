"""The Kronecker-factored approximation of the Fisher metric of a network, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from gnmanifold.errors import NonFiniteError, RankDeficientError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import check_loss
from gnmanifold.models import Model
from gnmanifold.validation import first_nonfinite, nonnegative, one_of

SPLITS = ("factored", "exact")
_SINGULAR = 1e-14  # smallest over largest eigenvalue of a block that cannot be solved with


@dataclass(frozen=True)
class KroneckerFactoredMetric(Metric):
    """The K-FAC metric: for each layer N · mean(δᵀAδ) ⊗ mean(x xᵀ) + λ I, λ = `damping`.

    The weights of a layer are vec(W), row by row; x (m_in,) are its inputs and δ (k, m_out) the
    derivatives of the k outputs of a sample by its pre-activations, A (k, k) is the Fisher
    information of the loss, the means are over the N samples. It equals the diagonal blocks of the
    Fisher metric JᵀF J where x or δ and A do not change with the sample: for one sample, or for a
    linear network with squared error, and then the whole of it for a single trained layer.
    `split` "factored" damps the two factors with π sqrt(λ/N) and sqrt(λ/N)/π, π² the ratio of
    their mean eigenvalues, as Martens and Grosse do; "exact" adds λ I to their product.
    It serves descent and flows of FeedforwardNetwork, Scaled, Centered and Weighted too.
    Raises ArgumentError for other models and settings out of range, RankDeficientError where a
    block is singular without damping.
    J. Martens and R. Grosse, arXiv 1503.05671.
    """

    loss: Loss
    damping: float = 0.0
    split: str = "factored"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        nonnegative("damping", self.damping)
        one_of("split", self.split, SPLITS)
        self.loss.information  # noqa: B018 - raises for what is no likelihood

    @property
    def immersed(self) -> bool:
        return False

    def check(self, model: Model) -> None:
        check_loss(self.loss, model)
        if model.initial_parameters is None:
            model.layers(np.zeros(model.num_parameters))  # raises for what is no network
        else:
            model.layers(model.initial_parameters)

    def at(self, lin: Linearization) -> KroneckerTensor:
        blocks = kronecker_blocks(lin, self.loss.information)
        return KroneckerTensor(lin, tuple(blocks), self.damping, self.split)


@dataclass(frozen=True, eq=False)
class KroneckerBlock:
    """One layer: the block N · (outputs ⊗ inputs), with both factors symmetric."""

    samples: int
    inputs: Float[np.ndarray, "m_in m_in"]
    outputs: Float[np.ndarray, "m_out m_out"]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the weights of the layer."""
        return len(self.outputs), len(self.inputs)

    def mixed(self, old: KroneckerBlock, share: float) -> KroneckerBlock:
        """Block whose factors are averages, with that share of the old ones."""
        return KroneckerBlock(
            self.samples,
            share * old.inputs + (1 - share) * self.inputs,
            share * old.outputs + (1 - share) * self.outputs,
        )

    def damped(self, damping: float) -> KroneckerBlock:
        """Block whose factors carry the damping of their product, split by their mean sizes."""
        if damping == 0:
            return self
        sizes = [max(float(np.mean(np.diag(each))), 0.0) for each in (self.inputs, self.outputs)]
        pi = np.sqrt(sizes[0] / sizes[1]) if min(sizes) > 0 else 1.0
        root = np.sqrt(damping / self.samples)
        rows, columns = self.shape
        inputs = self.inputs + pi * root * np.eye(columns)
        return KroneckerBlock(self.samples, inputs, self.outputs + root / pi * np.eye(rows))

    def product(self, W: np.ndarray) -> np.ndarray:
        """Product with weights W (m_out, m_in)."""
        return self.samples * self.outputs @ W @ self.inputs


Solver = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class KroneckerTensor(LocalMetric):
    """A block-diagonal metric tensor of Kronecker products, damped."""

    lin: Linearization
    blocks: Sequence[KroneckerBlock]
    damping: float
    split: str = "factored"

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        if self.split == "exact":
            return self._layerwise([block.product for block in self.blocks], a) + self.damping * a
        return self._layerwise([block.damped(self.damping).product for block in self.blocks], a)

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        if c.ndim == 1:
            return self._layerwise(self._solvers, c)
        return np.column_stack([self._layerwise(self._solvers, column) for column in c.T])

    @cached_property
    def _solvers(self) -> list[Solver]:
        self.lin.counts.factorizations += len(self.blocks)
        make = _exact_solver if self.split == "exact" else _factored_solver
        return [make(block, self.damping) for block in self.blocks]

    def _layerwise(self, functions: Sequence[Solver], a: np.ndarray) -> np.ndarray:
        ends = np.cumsum([block.shape[0] * block.shape[1] for block in self.blocks])
        pieces = np.split(a, ends[:-1])
        results = [
            function(piece.reshape(block.shape)).ravel()
            for function, block, piece in zip(functions, self.blocks, pieces, strict=True)
        ]
        return np.concatenate(results)


def kronecker_blocks(lin: Linearization, loss: Loss) -> list[KroneckerBlock]:
    """Blocks of the layers of a network, with the Hessian of the loss between the outputs."""
    blocks = []
    lin.counts.products += 1
    with np.errstate(all="ignore"):
        for inputs, deltas in lin.model.layers(lin.w):
            samples, outputs, width = deltas.shape
            rooted = loss.hessian_root(lin.psi, deltas.reshape(samples * outputs, width))
            factors = inputs.T @ inputs / samples, rooted.T @ rooted / samples
            if any(first_nonfinite(factor) is not None for factor in factors):
                raise NonFiniteError("the Kronecker factors are not finite here: start elsewhere")
            blocks.append(KroneckerBlock(samples, *factors))
    return blocks


def _factored_solver(block: KroneckerBlock, damping: float) -> Solver:
    damped = block.damped(damping)
    left, right = _cholesky(damped.outputs), _cholesky(damped.inputs)
    return lambda C: cho_solve(right, cho_solve(left, C).T).T / block.samples


def _exact_solver(block: KroneckerBlock, damping: float) -> Solver:
    (g, U), (x, V) = eigh(block.outputs), eigh(block.inputs)
    values = block.samples * np.outer(np.maximum(g, 0), np.maximum(x, 0)) + damping
    if np.min(values) <= _SINGULAR * np.max(values):
        raise _deficient(values.ravel())
    return lambda C: U @ ((U.T @ C @ V) / values) @ V.T


def _cholesky(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    try:
        factor = cho_factor(matrix, lower=True)
    except LinAlgError:
        raise _deficient(np.linalg.eigvalsh(matrix)) from None
    diagonal = np.diag(factor[0])
    if np.min(diagonal) ** 2 <= _SINGULAR * np.max(diagonal) ** 2:
        raise _deficient(np.linalg.eigvalsh(matrix))
    return factor


def _deficient(values: np.ndarray) -> RankDeficientError:
    values = np.sort(np.abs(values))[::-1]
    rank = int(np.sum(values > _SINGULAR * values[0]))
    return RankDeficientError(
        rank, len(values), values[-3:], "take a damping > 0", "Kronecker factor of a layer"
    )
