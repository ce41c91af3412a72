"""Central differences with steps that follow the parameters and the noise of the function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

EPS = float(np.finfo(np.float64).eps)


def central_difference(
    function: Callable[[np.ndarray], np.ndarray],
    w: Float[np.ndarray, " p"],
    direction: Float[np.ndarray, " p"],
    noise: float = EPS,
) -> np.ndarray:
    """Derivative of a vector-valued function at w along a direction, error about noise^(2/3).

    The first step changes the parameter that it affects most by noise^(1/3) relative: an absolute
    step destroys problems with parameters near 1e-7. It is widened where the function changes too
    little for its noise, up to noise^(1/3) max(|w|, 1), which is where a parameter that is zero
    or tiny by accident ends.
    Nocedal and Wright, Numerical Optimization, section 8.1.
    """
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        return np.zeros_like(function(w))
    relative = noise ** (1 / 3)
    nonzero = w != 0
    affected = float(np.max(np.abs(direction[nonzero] / w[nonzero]), initial=0.0))
    limit = relative * max(float(np.linalg.norm(w)), 1.0) / length
    step = min(relative / affected, limit) if affected > 0 else limit
    while True:
        plus, minus = function(w + step * direction), function(w - step * direction)
        wider = min(step * _widening(plus, minus, step * affected, noise), limit)
        if wider < 2 * step:
            return np.asarray((plus - minus) / (2 * step))
        step = wider


def _widening(plus: np.ndarray, minus: np.ndarray, relative: float, noise: float) -> float:
    """Factor on the step that balances truncation, relative², with rounding, noise over change."""
    size = float(np.linalg.norm(plus) + np.linalg.norm(minus))
    change = float(np.linalg.norm(plus - minus)) / size if size > 0 else 0.0
    if not np.isfinite(change):
        return 1.0
    if change <= 10 * noise:
        return 1e3
    return float((noise / (2 * change)) ** (1 / 3) / relative ** (2 / 3)) if relative else 1.0
