"""A deep network without matrices
===============================

Three hidden layers of 70 tanh neurons and a trained output layer have 10 430 parameters, more
than the 1000 rows of California Housing that they are fitted to. The matrix of the Gauss-Newton
metric would have 10⁸ entries. `KFAC` replaces it by Kronecker products, one pair of small factors
a layer; `HessianFree` solves with it by conjugate gradients, two passes through the network for
each product; `LevenbergMarquardt` solves exactly, in n x n arithmetic since p > n, but it does
form the n x p Jacobian. `Adam` and `LBFGS` know nothing of the metric.
"""

# %%
import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.optimizers import KFAC, LBFGS, Adam, HessianFree, LevenbergMarquardt
from gnmanifold.plotting import save_figure

# %% [markdown]
# The problem
# -----------
#
# The predictions are those of the network itself, standardised targets, and the squared error. On
# `EuclideanMetric` the manifold never asks for the Jacobian: whether a method forms it is its own
# choice, and the column J of the table says who did.


# %%
def build(rows: int) -> gn.CompositeProblem:
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(rows, rng)
    network = gn.FeedforwardNetwork(X, (70, 70, 70), train_output=True, rng=rng)
    manifold = gn.ParameterManifold(network, gn.EuclideanMetric())
    return gn.CompositeProblem(manifold, gn.SquaredError((y - y.mean()) / y.std()))


# %% [markdown]
# The runs
# --------
#
# Each method stops at a gradient of norm 10⁻⁴ or after its share of time. `KFAC` uses the exact
# factors of every point; averages over past ones, which mini-batches would need, are the option
# `averaging`. Levenberg-Marquardt goes without acceleration here, which a flat residual does not
# need.


# %%
def methods(quick: bool) -> dict[str, Any]:
    def limits(few: int, many: int) -> dict[str, Any]:
        return {
            "verbosity": 0,
            "max_iterations": few if quick else many,
            "max_time": 1000.0 if quick else 25.0,
            "min_gradient_norm": 1e-4,
        }

    return {
        "Adam, step 10⁻³": Adam(1e-3, **limits(40, 2000)),
        "LBFGS": LBFGS(**limits(40, 2000)),
        "LevenbergMarquardt": LevenbergMarquardt(acceleration=0.0, **limits(3, 100)),
        "HessianFree": HessianFree(max_inner=50, **limits(8, 100)),
        "KFAC": KFAC(**limits(25, 500)),
        "KFAC, averaged factors": KFAC(averaging=0.9, **limits(25, 500)),
        "KFAC without momentum": KFAC(momentum=False, **limits(25, 500)),
    }


# %% [markdown]
# What they reached
# -----------------
#
# With more parameters than data all of them can fit the data, at very different prices: the
# Kronecker factors cost little more than a gradient, and the exact two-dimensional model that
# combines their direction with the last step turns them into a fast method. Without that momentum
# it is a tenth as fast.


# %%
def main(arguments: list[str] | None = None) -> gn.Comparison:
    quick = quick_asked("A deep network without matrices", arguments)
    problem = build(200 if quick else 1000)
    start = problem.model.initial_parameters
    n, p = problem.model.num_outputs, problem.model.num_parameters
    print(f"n = {n}, p = {p}, cost at the start {problem.cost(start):.4g}")
    comparison = gn.compare(methods(quick), problem, start, progress=not quick)
    print(comparison)
    figure = comparison.plot(above=0.0)
    print(f"figure: {save_figure(figure, OUTPUT / 'deep_network_without_matrices.png')}")
    return comparison


if __name__ == "__main__":
    main()
