"""The Hessian of a cost with its small and negative eigenvalues removed, as a metric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from gnmanifold.errors import ArgumentError, IndefiniteError, NonFiniteError, ShapeError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import check_loss
from gnmanifold.metrics.products import hessian_product
from gnmanifold.models import Model
from gnmanifold.validation import fraction, positive_int

_EPS = float(np.finfo(np.float64).eps)
_DENSE = 64  # parameters up to which all eigenvalues are computed
_FIRST_GUESS = 8  # eigenvalues that Lanczos starts with where a tolerance decides


@dataclass(frozen=True)
class FilteredHessianMetric(Metric):
    """The part G = Σ_{i<=k} λ_i u_i u_iᵀ of the Hessian ∇²(g∘f) with its largest eigenvalues.

    `rank` k says how many are kept, or `tolerance` that those above that share of the largest are;
    only positive ones are. Where the minima form a manifold of codimension k this is a proxy for
    the Gauss-Newton matrix: its pseudo-inverse comes as close to JᵀJ's as the point to the minima,
    while the inverse of the Hessian grows without bound. The spectrum comes from Lanczos' method on
    Hessian-vector products; neither n x p nor, above 64 parameters, p x p matrices are formed.
    It is degenerate for k < p and serves descent and flows.
    Raises ArgumentError for a loss that is none, or unless one of rank and tolerance is given;
    at a point without positive eigenvalue, IndefiniteError.
    N. Boumal, When the Hessian is a proxy for its Gauss-Newton approximation, 2026.
    """

    loss: Loss
    rank: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_filter(self.rank, self.tolerance)

    @property
    def immersed(self) -> bool:
        return False

    def check(self, model: Model) -> None:
        check_loss(self.loss, model)
        if self.rank is not None and self.rank > model.num_parameters:
            raise ShapeError(
                f"rank = {self.rank} eigenvalues cannot be kept of a model with "
                f"p = {model.num_parameters} parameters"
            )

    def at(self, lin: Linearization) -> FilteredHessianTensor:
        return FilteredHessianTensor(lin, self)


@dataclass(frozen=True, eq=False)
class FilteredHessianTensor(LocalMetric):
    """The filtered Hessian at a point, by eigenvalues and eigenvectors."""

    lin: Linearization
    metric: FilteredHessianMetric

    @cached_property
    def spectrum(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "p k"]]:
        """Kept eigenvalues, decreasing, and their eigenvectors in columns."""
        self.lin.counts.factorizations += 1
        p, rank = self.lin.model.num_parameters, self.metric.rank
        if p <= _DENSE:
            return self._kept(
                *np.linalg.eigh(np.column_stack([self._product(e) for e in np.eye(p)]))
            )
        count = _FIRST_GUESS if rank is None else rank
        while True:
            values, vectors = self._largest(min(count, p))
            enough = values[0] < self._floor(values) or count >= p
            if rank is not None or enough:
                return self._kept(values, vectors)
            count *= 2

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        values, vectors = self.spectrum
        return vectors @ (values * (vectors.T @ a))

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        values, vectors = self.spectrum
        return vectors @ ((vectors.T @ c).T / values).T

    def _product(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        return hessian_product(self.lin, self.metric.loss, a)

    def _largest(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Largest eigenvalues, increasing, and eigenvectors."""
        p = self.lin.model.num_parameters
        if count >= p:
            return np.linalg.eigh(np.column_stack([self._product(e) for e in np.eye(p)]))
        operator = LinearOperator((p, p), matvec=self._product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(p)  # the same result every time
        try:
            return eigsh(
                operator, k=count, which="LA", v0=start, ncv=min(p, max(2 * count + 1, 40))
            )
        except ArpackNoConvergence as error:  # a kind of ArpackError
            raise NonFiniteError(
                f"Lanczos' method found {len(error.eigenvalues)} of the {count} largest "
                "eigenvalues of the Hessian only: keep fewer"
            ) from None
        except ArpackError:  # of a Hessian that is zero
            raise IndefiniteError(0.0, "its largest eigenvalue") from None

    def _floor(self, values: np.ndarray) -> float:
        """Eigenvalue below which none is kept."""
        share = _EPS * len(values) if self.metric.tolerance is None else self.metric.tolerance
        return share * float(values[-1])

    def _kept(self, values: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not values[-1] > 0:
            raise IndefiniteError(float(values[-1]), "its largest eigenvalue")
        keep = values > self._floor(values)
        if self.metric.rank is not None:
            keep[: len(values) - self.metric.rank] = False
        return values[keep][::-1], vectors[:, keep][:, ::-1]


def check_filter(rank: int | None, tolerance: float | None) -> None:
    """Raise ArgumentError unless one of the two says which eigenvalues to keep."""
    if (rank is None) == (tolerance is None):
        raise ArgumentError("give either rank, or tolerance, of the eigenvalues to keep")
    if rank is not None:
        positive_int("rank", rank)
    if tolerance is not None:
        fraction("tolerance", tolerance)
