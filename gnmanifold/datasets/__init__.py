"""Data sets as arrays: real ones ship inside the package, synthetic ones are drawn from `rng`."""

from gnmanifold.datasets.housing import california_housing
from gnmanifold.datasets.synthetic import single_index

__all__ = ["california_housing", "single_index"]
