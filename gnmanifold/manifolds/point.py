"""Points of the prediction surface: predictions that remember their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from gnmanifold.models.autograd import register_array_subclass


class OutputPoint(np.ndarray):
    """Predictions ψ = f(w), shape (n,), with their `parameters` w, shape (p,).

    Arithmetic, indexing and reductions give plain arrays and scalars, since their results are no
    points of the surface; copies and pickles stay points. `origin` names the model that made it.
    """

    parameters: np.ndarray | None
    origin: str | None

    def __new__(cls, psi: np.ndarray, parameters: np.ndarray, origin: str) -> OutputPoint:
        point = np.array(psi, dtype=np.float64).view(cls)
        point.parameters = np.array(parameters, dtype=np.float64)
        point.parameters.flags.writeable = False
        point.origin = origin
        point.flags.writeable = False
        return point

    def __array_finalize__(self, source: Any) -> None:
        # Views that are no copies (slices, reshapes) lose the parameters, and with them the
        # right to be used as points; copies get them back below.
        self.parameters = None
        self.origin = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(_plain, inputs), **_plain_tree(kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*_plain_tree(args), **_plain_tree(kwargs))

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __copy__(self) -> OutputPoint:
        if self.parameters is None or self.origin is None:
            return super().copy()
        return OutputPoint(np.asarray(self), self.parameters, self.origin)

    def __deepcopy__(self, memo: Any) -> OutputPoint:
        return self.__copy__()

    def copy(self, order: Any = "C") -> OutputPoint:
        """Return a copy that is a point too."""
        return self.__copy__()

    def __reduce__(self) -> Any:
        if self.parameters is None or self.origin is None:
            return np.asarray(self).__reduce__()
        return OutputPoint, (np.asarray(self), self.parameters, self.origin)

    def __repr__(self) -> str:
        return f"OutputPoint({np.array2string(np.asarray(self), threshold=6)})"


def _plain(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, OutputPoint) else value


def _plain_tree(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_plain_tree(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain_tree(item) for key, item in value.items()}
    return _plain(value)


register_array_subclass(OutputPoint)
