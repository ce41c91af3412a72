"""Random vectors and distances on any pymanopt manifold, array-valued or not."""

from typing import Any

import numpy as np
from pymanopt.manifolds import Product

IDENTITY = 1e-10  # relative, for identities that hold exactly but for rounding


def random_tangent(manifold: Any, point: Any, rng: np.random.Generator) -> Any:
    """Random unit tangent vector, from `rng` wherever tangent vectors are arrays."""
    try:
        vector = manifold.projection(point, random_ambient(manifold, point, rng))
    except NotImplementedError:
        return manifold.random_tangent_vector(point)
    return vector / manifold.norm(point, vector)


def random_ambient(manifold: Any, point: Any, rng: np.random.Generator) -> np.ndarray:
    """Random vector of the ambient space; NotImplementedError where vectors are no arrays."""
    zero = manifold.zero_vector(point)
    if not isinstance(zero, np.ndarray):
        raise NotImplementedError
    draw = np.asarray(rng.standard_normal(zero.shape))
    return draw + 1j * rng.standard_normal(zero.shape) if np.iscomplexobj(point) else draw


def distance(manifold: Any, a: Any, b: Any) -> float:
    """Distance in the ambient space, or on the manifold where points are no arrays.

    Factor by factor on a product, whose own distance is no finer than arccos, 1e-8, on a sphere.
    """
    if isinstance(manifold, Product):
        parts = zip(manifold.manifolds, a, b, strict=True)
        return float(np.linalg.norm([distance(*part) for part in parts]))
    if isinstance(a, np.ndarray):
        return float(np.linalg.norm(np.asarray(a) - np.asarray(b)))
    return float(manifold.dist(a, b))
