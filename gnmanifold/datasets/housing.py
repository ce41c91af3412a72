"""The California Housing data of the 1990 census, shipped with the package."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import ArgumentError
from gnmanifold.validation import RandomState, as_generator, positive_int


def california_housing(
    n: int | None = None, rng: RandomState = None, standardize: bool = True
) -> tuple[Float[np.ndarray, "n 8"], Float[np.ndarray, " n"]]:
    """Features X (n, 8) and median house values y (n,) in 100 000 $ of census block groups.

    The features are median income (10 000 $), house age (years), rooms, bedrooms and persons per
    household, with population before persons, latitude and longitude (degrees), in the order of
    scikit-learn's copy. `n` rows are drawn without replacement with `rng`; all 20 640 come in
    their own order when it is None. With `standardize` every feature of the rows returned has mean
    0 and variance 1; y is left as it is.
    Raises ArgumentError when n is not between 1 and 20 640.
    R. K. Pace and R. Barry, Sparse spatial autoregressions, Stat. Probab. Lett. 33 (1997).
    """
    with (
        as_file(files(__package__) / "data" / "california_housing.npz") as path,
        np.load(path) as archive,
    ):
        raw = archive["raw"].astype(np.float64)
    if n is not None:
        if positive_int("n", n) > len(raw):
            raise ArgumentError(f"n must be at most {len(raw)}, the number of rows, got {n}")
        raw = raw[as_generator(rng).choice(len(raw), n, replace=False)]
    income, age, rooms, bedrooms, population, households, latitude, longitude, value = raw.T
    X = np.column_stack(
        [
            income / 1e4,
            age,
            rooms / households,
            bedrooms / households,
            population,
            population / households,
            latitude / 100,
            longitude / 100,
        ]
    )
    return (_standardized(X) if standardize else X), value / 1e5


def _standardized(X: np.ndarray) -> np.ndarray:
    deviation = X.std(axis=0)
    return np.asarray((X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))
