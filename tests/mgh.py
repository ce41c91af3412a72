"""Least-squares problems of Moré, Garbow and Hillstrom, ACM Trans. Math. Softw. 7 (1981) 17-41.

Each with its standard start and the sums of squares at its published minima, to the six digits that
the paper prints; zero stands for an exact solution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import autograd.numpy as np

import gnmanifold as gn


@dataclass(frozen=True)
class Problem:
    name: str
    residual: Callable
    start: tuple[float, ...]
    minima: tuple[float, ...]

    def __str__(self):
        return self.name

    @property
    def model(self):
        return gn.AutogradModel(self.residual, len(self.start))


def rosenbrock(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def freudenstein_and_roth(x):
    return np.array(
        [
            -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1],
            -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1],
        ]
    )


def powell_badly_scaled(x):
    return np.array([1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x):
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x):
    i = np.arange(1, 4)
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** i)


def jennrich_and_sampson(x):
    i = np.arange(1, 11)
    return 2 + 2 * i - (np.exp(i * x[0]) + np.exp(i * x[1]))


def helical_valley(x):
    theta = np.arctan(x[1] / x[0]) / (2 * np.pi) + np.where(x[0] < 0, 0.5, 0.0)
    return np.array([10 * (x[2] - 10 * theta), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


BARD = np.array(
    [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
)


def bard(x):
    u = np.arange(1, 16)
    v = 16 - u
    return BARD - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


GAUSSIAN = np.array([0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989])
GAUSSIAN = np.concatenate([GAUSSIAN, GAUSSIAN[-2::-1]])


def gaussian(x):
    t = (8 - np.arange(1, 16)) / 2
    return x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - GAUSSIAN


MEYER = np.array(
    [
        34780,
        28610,
        23650,
        19630,
        16370,
        13720,
        11540,
        9744,
        8261,
        7030,
        6005,
        5147,
        4427,
        3820,
        3307,
        2872.0,
    ]
)


def meyer(x):
    t = 45 + 5 * np.arange(1, 17)
    return x[0] * np.exp(x[1] / (t + x[2])) - MEYER


def gulf(x):
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return np.exp(-(np.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x):
    t = np.arange(1, 11) / 10
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x):
    return np.array(
        [
            x[0] + 10 * x[1],
            np.sqrt(5) * (x[2] - x[3]),
            (x[1] - 2 * x[2]) ** 2,
            np.sqrt(10) * (x[0] - x[3]) ** 2,
        ]
    )


def wood(x):
    return np.array(
        [
            10 * (x[1] - x[0] ** 2),
            1 - x[0],
            np.sqrt(90) * (x[3] - x[2] ** 2),
            1 - x[2],
            np.sqrt(10) * (x[1] + x[3] - 2),
            (x[1] - x[3]) / np.sqrt(10),
        ]
    )


KOWALIK = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235])
KOWALIK = np.append(KOWALIK, 0.0246)
KOWALIK_U = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def kowalik_and_osborne(x):
    u = KOWALIK_U
    return KOWALIK - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_and_dennis(x):
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


OSBORNE_1 = np.array(
    [
        0.844,
        0.908,
        0.932,
        0.936,
        0.925,
        0.908,
        0.881,
        0.85,
        0.818,
        0.784,
        0.751,
        0.718,
        0.685,
        0.658,
        0.628,
        0.603,
        0.58,
        0.558,
        0.538,
        0.522,
        0.506,
        0.49,
        0.478,
        0.467,
        0.457,
        0.448,
        0.438,
        0.431,
        0.424,
        0.42,
        0.414,
        0.411,
        0.406,
    ]
)


def osborne_1(x):
    t = 10 * np.arange(33)
    return OSBORNE_1 - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))


def biggs(x):
    t = np.arange(1, 14) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


OSBORNE_2 = np.array(
    [
        1.366,
        1.191,
        1.112,
        1.013,
        0.991,
        0.885,
        0.831,
        0.847,
        0.786,
        0.725,
        0.746,
        0.679,
        0.608,
        0.655,
        0.616,
        0.606,
        0.602,
        0.626,
        0.651,
        0.724,
        0.649,
        0.649,
        0.694,
        0.644,
        0.624,
        0.661,
        0.612,
        0.558,
        0.533,
        0.495,
        0.5,
        0.423,
        0.395,
        0.375,
        0.372,
        0.391,
        0.396,
        0.405,
        0.428,
        0.429,
        0.523,
        0.562,
        0.607,
        0.653,
        0.672,
        0.708,
        0.633,
        0.668,
        0.645,
        0.632,
        0.591,
        0.559,
        0.597,
        0.625,
        0.739,
        0.71,
        0.729,
        0.72,
        0.636,
        0.581,
        0.428,
        0.292,
        0.162,
        0.098,
        0.054,
    ]
)


def osborne_2(x):
    t = np.arange(65) / 10
    peaks = sum(x[k] * np.exp(-((t - x[k + 7]) ** 2) * x[k + 4]) for k in (1, 2, 3))
    return OSBORNE_2 - (x[0] * np.exp(-t * x[4]) + peaks)


def watson(x):
    t = np.arange(1, 30) / 29
    j = np.arange(len(x))
    powers = t[:, None] ** j
    slopes = powers[:, :-1] @ (x[1:] * j[1:])
    rest = np.array([x[0], x[1] - x[0] ** 2 - 1])
    return np.concatenate([slopes - (powers @ x) ** 2 - 1, rest])


def penalty_1(x):
    return np.append(np.sqrt(1e-5) * (x - 1), np.sum(x**2) - 0.25)


def penalty_2(x):
    n, root = len(x), np.sqrt(1e-5)
    e, i = np.exp(x / 10), np.arange(2, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    return np.concatenate(
        [
            np.array([x[0] - 0.2]),
            root * (e[1:] + e[:-1] - y),
            root * (e[1:] - np.exp(-0.1)),
            np.array([np.sum(np.arange(n, 0, -1) * x**2) - 1]),
        ]
    )


def variably_dimensioned(x):
    weighted = np.sum(np.arange(1, len(x) + 1) * (x - 1))
    return np.concatenate([x - 1, np.array([weighted, weighted**2])])


def trigonometric(x):
    n, i = len(x), np.arange(1, len(x) + 1)
    return n - np.sum(np.cos(x)) + i * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x):
    return np.append(x[:-1] + np.sum(x) - (len(x) + 1), np.prod(x) - 1)


def discrete_boundary(x):
    h = 1 / (len(x) + 1)
    t = h * np.arange(1, len(x) + 1)
    before, after = np.append(0.0, x[:-1]), np.append(x[1:], 0.0)
    return 2 * x - before - after + h**2 * (x + t + 1) ** 3 / 2


def broyden_tridiagonal(x):
    before, after = np.append(0.0, x[:-1]), np.append(x[1:], 0.0)
    return (3 - 2 * x) * x - before - 2 * after + 1


def linear_full_rank(x):
    shift = 2 / 10 * np.sum(x) + 1
    return np.append(x - shift, -shift * np.ones(10 - len(x)))


def linear_rank_one(x):
    return np.arange(1, 11) * np.sum(np.arange(1, len(x) + 1) * x) - 1


def chebyquad(x):
    n = len(x)
    before, now = np.ones(n), 2 * x - 1
    found = []
    for i in range(1, n + 1):
        exact = -1 / (i**2 - 1) if i % 2 == 0 else 0.0
        found.append(np.mean(now) - exact)
        before, now = now, 2 * (2 * x - 1) * now - before
    return np.array(found)


PROBLEMS = (
    Problem("Rosenbrock", rosenbrock, (-1.2, 1.0), (0,)),
    Problem("Freudenstein and Roth", freudenstein_and_roth, (0.5, -2.0), (0, 48.9843)),
    Problem("Powell badly scaled", powell_badly_scaled, (0.0, 1.0), (0,)),
    Problem("Brown badly scaled", brown_badly_scaled, (1.0, 1.0), (0,)),
    Problem("Beale", beale, (1.0, 1.0), (0,)),
    Problem("Jennrich and Sampson", jennrich_and_sampson, (0.3, 0.4), (124.362,)),
    Problem("helical valley", helical_valley, (-1.0, 0.0, 0.0), (0,)),
    Problem("Bard", bard, (1.0, 1.0, 1.0), (8.21488e-3, 17.4287)),
    Problem("Gaussian", gaussian, (0.4, 1.0, 0.0), (1.12793e-8,)),
    Problem("Meyer", meyer, (0.02, 4000.0, 250.0), (87.9459,)),
    Problem("Gulf", gulf, (5.0, 2.5, 0.15), (0,)),
    Problem("Box", box, (0.0, 10.0, 20.0), (0,)),
    Problem("Powell singular", powell_singular, (3.0, -1.0, 0.0, 1.0), (0,)),
    Problem("Wood", wood, (-3.0, -1.0, -3.0, -1.0), (0,)),
    Problem(
        "Kowalik and Osborne",
        kowalik_and_osborne,
        (0.25, 0.39, 0.415, 0.39),
        (3.07506e-4, 1.02734e-3),
    ),
    Problem("Brown and Dennis", brown_and_dennis, (25.0, 5.0, -5.0, -1.0), (85822.2,)),
    Problem("Osborne 1", osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.46489e-5,)),
    Problem("Biggs", biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0, 5.65565e-3)),
    Problem(
        "Osborne 2",
        osborne_2,
        (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
        (4.01377e-2,),
    ),
    Problem("Watson 6", watson, (0.0,) * 6, (2.28767e-3,)),
    Problem("Watson 9", watson, (0.0,) * 9, (1.39976e-6,)),
    Problem("penalty I", penalty_1, (1.0, 2.0, 3.0, 4.0), (2.24998e-5,)),
    Problem("penalty II", penalty_2, (0.5,) * 4, (9.37629e-6,)),
    Problem(
        "variably dimensioned", variably_dimensioned, tuple(1 - i / 6 for i in range(1, 7)), (0,)
    ),
    Problem("trigonometric", trigonometric, (0.1,) * 10, (0, 2.79506e-5)),
    Problem("Brown almost linear", brown_almost_linear, (0.5,) * 5, (0, 1)),
    Problem(
        "discrete boundary value",
        discrete_boundary,
        tuple(i / 6 * (i / 6 - 1) for i in range(1, 6)),
        (0,),
    ),
    Problem("Broyden tridiagonal", broyden_tridiagonal, (-1.0,) * 6, (0,)),
    Problem("linear, full rank", linear_full_rank, (1.0,) * 5, (5,)),
    Problem("linear, rank one", linear_rank_one, (1.0,) * 5, (90 / 42,)),
    Problem("Chebyquad", chebyquad, tuple(i / 9 for i in range(1, 9)), (3.51687e-3,)),
)
