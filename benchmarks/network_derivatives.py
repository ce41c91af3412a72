"""Hand-written network derivatives against autograd, and the parts of a Gauss-Newton step.

Run as `python benchmarks/network_derivatives.py`. Medians of one run; compare the ratios, since the
machine's speed varies.
"""

from collections.abc import Callable

import autograd
import autograd.numpy as anp
import numpy as np
from timing import median_ms

import gnmanifold as gn
from gnmanifold.factorization import Root, factorize


def problem(n: int, d: int, m: int) -> tuple[gn.FeedforwardNetwork, np.ndarray, Callable]:
    X = np.random.default_rng(0).standard_normal((n, d))
    net = gn.FeedforwardNetwork(X, (m,), centered=False, rng=1)
    gain, c = np.sqrt(net.c_sigma / m), net.output_weights[0]

    def same(w: np.ndarray) -> np.ndarray:
        return gain * anp.tanh(X @ anp.reshape(w, (m, d)).T) @ c

    return net, net.initial_parameters, same


def derivatives() -> None:
    n, d, m = 2000, 10, 50
    net, w, same = problem(n, d, m)
    rng = np.random.default_rng(2)
    a, z = rng.standard_normal(w.size), rng.standard_normal(n)
    reverse = autograd.jacobian(same)
    model = gn.AutogradModel(same, w.size, n)
    error = np.linalg.norm(net.jacobian(w) - reverse(w)) / np.linalg.norm(net.jacobian(w))
    print(f"n = {n}, p = {w.size}; relative difference of the Jacobians {error:.1e}\n")
    print(f"{'':26s} {'hand-written':>13s} {'autograd':>10s} {'ratio':>7s}")
    for name, ours, theirs, repeats in (
        ("autograd.jacobian", lambda: net.jacobian(w), lambda: reverse(w), 2),
        ("AutogradModel.jacobian", lambda: net.jacobian(w), lambda: model.jacobian(w), 2),
        ("jvp", lambda: net.jvp(w, a), lambda: model.jvp(w, a), 20),
        ("vjp", lambda: net.vjp(w, z), lambda: model.vjp(w, z), 20),
        (
            "second_derivative",
            lambda: net.second_derivative(w, a, a),
            lambda: model.second_derivative(w, a, a),
            20,
        ),
        (
            "weighted_hessian",
            lambda: net.weighted_hessian(w, z, a),
            lambda: model.weighted_hessian(w, z, a),
            20,
        ),
    ):
        fast, slow = median_ms(ours, 20), median_ms(theirs, repeats)
        print(f"{name:26s} {fast:10.2f} ms {slow:7.1f} ms {slow / fast:6.0f}x")


def steps() -> None:
    print("\nA Gauss-Newton step in ms: value, Jacobian, factorization and solve, and its parts")
    print(
        f"{'n':>6s} {'p':>5s} {'step':>8s} {'f':>8s} {'J':>8s} {'factor':>8s} {'NumPy loop':>11s}"
    )
    for n, d, m, repeats in ((256, 8, 18, 100), (5000, 20, 50, 5), (20000, 9, 50, 5)):
        net, w, _ = problem(n, d, m)
        y, J = np.ones(n), net.jacobian(w)

        def step(net=net, w=w, y=y) -> np.ndarray:
            return factorize(Root(net.jacobian(w))).lstsq(net(w) - y)

        def plain(net=net, w=w, y=y) -> np.ndarray:
            jacobian = net.jacobian(w)
            return np.linalg.solve(jacobian.T @ jacobian, jacobian.T @ (net(w) - y))

        row = [
            median_ms(function, repeats)
            for function in (
                step,
                lambda net=net, w=w: net(w),
                lambda net=net, w=w: net.jacobian(w),
                lambda J=J: factorize(Root(J)),
                plain,
            )
        ]
        print(f"{n:6d} {w.size:5d} " + " ".join(f"{value:8.2f}" for value in row[:4]), end=" ")
        print(f"{row[4]:11.2f}")


if __name__ == "__main__":
    derivatives()
    steps()
