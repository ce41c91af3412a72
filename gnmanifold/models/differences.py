"""Central differences with steps that follow the parameters and the noise of the function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

EPS = float(np.finfo(np.float64).eps)
_SMALLEST = 1e-250  # of a parameter: the step must not underflow


def central_difference(
    function: Callable[[np.ndarray], np.ndarray],
    w: Float[np.ndarray, " p"],
    direction: Float[np.ndarray, " p"],
    noise: float = EPS,
) -> np.ndarray:
    """Derivative of a vector-valued function at w along a direction, error about noise^(2/3).

    The first step changes the parameter that it affects most by noise^(1/3), relative to that
    parameter (absolute where it is zero): an absolute step destroys problems with parameters near
    1e-7. It is widened where the function changes too little for its noise, which is where a
    parameter that is tiny by accident ends. Not finite where w or the direction is not.
    Nocedal and Wright, Numerical Optimization, section 8.1.
    """
    length = float(np.max(np.abs(direction), initial=0.0))
    if length == 0.0 or not (np.isfinite(length) and np.all(np.isfinite(w))):
        return 0.0 * length * function(w)
    unit = direction / length
    moved = unit != 0
    size = np.maximum(np.abs(w[moved]), _SMALLEST)
    size[w[moved] == 0] = 1.0
    affected = float(np.max(np.abs(unit[moved]) / size))
    relative = noise ** (1 / 3)
    # Another parameter's size must not set the step: only those that move count.
    limit = relative * max(float(np.max(np.abs(w[moved]))) if np.all(w[moved]) else 1.0, 1.0)
    step = min(relative / affected, limit)
    while True:
        plus, minus = function(w + step * unit), function(w - step * unit)
        wider = min(step * _widening(plus, minus, step * affected, noise), limit)
        if not wider >= 2 * step:
            return np.asarray((plus - minus) * (length / (2 * step)))
        step = wider


def _widening(plus: np.ndarray, minus: np.ndarray, relative: float, noise: float) -> float:
    """Factor on the step that balances truncation, relative², with rounding, noise over change."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(np.linalg.norm(plus) + np.linalg.norm(minus))
        change = float(np.linalg.norm(plus - minus)) / size if size > 0 else 0.0
    if not np.isfinite(change):
        return 1.0
    if change <= 10 * noise:
        return 1e3
    return float((noise / (2 * change)) ** (1 / 3) / relative ** (2 / 3)) if relative else 1.0
