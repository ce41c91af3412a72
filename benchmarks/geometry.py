"""Geodesics, logarithms, transport and curvature: what they cost, and geomstats beside them.

Run as `python benchmarks/geometry.py`. Medians of one run; compare the ratios, since the machine's
speed varies. The second table has geomstats where it is installed: release 2.8 needs NumPy < 2.4,
so better in an environment of its own.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GEOMSTATS_BACKEND", "numpy")

from collections.abc import Callable
from typing import Any

import numpy as np
from timing import median_ms

import gnmanifold as gn


def network() -> None:
    """The network of the quickstart at its start, n = 256 and p = 144."""
    rng = np.random.default_rng(0)
    X, _ = gn.datasets.california_housing(256, rng)
    net = gn.FeedforwardNetwork(X, widths=18, normalization="none", rng=rng)
    model = gn.Scaled(net, 16.0)
    manifold = gn.OutputManifold(model)
    psi = manifold.point(model.initial_parameters)
    u, v = (manifold.random_tangent_vector(psi) for _ in range(2))
    end = manifold.exp(psi, u)
    print(f"network, n = {manifold.model.num_outputs}, p = {manifold.dim}, one BLAS thread\n")
    print(f"{'':52s} {'ms':>9s} {'J':>6s} {'D²f':>7s} {'asked':>9s}")
    for name, call, repeats, asked in (
        (
            "second_fundamental_form",
            lambda: manifold.second_fundamental_form(psi, u, v),
            50,
            "2 ms",
        ),
        ("sectional_curvature", lambda: manifold.sectional_curvature(psi, u, v), 30, "10 ms"),
        ("exp, unit length", lambda: manifold.exp(psi, u), 7, "200 ms"),
        ("exp, length 10", lambda: manifold.exp(psi, 10 * u), 3, ""),
        ("geodesic, 11 points of a unit length", lambda: points(manifold, psi, u), 5, ""),
        ("parallel_transport over a unit length", lambda: transported(manifold, psi, u, v), 5, ""),
        ("ricci_curvature", lambda: manifold.ricci_curvature(psi, u, u), 5, ""),
        ("scalar_curvature", lambda: manifold.scalar_curvature(psi), 3, ""),
        ("norm of the second fundamental form, 3 starts", lambda: norm(manifold, psi), 3, ""),
        ("log over a unit length", lambda: manifold.log(psi, end), 2, ""),
    ):
        counts = manifold.evaluations
        before = counts.jacobians, counts.second_derivatives
        call()
        work = counts.jacobians - before[0], counts.second_derivatives - before[1]
        print(f"{name:52s} {median_ms(call, repeats):9.2f} {work[0]:6d} {work[1]:7d} {asked:>9s}")


def points(manifold: gn.OutputManifold, psi: Any, u: np.ndarray) -> list[Any]:
    geodesic = manifold.geodesic(psi, u)
    return [geodesic(t) for t in np.linspace(0, 1, 11)]


def transported(manifold: gn.OutputManifold, psi: Any, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return manifold.parallel_transport(psi, u, v)


def norm(manifold: gn.OutputManifold, psi: Any) -> float:
    return manifold.second_fundamental_form_norm(psi, restarts=3)


RADIUS, START, VELOCITY = 2.0, np.array([1.1, 0.4]), np.array([0.3, -0.35])


def position(w: np.ndarray) -> np.ndarray:
    s, t = w[..., 0], w[..., 1]
    return RADIUS * np.stack([np.sin(s) * np.cos(t), np.sin(s) * np.sin(t), np.cos(s)], axis=-1)


def first(w: np.ndarray) -> np.ndarray:
    s, t = w[..., 0], w[..., 1]
    by_s = np.stack([np.cos(s) * np.cos(t), np.cos(s) * np.sin(t), -np.sin(s)], axis=-1)
    by_t = np.stack([-np.sin(s) * np.sin(t), np.sin(s) * np.cos(t), 0 * s], axis=-1)
    return RADIUS * np.stack([by_s, by_t], axis=-1)


def second(w: np.ndarray) -> np.ndarray:
    s, t = w[..., 0], w[..., 1]
    ss = -position(w) / RADIUS
    st = np.stack([-np.cos(s) * np.sin(t), np.cos(s) * np.cos(t), 0 * s], axis=-1)
    tt = np.stack([-np.sin(s) * np.cos(t), -np.sin(s) * np.sin(t), 0 * s], axis=-1)
    columns = [np.stack(pair, axis=-1) for pair in ((ss, st), (st, tt))]
    return RADIUS * np.stack(columns, axis=-1)


def great_circle(u: np.ndarray, psi: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(u)
    return np.cos(length / RADIUS) * psi + RADIUS * np.sin(length / RADIUS) * u / length


def sphere() -> None:
    """A sphere of radius 2, with the same hand-written derivatives for both packages."""
    exact = great_circle(first(START) @ VELOCITY, position(START))
    length = float(np.linalg.norm(first(START) @ VELOCITY))
    print(f"\nsphere, n = 3, p = 2, a geodesic of length {length:.2f}; errors are absolute\n")
    print(f"{'':46s} {'exp ms':>9s} {'error':>8s} {'log ms':>9s} {'error':>8s} {'II ms':>8s}")
    model = gn.CallableModel(
        position,
        2,
        jacobian=first,
        second_derivative=lambda w, a, b: np.einsum("nij,i,j", second(w), a, b),
    )
    manifold = gn.ParameterManifold(model)
    end = manifold.exp(START, VELOCITY)

    def forms() -> None:
        for a, b in ((0, 0), (0, 1), (1, 1)):
            manifold.second_fundamental_form(START, np.eye(2)[a], np.eye(2)[b])

    report(
        f"gnmanifold {gn.__version__}",
        lambda: manifold.exp(START, VELOCITY),
        lambda: manifold.log(START, end),
        forms,
        exact,
    )
    try:
        theirs(exact, end)
    except ImportError as error:
        print(f"no geomstats ({error}): pip install geomstats 'numpy<2.4' in another environment")


def their_sphere() -> Any:
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean

    class Sphere(ImmersedSet):
        def __init__(self) -> None:
            super().__init__(dim=2)

        def _define_embedding_space(self) -> Euclidean:
            return Euclidean(3)

        def immersion(self, point: np.ndarray) -> np.ndarray:
            return position(point)

        def jacobian_immersion(self, base_point: np.ndarray) -> np.ndarray:
            return first(base_point)

        def hessian_immersion(self, base_point: np.ndarray) -> np.ndarray:
            return second(base_point)

        def projection(self, point: np.ndarray) -> np.ndarray:
            raise NotImplementedError

        def random_point(self, n_samples: int = 1, bound: float = 1.0) -> np.ndarray:
            raise NotImplementedError

    return Sphere()


def theirs(exact: np.ndarray, end: np.ndarray) -> None:
    import geomstats
    from geomstats.numerics.bvp import ScipySolveBVP
    from geomstats.numerics.geodesic import ExpODESolver, LogODESolver
    from geomstats.numerics.ivp import GSIVPIntegrator, ScipySolveIVP

    space = their_sphere()
    metric = space.metric
    euler, rk4 = (GSIVPIntegrator(n_steps=100, step_type=kind) for kind in ("euler", "rk4"))
    exact_ivp = ScipySolveIVP(method="DOP853", rtol=1e-12, atol=1e-12)
    for name, initial, boundary in (
        ("its defaults", euler, ScipySolveBVP()),
        ("RK4, BVP to 1e-6", rk4, ScipySolveBVP(tol=1e-6)),
        ("SciPy to 1e-12, BVP to 1e-10", exact_ivp, ScipySolveBVP(tol=1e-10, max_nodes=10**5)),
    ):
        metric.exp_solver = ExpODESolver(space, integrator=initial)
        metric.log_solver = LogODESolver(space, integrator=boundary, use_jac=False)
        report(
            f"geomstats {geomstats.__version__}, {name}",
            lambda: metric.exp(VELOCITY, START),
            lambda: metric.log(end, START),
            lambda: metric.second_fundamental_form(START),
            exact,
        )


def report(
    name: str,
    exp: Callable[[], np.ndarray],
    log: Callable[[], np.ndarray],
    form: Callable[[], object],
    exact: np.ndarray,
) -> None:
    exp_error = np.linalg.norm(position(exp()) - exact)
    log_error = np.linalg.norm(first(START) @ (log() - VELOCITY))
    times = median_ms(exp, 7), median_ms(log, 5), median_ms(form, 30)
    print(
        f"{name:46s} {times[0]:9.2f} {exp_error:8.0e} {times[1]:9.2f} {log_error:8.0e} "
        f"{times[2]:8.3f}"
    )


if __name__ == "__main__":
    network()
    sphere()
