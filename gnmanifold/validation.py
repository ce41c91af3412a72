"""Checks of arguments: clean float64 arrays, or an error that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, NonFiniteError, ShapeError

RandomState = int | np.random.Generator | None


def as_vector(
    name: str, value: ArrayLike, length: int | None = None, finite: bool = True
) -> np.ndarray:
    """Return `value` as a float64 array of shape (length,), or raise an error naming it."""
    array = _as_float(name, value)
    if array.ndim != 1 or (length is not None and array.shape[0] != length):
        wanted = "(n,)" if length is None else f"({length},)"
        flat = array.ndim > 1 and max(array.shape, default=0) == array.size
        remedy = ": flatten it with ravel()" if flat else ""
        raise ShapeError(f"{name} must have shape {wanted}, got {array.shape}{remedy}")
    if array.size == 0:
        raise ShapeError(f"{name} must not be empty, got shape {array.shape}")
    return _finite(name, array) if finite else array


def as_matrix(
    name: str, value: ArrayLike, shape: tuple[int, int] | None = None, finite: bool = True
) -> np.ndarray:
    """Return `value` as a float64 array with two axes (of `shape`), or raise an error naming it."""
    array = _as_float(name, value)
    if array.ndim != 2 or (shape is not None and array.shape != shape):
        wanted = "two axes" if shape is None else f"shape {shape}"
        raise ShapeError(f"{name} must have {wanted}, got shape {array.shape}")
    if array.size == 0:
        raise ShapeError(f"{name} must not be empty, got shape {array.shape}")
    return _finite(name, array) if finite else array


def finite(name: str, value: float) -> float:
    """Return `value` if it is a finite number."""
    return _number(name, value, "a finite number", lambda x: bool(np.isfinite(x)))


def positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above zero."""
    return _number(name, value, "a finite number > 0", lambda x: 0 < x < np.inf)


def nonnegative(name: str, value: float) -> float:
    """Return `value` if it is a finite number not below zero."""
    return _number(name, value, "a finite number >= 0", lambda x: 0 <= x < np.inf)


def limit(name: str, value: float) -> float:
    """Return `value` if it is a number above zero, infinity for no limit included."""
    return _number(name, value, "a number > 0", lambda x: x > 0)


def fraction(name: str, value: float) -> float:
    """Return `value` if it lies in (0, 1)."""
    return _number(name, value, "a number in (0, 1)", lambda x: 0 < x < 1)


def below_one(name: str, value: float) -> float:
    """Return `value` if it lies in [0, 1)."""
    return _number(name, value, "a number in [0, 1)", lambda x: 0 <= x < 1)


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a copy that cannot be changed, so that nobody else's array is kept."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def unit_interval(name: str, value: float) -> float:
    """Return `value` if it lies in [0, 1]."""
    return _number(name, value, "a number in [0, 1]", lambda x: 0 <= x <= 1)


def positive_int(name: str, value: Any) -> int:
    """Return `value` if it is an integer above zero."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the names in `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ArgumentError(f"{name} must be one of {listed}, got {value!r}")
    return str(value)


def as_generator(rng: RandomState) -> np.random.Generator:
    """Return the Generator that `rng` is, or a new one seeded with it."""
    try:
        return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"rng must be a seed or a NumPy Generator: {error}") from None


def first_nonfinite(array: np.ndarray) -> int | None:
    """Return the flat index of the first NaN or infinity, or None."""
    # The sum is finite unless an entry is not (or it overflows): one pass, no temporary.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return None
    bad = np.flatnonzero(~np.isfinite(array))
    return int(bad[0]) if bad.size else None


def _as_float(name: str, value: ArrayLike) -> np.ndarray:
    if np.ma.is_masked(value):
        raise ArgumentError(f"{name} has masked entries: remove or fill them")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be an array of real numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name} must be an array of real numbers, got {array.dtype} entries")
    return array.astype(np.float64, copy=False)


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    index = first_nonfinite(array)
    if index is None:
        return array
    where = np.unravel_index(index, array.shape)
    place = ", ".join(str(int(i)) for i in where)
    raise NonFiniteError(
        f"{name} must be finite, but {name}[{place}] is {array[where]}: "
        "remove or impute such entries"
    )


def _number(name: str, value: Any, wanted: str, holds: Callable[[float], bool]) -> float:
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not holds(float(value)):
        raise ArgumentError(f"{name} must be {wanted}, got {value!r}")
    return float(value)
