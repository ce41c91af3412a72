"""Products with curvature matrices of a cost g∘f that need no matrix, neither n x p nor p x p."""

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import NonFiniteError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.validation import first_nonfinite


def gauss_newton_product(lin: Linearization, loss: Loss, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """Product Jᵀ∇²g J a (p,); raises NonFiniteError where it overflows."""
    with np.errstate(all="ignore"):
        return _finite(lin.pull_covector(loss.hessian_product(lin.psi, lin.push(a))))


def hessian_product(lin: Linearization, loss: Loss, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """Product (Jᵀ∇²g J + Σ_i ∇g_i ∇²f_i) a (p,); raises NonFiniteError where it overflows."""
    bend = lin.weighted_hessian(loss.gradient(lin.psi), a)
    return _finite(gauss_newton_product(lin, loss, a) + bend)


def _finite(product: np.ndarray) -> np.ndarray:
    if first_nonfinite(product) is not None:
        raise NonFiniteError("the curvature of the cost is not finite here: start elsewhere")
    return product
