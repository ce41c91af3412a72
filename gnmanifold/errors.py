"""The errors that gnmanifold raises: each says what was expected, what came and what to do."""

import numpy as np


class GnmanifoldError(Exception):
    """Base class of every error that gnmanifold raises on purpose."""


class ArgumentError(GnmanifoldError, ValueError):
    """An argument has a value that the called function cannot use."""


class ShapeError(ArgumentError):
    """An array has the wrong shape; the message names both shapes."""


class NonFiniteError(ArgumentError):
    """NaN or infinity in data, in a starting point or in the output of a model."""


class ForeignPointError(ArgumentError):
    """A point was used on a manifold whose model did not make it."""


class UnderdeterminedError(ArgumentError):
    """A model has more parameters than outputs where an immersion is needed."""


class RankDeficientError(GnmanifoldError, np.linalg.LinAlgError):
    """A Jacobian lost rank where full rank is needed.

    `rank` is the numerical rank, `expected` the full one, and `singular_values` holds the
    smallest singular values of the column-scaled Jacobian, in decreasing order, or those of the
    `matrix` that is named.
    """

    def __init__(
        self,
        rank: int,
        expected: int,
        singular_values: np.ndarray,
        remedy: str,
        matrix: str = "column-scaled Jacobian",
    ) -> None:
        self.matrix = matrix
        self.rank = rank
        self.expected = expected
        self.singular_values = singular_values
        listed = ", ".join(f"{value:.2e}" for value in singular_values)
        super().__init__(
            f"expected a {matrix} of rank {expected}, its numerical rank is {rank} "
            f"(smallest singular values: {listed}); {remedy}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        remedy = str(self).partition("); ")[2]
        return type(self), (self.rank, self.expected, self.singular_values, remedy, self.matrix)


class IndefiniteError(GnmanifoldError, np.linalg.LinAlgError):
    """A Hessian that should serve as a metric is not positive definite to rounding.

    `smallest` is the number that shows it, and `which` says what number that is.
    """

    def __init__(self, smallest: float, which: str = "its smallest eigenvalue") -> None:
        self.smallest, self.which = smallest, which
        super().__init__(
            f"the Hessian is no metric here: {which} is {smallest:.3g}; start closer to a minimum, "
            "or take a Gauss-Newton metric, which is never indefinite"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.smallest, self.which)


class GeodesicError(GnmanifoldError, ArithmeticError):
    """A geodesic could not be followed as far as asked: it leaves the domain of the model."""


class LeftBallWarning(UserWarning):
    """A retraction ended outside the ball B of parameters that the manifold was made with."""


class UnstableStepWarning(UserWarning):
    """A step of Euler's method is longer than the stability limit of the flow."""


class NotAnImmersionError(GnmanifoldError, TypeError, NotImplementedError):
    """A metric was asked for a connection although no fixed immersion induces it.

    A NotImplementedError too, which is how pymanopt says that a manifold lacks a method.
    """
