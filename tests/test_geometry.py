"""Geodesics, logarithms, transport and curvature against closed forms and independent oracles."""

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
import sympy as sp
from zoo import CASES, METRICS, ZOO, Symbolic, network, rank_deficient, sphere, targets, torus

import gnmanifold as gn

every_case = pytest.mark.parametrize("case", ZOO, ids=str)


def directions(manifold, point, count=2, seed=0):
    rng = np.random.default_rng(seed)
    size = manifold.model.num_parameters
    local = manifold.at(point)
    velocities = rng.standard_normal((count, size))
    return [manifold.tangent(local, a / local.length(a)) for a in velocities]


def both(model, w, **options):
    for manifold in (gn.OutputManifold(model, **options), gn.ParameterManifold(model, **options)):
        yield manifold, manifold.point(w)


def close(value, expected, tolerance=1e-10):
    size = max(np.linalg.norm(expected), 1.0)
    assert np.linalg.norm(np.subtract(value, expected)) <= tolerance * size


# --- closed forms ---------------------------------------------------------------------------


@every_case
def test_curvatures_are_the_known_ones(case):
    for manifold, point in both(case.model, case.w):
        p = manifold.dim
        for seed in range(2):
            u, v = directions(manifold, point, seed=seed)
            K = manifold.sectional_curvature(point, u, v)
            if case.sectional is not None:
                expected = case.sectional(*case.w)
                assert pytest.approx(expected, rel=1e-10, abs=1e-11) == K
                ricci = manifold.ricci_curvature(point, u, u)
                assert ricci == pytest.approx((p - 1) * expected, rel=1e-10, abs=1e-11)
                scalar = manifold.scalar_curvature(point)
                assert scalar == pytest.approx(p * (p - 1) * expected, rel=1e-10, abs=1e-11)
        if case.mean is not None:
            H = manifold.mean_curvature(point)
            assert np.linalg.norm(H) == pytest.approx(case.mean(*case.w), rel=1e-10, abs=1e-11)


@every_case
def test_traces_are_sums_over_frames(case):
    """Ricci and scalar curvature from sectional curvatures of an orthonormal frame."""
    manifold = gn.ParameterManifold(case.model)
    w = manifold.point(case.w)
    p = manifold.dim
    frame = np.linalg.qr(case.model.jacobian(case.w))[1]
    E = np.linalg.inv(frame).T
    K = np.array(
        [
            [manifold.sectional_curvature(w, a, b) if i != j else 0 for j, b in enumerate(E)]
            for i, a in enumerate(E)
        ]
    )
    size = max(np.max(np.abs(K)), 1e-3)
    for i in range(min(p, 3)):
        assert manifold.ricci_curvature(w, E[i], E[i]) == pytest.approx(
            K[i].sum(), rel=1e-9, abs=1e-9 * p * size
        )
    assert manifold.scalar_curvature(w) == pytest.approx(K.sum(), rel=1e-9, abs=1e-9 * p * size)
    mixed = manifold.ricci_curvature(w, E[0] + E[-1], E[0] + E[-1])
    parts = [manifold.ricci_curvature(w, a, b) for a in E[[0, -1]] for b in E[[0, -1]]]
    assert mixed == pytest.approx(sum(parts), abs=1e-8 * p * size)


@every_case
def test_second_fundamental_form_is_the_same_on_both_manifolds(case):
    (surface, psi), (parameters, w) = both(case.model, case.w)
    (u, v), (a, b) = (directions(*pair) for pair in ((surface, psi), (parameters, w)))
    II = surface.second_fundamental_form(psi, u, v)
    close(II, parameters.second_fundamental_form(w, a, b))
    close(II, surface.second_fundamental_form(psi, v, u))
    close(surface.projection(psi, II), np.zeros_like(II), 1e-9)
    flat = case.model.second_derivative(case.w, a, b)
    close(II, flat - surface.projection(psi, flat), 1e-9)
    close(surface.christoffel(psi, u, v), surface.projection(psi, flat), 1e-9)


def test_weingarten_map_is_dual_to_the_second_fundamental_form():
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    strong = gn.StronglyConvex(gn.Softmax([0, 1], num_classes=3), 0.2)
    for metric in (
        *METRICS,
        *loss_metrics(6),
        gn.GeneralizedGaussNewtonMetric(strong, damping=0.1),
    ):
        manifold = gn.ParameterManifold(model, metric)
        a, b = directions(manifold, w)
        for seed in range(2):
            nu = manifold.second_fundamental_form(w, *directions(manifold, w, seed=seed))
            image = manifold.weingarten(w, a, nu)
            value = nu @ manifold.second_fundamental_form(w, a, b)
            assert manifold.inner_product(w, image, b) == pytest.approx(value, rel=1e-9, abs=1e-11)
    surface = gn.OutputManifold(model)
    psi, parameters = surface.point(w), gn.ParameterManifold(model)
    u, v = directions(surface, psi)
    nu = surface.second_fundamental_form(psi, u, v)
    a, b = directions(parameters, w)
    image = model.jvp(w, parameters.weingarten(w, a, nu))
    close(surface.weingarten(psi, u, nu), image, 1e-9)


def test_norm_of_the_second_fundamental_form():
    """The larger principal curvature, of spheres, a cylinder and a torus."""
    for name, expected in (
        ("sphere", 1 / 2),
        ("five-sphere", 1 / 2),
        ("cylinder", 1 / 1.5),
        ("torus outside", 1.0),
        ("flat torus", 1.0),
        ("linear", 0.0),
        ("helicoid", np.cosh(0.8) ** -2.0),  # minimal: the principal curvatures are ±κ
        ("catenoid", np.cosh(0.8) ** -2.0),
    ):
        case = CASES[name]
        for manifold, point in both(case.model, case.w):
            for seed in range(2):
                kappa = manifold.second_fundamental_form_norm(point, restarts=1, rng=seed)
                assert kappa == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_norm_of_the_second_fundamental_form_by_a_dense_search():
    """Against |II(a, a)| for the directions a of a fine grid, whose best is off by its square."""
    angles = np.linspace(0, np.pi, 2001)
    for name in ("saddle", "ellipsoid", "torus inside", "Veronese", "categorical"):
        case = CASES[name]
        manifold = gn.ParameterManifold(case.model)
        units = manifold.at(case.w).frame @ np.array([np.cos(angles), np.sin(angles)])
        norms = [np.linalg.norm(manifold.second_fundamental_form(case.w, a, a)) for a in units.T]
        kappa = manifold.second_fundamental_form_norm(case.w, restarts=3)
        assert max(norms) <= kappa * (1 + 1e-12)
        assert max(norms) == pytest.approx(kappa, rel=1e-5)


def test_scaling_of_the_outputs():
    """Curvature falls like 1/α², geodesics stay (math of Φ = α f)."""
    case = CASES["torus outside"]
    plain = gn.ParameterManifold(case.model)
    scaled = gn.ParameterManifold(gn.Scaled(case.model, 5.0))
    a, b = np.array([0.3, 0.1]), np.array([0.1, -0.4])
    w = case.w
    assert scaled.sectional_curvature(w, a, b) == pytest.approx(
        plain.sectional_curvature(w, a, b) / 25, rel=1e-12
    )
    close(scaled.exp(w, a), plain.exp(w, a), 1e-11)
    end = plain.exp(w, a)
    assert scaled.dist(w, end) == pytest.approx(5 * plain.dist(w, end), rel=1e-9)


# --- the Riemann tensor, from the metric alone ----------------------------------------------


def riemann(metric, w, a, b):
    """R(a, b, b, a) from first and second derivatives of the metric tensor, by autograd.

    ½(2 ∂a∂b G(a,b) - ∂a∂a G(b,b) - ∂b∂b G(a,a)) + |Γ(a,b)|² - <Γ(a,a), Γ(b,b)>.
    """
    G = metric(w)
    D = autograd.jacobian(metric)(w)  # D[i, j, k] = ∂_k G_ij
    D2 = autograd.jacobian(autograd.jacobian(metric))(w)
    second = lambda x, y, s, t: np.einsum("ijkl,i,j,k,l", D2, x, y, s, t)  # noqa: E731

    def first_kind(x, y):
        return 0.5 * (
            np.einsum("kji,i,j->k", D, x, y)
            + np.einsum("kij,i,j->k", D, x, y)
            - np.einsum("ijk,i,j->k", D, x, y)
        )

    bent = 0.5 * (2 * second(a, b, a, b) - second(b, b, a, a) - second(a, a, b, b))
    mixed, straight = first_kind(a, b), (first_kind(a, a), first_kind(b, b))
    return bent + mixed @ np.linalg.solve(G, mixed) - straight[0] @ np.linalg.solve(G, straight[1])


def sectional(metric, w, a, b):
    G = metric(w)
    return riemann(metric, w, a, b) / ((a @ G @ a) * (b @ G @ b) - (a @ G @ b) ** 2)


T = np.linspace(0.2, 3.0, 6)


def curve(w):
    return w[0] * anp.exp(-w[1] * T) + w[2] * T


def neuron(w):
    X = np.array([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1], [0.7, 0.6], [1.4, -0.4]])
    return 2.0 * (anp.tanh(X @ w[:2]) - anp.tanh(X @ w[2:]))


def logits(w):
    A = np.array([[1.0, 0.2, 0.0], [0.1, -0.7, 0.5], [0.3, 0.4, -0.2]])
    return anp.concatenate([A @ w, A.T @ anp.sin(w)])


PLANES = {
    "curve": (curve, np.array([1.4, 0.8, 0.3])),
    "neurons": (neuron, np.array([0.4, -0.3, 0.8, 0.5])),
    "logits": (logits, np.array([0.3, -0.5, 0.6])),
}


def output_hessian(loss):
    """The Hessian of a loss in its formula, for autograd."""
    if isinstance(loss, gn.StronglyConvex):
        inner = output_hessian(loss.loss)
        return lambda psi: inner(psi) + loss.added * np.eye(loss.num_outputs)
    if isinstance(loss, gn.SquaredError):
        return lambda psi: loss.weight * np.eye(loss.num_outputs)
    if isinstance(loss, gn.Logistic):
        return lambda psi: anp.diag(anp.exp(psi) / (1 + anp.exp(psi)) ** 2)
    if isinstance(loss, gn.Poisson):
        return lambda psi: anp.diag(anp.exp(psi))
    if isinstance(loss, gn.PseudoHuber):
        return lambda psi: anp.diag((1 + ((psi - loss.targets) / loss.delta) ** 2) ** -1.5)

    def blocks(psi):
        rows = []
        for i in range(0, loss.num_outputs, loss.num_classes):
            e = anp.exp(psi[i : i + loss.num_classes])
            pi = e / anp.sum(e)
            block = anp.diag(pi) - anp.outer(pi, pi)
            left = np.zeros((loss.num_classes, i))
            right = np.zeros((loss.num_classes, loss.num_outputs - i - loss.num_classes))
            rows.append(anp.concatenate([left, block, right], axis=1))
        return anp.concatenate(rows)

    return blocks


def losses(n):
    y = 0.3 * np.cos(np.arange(n))
    yield gn.Logistic(0.5 + y)
    yield gn.Poisson(np.arange(n))
    yield gn.PseudoHuber(y, delta=0.7)
    yield gn.StronglyConvex(gn.Logistic(0.5 + y), 0.2)
    if n % 3 == 0:
        yield gn.Softmax(np.zeros(n // 3), num_classes=3)
        yield gn.StronglyConvex(gn.Softmax(np.ones(n // 3), num_classes=3), 0.1)


def tensor(metric, function, scale=1.0):
    """The metric tensor as a function of the parameters, from its definition."""
    jacobian = autograd.jacobian(function)

    def value(w):
        J, eye = jacobian(w), np.eye(w.size)
        if isinstance(metric, gn.EuclideanMetric):
            return eye + 0 * J.T @ J
        if isinstance(metric, gn.LevenbergMarquardtMetric):
            return J.T @ J + metric.damping * eye
        rho, A = metric.damping, np.eye(len(J))
        if isinstance(metric, gn.GeneralizedGaussNewtonMetric):
            A = output_hessian(metric.loss)(function(w))
        return (1 - rho) * J.T @ A @ J + rho * scale**2 * eye

    return value


@pytest.mark.parametrize("name", PLANES)
def test_gauss_equation_is_the_riemann_tensor(name):
    function, w = PLANES[name]
    model = gn.AutogradModel(function, w.size)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, w.size))
    metrics = [metric for metric in METRICS if metric.weight > 0]
    for loss in losses(model.num_outputs):
        metrics.append(gn.GeneralizedGaussNewtonMetric(loss, damping=0.2))
        if name != "neurons" and not (name == "curve" and "Softmax" in repr(loss)):
            metrics.append(gn.GeneralizedGaussNewtonMetric(loss))
    for metric in metrics:
        manifold = gn.ParameterManifold(model, metric)
        K = manifold.sectional_curvature(w, a, b)
        expected = sectional(tensor(metric, function), w, a, b)
        assert pytest.approx(expected, rel=1e-8, abs=1e-9) == K, metric


def test_a_linear_model_under_softmax_is_a_sphere():
    """K = 1/4, all of it curvature of the ambient space, which logistic losses do not have."""
    A = np.random.default_rng(3).standard_normal((3, 2))
    model = gn.CallableModel(
        lambda w: A @ w, 2, jacobian=lambda w: A, second_derivative=lambda w, a, b: np.zeros(3)
    )
    loss = gn.Softmax([0], num_classes=3)
    w, a, b = np.array([0.3, -0.2]), np.array([1.0, 0.2]), np.array([-0.3, 1.0])
    for metric in (gn.GeneralizedGaussNewtonMetric(loss), gn.FisherMetric(loss)):
        manifold = gn.ParameterManifold(model, metric)
        assert manifold.sectional_curvature(w, a, b) == pytest.approx(0.25, rel=1e-10)
        assert manifold.scalar_curvature(w) == pytest.approx(0.5, rel=1e-10)
        assert manifold.ricci_curvature(w, a, b) == pytest.approx(
            0.25 * manifold.inner_product(w, a, b), rel=1e-10
        )
    logistic = gn.GeneralizedGaussNewtonMetric(gn.Logistic(np.ones(3)))
    flat = gn.ParameterManifold(model, logistic).sectional_curvature(w, a, b)
    assert abs(flat - 0.25) > 0.1


def test_fisher_metrics_are_those_of_the_square_roots():
    """Metric, connection, geodesics and curvature by the formula with third derivatives, and by an
    immersion into a Euclidean space that knows nothing of them."""
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 3))
    for family, loss in (
        ("bernoulli", gn.Logistic(np.ones(6))),
        ("poisson", gn.Poisson(np.ones(6))),
        ("categorical", gn.Softmax([0, 2], num_classes=3)),
    ):
        root = gn.SquareRoot(model, family, num_classes=3 if family == "categorical" else None)
        fisher = gn.ParameterManifold(model, gn.FisherMetric(loss))
        plain = gn.ParameterManifold(root)
        assert fisher.inner_product(w, a, b) == pytest.approx(
            plain.inner_product(w, a, b), rel=1e-12
        )
        close(fisher.christoffel(w, a, b), plain.christoffel(w, a, b))
        assert fisher.sectional_curvature(w, a, b) == pytest.approx(
            plain.sectional_curvature(w, a, b), rel=1e-9
        )
        assert fisher.scalar_curvature(w) == pytest.approx(plain.scalar_curvature(w), rel=1e-9)
        end = fisher.exp(w, 0.3 * a)
        close(end, plain.exp(w, 0.3 * a))
        assert fisher.dist(w, end) == pytest.approx(plain.dist(w, end), rel=1e-9)
    damped = gn.FisherMetric(gn.Poisson(np.ones(6)), damping=0.1)
    graph = gn.Graph(gn.SquareRoot(model, "poisson"), np.sqrt(0.1), np.sqrt(0.9))
    assert gn.ParameterManifold(model, damped).sectional_curvature(w, a, b) == pytest.approx(
        gn.ParameterManifold(graph).sectional_curvature(w, a, b), rel=1e-9
    )


def test_categorical_distances_are_angles():
    """The geodesic distance 2 arccos Σ sqrt(π ρ) of Rao, on both manifolds."""
    case = CASES["categorical"]
    end = np.array([-0.5, 0.6])
    for manifold, point in both(case.model, case.w):
        psi, phi = case.model(case.w) / 2, case.model(end) / 2
        expected = 2 * np.arccos(psi @ phi)
        assert manifold.dist(point, manifold.point(end)) == pytest.approx(expected, rel=1e-9)


# --- geodesics ------------------------------------------------------------------------------


@every_case
def test_speed_is_constant_and_velocities_are_transported(case):
    for manifold, point in both(case.model, case.w):
        u, v = directions(manifold, point)
        u = 0.7 * u
        geodesic = manifold.geodesic(point, u)
        for t in (-0.8, 0.0, 0.13, 0.5, 1.0, 1.4):
            speed = manifold.norm(geodesic(t), geodesic.velocity(t))
            assert speed == pytest.approx(0.7, rel=1e-10)
        end = manifold.exp(point, u)
        close(np.asarray(geodesic(1.0)), np.asarray(end), 1e-11)
        close(manifold.parallel_transport(point, u, u), geodesic.velocity(1.0))
        moved = [manifold.parallel_transport(point, u, x) for x in (u, v)]
        for i, x in enumerate((u, v)):
            for j, y in enumerate((u, v)):
                assert manifold.inner_product(end, moved[i], moved[j]) == pytest.approx(
                    manifold.inner_product(point, x, y), rel=1e-10, abs=1e-10
                )


@every_case
def test_log_inverts_exp_and_dist_is_its_length(case):
    for manifold, point in both(case.model, case.w):
        (u,) = directions(manifold, point, count=1)
        step = 0.3 * u
        end = manifold.exp(point, step)
        close(manifold.log(point, end) / 0.3, u, 1e-8)
        assert manifold.dist(point, end) == pytest.approx(0.3, rel=1e-8)
        assert manifold.dist(end, point) == pytest.approx(0.3, rel=1e-8)
        middle = manifold.pair_mean(point, end)
        close(np.asarray(middle), np.asarray(manifold.exp(point, 0.5 * step)), 1e-8)
        segment = manifold.geodesic_between(point, end)
        close(np.asarray(segment(1.0)), np.asarray(end), 1e-8)


def test_long_geodesics_of_a_sphere():
    """Great circles: the closed form of exp and log nearly to the antipode."""
    model = sphere()
    surface = gn.OutputManifold(model)
    psi = surface.point([1.1, 0.4])
    u = surface.projection(psi, np.array([0.3, -1.0, 0.5]))
    u /= np.linalg.norm(u)
    geodesic = surface.geodesic(psi, u)
    for t in (0.5, 2.0, 5.0, 4 * np.pi):
        close(np.asarray(geodesic(t)), np.cos(t / 2) * psi + 2 * np.sin(t / 2) * u, 1e-9)
    length = 0.8 * np.pi * 2
    close(surface.log(psi, surface.point(geodesic.parameters(length))) / length, u, 1e-8)


def test_shooting_integrates_the_variational_equation_once_a_step():
    """As many integrations for five parameters as for two: no column is shot on its own."""
    counts = {}
    for name in ("sphere", "five-sphere"):
        case = CASES[name]
        manifold = gn.ParameterManifold(case.model)
        w = manifold.point(case.w)
        (a,) = directions(manifold, w, count=1)
        end = manifold.exp(w, 0.5 * a)
        before = manifold.evaluations.integrations
        manifold.log(w, end)
        counts[name] = manifold.evaluations.integrations - before
    assert 2 <= counts["five-sphere"] <= counts["sphere"] + 2 <= 12


@pytest.mark.parametrize("metric", [METRICS[0], METRICS[1], METRICS[4]], ids=str)
def test_differential_of_exp_by_differences(metric):
    from gnmanifold.geometry.geodesics import Geodesic
    from gnmanifold.geometry.logarithm import exponential_differential

    case = CASES["torus outside"]
    manifold = gn.ParameterManifold(case.model, metric)
    a = np.array([0.5, 0.2])
    differential = exponential_differential(Geodesic(metric, manifold.at(case.w), a))
    h = 1e-4
    for j, e in enumerate(np.eye(2)):
        ends = [manifold.exp(case.w, a + s * h * e) for s in (1, -1)]
        close(differential[:, j], (ends[0] - ends[1]) / (2 * h), 1e-7)


def test_differential_of_exp_for_a_loss_metric_by_differences():
    from gnmanifold.geometry.geodesics import Geodesic
    from gnmanifold.geometry.logarithm import exponential_differential

    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    metric = gn.FisherMetric(gn.Softmax([0, 2], num_classes=3), damping=0.1)
    manifold = gn.ParameterManifold(model, metric)
    a = np.array([0.5, 0.2, -0.4])
    differential = exponential_differential(Geodesic(metric, manifold.at(w), a))
    h = 1e-4
    for j, e in enumerate(np.eye(3)):
        ends = [manifold.exp(w, a + s * h * e) for s in (1, -1)]
        close(differential[:, j], (ends[0] - ends[1]) / (2 * h), 1e-7)


def test_holonomy_of_a_spherical_triangle_is_its_area():
    """Round the octant triangle a vector turns by π/2, the area over r²."""
    manifold = gn.OutputManifold(sphere())
    corners = [manifold.point(w) for w in ([0.6, 0.2], [1.5, 0.1], [1.1, 1.2])]
    u = manifold.log(corners[0], corners[1])
    moved = u
    for i in range(3):
        start, end = corners[i], corners[(i + 1) % 3]
        moved = manifold.parallel_transport(start, manifold.log(start, end), moved)
    normal = np.asarray(corners[0]) / 2
    angle = np.arctan2(normal @ np.cross(u, moved), u @ moved)
    A, B, C = (np.asarray(corner) / 2 for corner in corners)
    # the area of the unit triangle; A. van Oosterom and J. Strackee, IEEE TBME 30 (1983)
    area = 2 * np.arctan2(A @ np.cross(B, C), 1 + A @ B + B @ C + C @ A)
    assert angle == pytest.approx(area, abs=1e-9)
    assert abs(area) > 0.4


def test_transport_along_a_parallel_of_a_sphere():
    """On the circle of colatitude s a vector turns by 2π cos s, along a polyline of one piece."""
    s = 1.1
    manifold = gn.OutputManifold(sphere())
    stops = [manifold.point([s, t]) for t in np.linspace(0, 2 * np.pi, 4)]
    u = manifold.tangent(manifold.at(stops[0]), np.array([1.0, 0.0]))
    moved = manifold.transport_along(stops, u)
    east = np.array([0.0, 2.0, 0.0])
    # U' = -Γ(∂t, U) turns it from south towards west, by cos s for each unit of t
    turned = 2 * np.pi * np.cos(s)
    unit = east / np.linalg.norm(east)
    expected = np.cos(turned) * u - np.sin(turned) * np.linalg.norm(u) * unit
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_ladders_approach_the_exact_transport():
    """Exact on a sphere for the pole ladder; of second order in the step for both on a torus."""
    manifold = gn.ParameterManifold(sphere())
    a, u = np.array([0.4, 0.3]), [0.2, -0.5]
    exact = manifold.parallel_transport([1.1, 0.4], a, u)
    close(manifold.parallel_transport([1.1, 0.4], a, u, method="pole", steps=2), exact, 1e-8)
    for scale, logarithm in ((1.0, "geodesic"), (1e-4, "first_order")):
        manifold = gn.ParameterManifold(gn.Scaled(torus(), scale), logarithm=logarithm)
        exact = manifold.parallel_transport([0.7, 0.3], a, u)
        for method in ("pole", "schild"):
            errors = [
                np.linalg.norm(
                    manifold.parallel_transport([0.7, 0.3], a, u, method=method, steps=steps)
                    - exact
                )
                for steps in (3, 6)
            ]
            assert 1.8 < np.log2(errors[0] / errors[1]) < 2.5
    still = manifold.parallel_transport([0.7, 0.3], [0.0, 0.0], u, method="pole")
    assert np.array_equal(still, u)


def test_projection_transport_agrees_to_second_order():
    manifold = gn.ParameterManifold(torus())
    w, a, u = np.array([0.7, 0.3]), np.array([0.4, 0.3]), np.array([0.2, -0.5])
    errors = [
        np.linalg.norm(
            manifold.transport(w, manifold.exp(w, t * a), u)
            - manifold.parallel_transport(w, t * a, u)
        )
        for t in (0.1, 0.05)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


# --- what the metrics share -----------------------------------------------------------------


def loss_metrics(n):
    y = np.full(n, 0.5)
    yield gn.GeneralizedGaussNewtonMetric(gn.Logistic(y))
    yield gn.GeneralizedGaussNewtonMetric(gn.PseudoHuber(y), damping=0.2)
    yield gn.FisherMetric(gn.Poisson(y))
    yield gn.FisherMetric(gn.Softmax([0, 1], num_classes=3), damping=0.1)


def test_riemannian_hessian_is_the_second_derivative_of_the_cost_along_geodesics():
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    loss = gn.SquaredError(targets(model, w))
    manifolds = [
        *(gn.ParameterManifold(model, metric) for metric in (*METRICS, *loss_metrics(6))),
        gn.OutputManifold(model),
    ]
    for manifold in manifolds:
        problem = gn.CompositeProblem(manifold, loss)
        point = manifold.point(w)
        (u,) = directions(manifold, point, count=1, seed=4)
        geodesic = manifold.geodesic(point, u)
        # eighth-order central differences of the cost along the exact geodesic
        h, values = 0.025, {}
        for k in range(-4, 5):
            values[k] = problem.cost(geodesic(k * h))
        weights = {0: -205 / 72, 1: 8 / 5, 2: -1 / 5, 3: 8 / 315, 4: -1 / 560}
        second = sum(c * (values[k] + (values[-k] if k else 0)) for k, c in weights.items()) / h**2
        hessian = manifold.inner_product(point, problem.riemannian_hessian(point, u), u)
        assert hessian == pytest.approx(second, rel=1e-7, abs=1e-7), manifold
        first = manifold.inner_product(point, problem.riemannian_gradient(point), u)
        weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
        slope = sum(c * (values[k] - values[-k]) for k, c in weights.items()) / h
        assert first == pytest.approx(slope, rel=1e-7, abs=1e-7), manifold


def test_hessian_matrices_are_the_operators_and_share_their_eigenvalues():
    for case in (CASES["saturation"], CASES["network"]):
        y = targets(case.model, case.w)
        for loss in (gn.SquaredError(y, weight=2.0), gn.PseudoHuber(y)):
            (surface, psi), (parameters, w) = both(case.model, case.w)
            on_surface = gn.CompositeProblem(surface, loss)
            M = surface.riemannian_hessian_matrix(psi, loss)
            (u,) = directions(surface, psi, count=1)
            close(M @ u, on_surface.riemannian_hessian(psi, u), 1e-9)
            N = parameters.riemannian_hessian_matrix(w, loss)
            problem = gn.CompositeProblem(parameters, loss)
            a, b = directions(parameters, w)
            value = parameters.inner_product(w, problem.riemannian_hessian(w, a), b)
            assert a @ N @ b == pytest.approx(value, rel=1e-9)
            values = parameters.riemannian_hessian_eigenvalues(w, loss)
            close(surface.riemannian_hessian_eigenvalues(psi, loss), values)
            spectrum = np.linalg.eigvalsh(M)
            padded = np.sort(np.concatenate([values, np.zeros(len(y) - len(values))]))
            close(spectrum, padded, 1e-9)


def test_hessian_matrix_of_a_loss_metric_is_the_operator():
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    loss = gn.Softmax([0, 1], num_classes=3)
    for metric in loss_metrics(6):
        manifold = gn.ParameterManifold(model, metric)
        problem = gn.CompositeProblem(manifold, loss)
        M = manifold.riemannian_hessian_matrix(w, loss)
        a, b = directions(manifold, w)
        image = problem.riemannian_hessian(w, a)
        assert b @ M @ a == pytest.approx(manifold.inner_product(w, image, b), rel=1e-9)
        # the connection alone gives the same from derivatives by the parameters
        z = loss.gradient(model(w))
        H = np.column_stack(
            [
                model.vjp(w, loss.hessian_product(model(w), model.jvp(w, e)))
                + model.weighted_hessian(w, z, e)
                for e in np.eye(3)
            ]
        )
        turned = manifold.euclidean_to_riemannian_hessian(w, model.vjp(w, z), H @ a, a)
        close(turned, image, 1e-9)
        assert gn.check_gradient(problem, w)


def test_loss_metrics_are_their_formulas():
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 3))
    z = rng.standard_normal(6)  # of no loss in particular: softmax's Hessian cannot represent it
    for loss in losses(6):
        for damping in (0.0, 0.3):
            metric = gn.GeneralizedGaussNewtonMetric(loss, damping)
            G = tensor(metric, function)(w)
            local = metric.at(gn.Linearization(model, w))
            assert local.inner_product(a, b) == pytest.approx(a @ G @ b, rel=1e-11)
            close(local.lower(a), G @ a)
            close(local.raise_index(c), np.linalg.solve(G, c), 1e-9)
            close(local.gradient(z), np.linalg.solve(G, model.jacobian(w).T @ z), 1e-9)
            frame = local.frame
            close(frame.T @ G @ frame, np.eye(3))
            vectors = np.column_stack([local.christoffel(a, e) for e in np.eye(3)])
            close(local.christoffels(a), vectors)


def test_fisher_information_of_a_robust_loss_is_that_of_its_location_family():
    """E g'² = E g'' under the density e^-g, the latter integrated in 30 digits."""
    for delta in (1e-3, 1e-2, 0.3, 1.0, 5.0, 1e3):
        with mpmath.workdps(30):
            d = mpmath.mpf(delta)

            def density(t, d=d):  # in r = δ sinh t
                return mpmath.exp(-2 * d**2 * mpmath.sinh(t / 2) ** 2) * mpmath.cosh(t)

            end = 2 * mpmath.asinh(8 / d)
            stops = [end * k / 16 for k in range(17)]
            curved = mpmath.quad(lambda t: density(t) / mpmath.cosh(t) ** 3, stops)
            expected = float(curved / mpmath.quad(density, stops))
        assert gn.PseudoHuber([0.0], delta).information.weight == pytest.approx(expected, rel=1e-10)
    assert gn.PseudoHuber([0.0], 1e-9).information.weight == pytest.approx(1e-18, rel=1e-12)
    with pytest.raises(gn.ArgumentError, match="no likelihood"):
        gn.FisherMetric(gn.StronglyConvex(gn.Logistic([1.0]), 0.1))


def test_geometry_does_not_depend_on_the_parameters():
    """w = T(v), nonlinear: distances, curvatures and Hessian eigenvalues stay."""
    case = CASES["saturation"]
    change = Symbolic(lambda x, y, z: (sp.exp(x) + y, y + y**3, z + x * y), 3)
    v = np.array([0.9, 0.6, 0.1])
    w = change(v)
    plain, other = (
        gn.ParameterManifold(model) for model in (case.model, gn.Composed(case.model, change))
    )
    a, b = np.random.default_rng(0).standard_normal((2, 3))
    Ta, Tb = change.jvp(v, a), change.jvp(v, b)
    assert other.inner_product(v, a, b) == pytest.approx(plain.inner_product(w, Ta, Tb), rel=1e-11)
    assert other.sectional_curvature(v, a, b) == pytest.approx(
        plain.sectional_curvature(w, Ta, Tb), rel=1e-8, abs=1e-11
    )
    for name in ("scalar_curvature", "second_fundamental_form_norm"):
        values = [getattr(*pair)(at) for pair, at in (((plain, name), w), ((other, name), v))]
        assert values[1] == pytest.approx(values[0], rel=1e-8, abs=1e-11)
    close(other.mean_curvature(v), plain.mean_curvature(w), 1e-8)
    loss = gn.SquaredError(targets(case.model, w))
    close(
        other.riemannian_hessian_eigenvalues(v, loss),
        plain.riemannian_hessian_eigenvalues(w, loss),
        1e-8,
    )
    end = v + 0.05 * a
    assert other.dist(v, end) == pytest.approx(plain.dist(w, change(end)), rel=1e-8)


def test_logarithms_do_not_mind_the_units_of_the_parameters():
    """Parameters that differ by ten orders of magnitude, as rate constants and amplitudes do."""
    case = CASES["saturation"]
    for units in ((1.0, 1e-7, 1e3), (1e6, 1e-9, 1e-9)):
        D = np.array(units)
        scaling = gn.CallableModel(
            lambda v, D=D: v / D,
            3,
            jacobian=lambda v, D=D: np.diag(1 / D),
            second_derivative=lambda v, a, b: np.zeros(3),
        )
        manifold = gn.ParameterManifold(gn.Composed(case.model, scaling))
        a = 0.3 * np.array([1.0, 0.5, -1.0])
        end = manifold.exp(case.w * D, a * D)
        close(end / D, gn.ParameterManifold(case.model).exp(case.w, a), 1e-9)
        close(manifold.log(case.w * D, end) / D, a, 1e-8)


def test_logarithms_of_differenced_models_have_their_accuracy():
    case = CASES["saturation"]
    a = np.array([0.3, 0.45, -0.2])
    for jacobian, tolerance in ((case.model.jacobian, 1e-6), (None, 1e-2)):
        model = gn.CallableModel(case.model, 3, 9, jacobian=jacobian)
        manifold = gn.ParameterManifold(model)
        end = manifold.exp(case.w, a)
        close(manifold.log(case.w, end), a, tolerance)
        assert manifold.evaluations.integrations <= 15


def test_differenced_jacobian_derivatives_take_two_jacobians():
    calls = []
    case = CASES["saturation"]

    def jacobian(w):
        calls.append(w)
        return case.model.jacobian(w)

    model = gn.CallableModel(case.model, 3, 9, jacobian=jacobian)
    a = np.array([0.3, -0.2, 0.5])
    close(model.jacobian_derivative(case.w, a), case.model.jacobian_derivative(case.w, a), 1e-8)
    assert len(calls) <= 4  # two, and two more where the step was widened


def test_a_geodesic_keeps_its_velocity():
    manifold = gn.ParameterManifold(sphere())
    a = np.array([0.1, 0.2])
    geodesic = manifold.geodesic([1.1, 0.4], a)
    expected = manifold.exp([1.1, 0.4], a)
    a *= -1
    close(geodesic(1.0), expected)


def test_sampling_a_geodesic_at_the_edge_of_its_domain_is_cheap():
    hemisphere = Symbolic(lambda x, y: (x, y, sp.sqrt(1 - x**2 - y**2)), 2)
    manifold = gn.ParameterManifold(hemisphere)
    geodesic = manifold.geodesic([0.1, 0.0], [1.0, 0.0])
    for t in np.linspace(0, 1.3, 20):
        geodesic(t)
    assert manifold.evaluations.jacobians < 12000


def test_helicoid_and_catenoid_are_isometric():
    ends = (np.array([0.8, 0.5]), np.array([0.3, 1.1]))
    distances = [
        gn.ParameterManifold(CASES[name].model).dist(*ends) for name in ("helicoid", "catenoid")
    ]
    assert distances[0] == pytest.approx(distances[1], rel=1e-9)


def test_a_network_sees_no_difference_between_columns_and_a_batch():
    model = CASES["deep network"].model
    w, a = (
        CASES["deep network"].w,
        np.random.default_rng(0).standard_normal(CASES["deep network"].w.size),
    )
    for inner in (model, gn.Graph(model, 0.3), gn.Weighted(model, np.arange(1.0, 41.0))):
        batch = inner.jacobian_derivative(w, a)
        close(batch, gn.Model.jacobian_derivative(inner, w, a), 1e-12)


def test_more_parameters_than_outputs_have_damped_geometry():
    """p > n: the graph's geometry with kernel factorizations."""
    model = network(widths=(9,))
    assert model.num_parameters > model.num_outputs
    w = model.initial_parameters
    manifold = gn.ParameterManifold(model, gn.GaussNewtonMetric(0.3))
    graph = gn.ParameterManifold(gn.Graph(model, np.sqrt(0.3) * 2.0, np.sqrt(0.7)))
    a, b = np.random.default_rng(0).standard_normal((2, w.size))
    assert manifold.sectional_curvature(w, a, b) == pytest.approx(
        graph.sectional_curvature(w, a, b), rel=1e-9
    )
    close(manifold.second_fundamental_form(w, a, b), graph.second_fundamental_form(w, a, b), 1e-9)
    end = manifold.exp(w, 0.1 * a)
    close(end, graph.exp(w, 0.1 * a), 1e-10)
    close(manifold.log(w, end), 0.1 * a, 1e-8)


# --- errors ---------------------------------------------------------------------------------


def test_parallel_directions_span_no_plane():
    manifold = gn.ParameterManifold(sphere())
    a = np.array([0.3, -0.2])
    with pytest.raises(gn.ArgumentError, match="not parallel, got an angle"):
        manifold.sectional_curvature([1.1, 0.4], a, -3 * a)
    with pytest.raises(gn.ArgumentError, match="not zero"):
        manifold.sectional_curvature([1.1, 0.4], a, 0 * a)


def test_a_failed_shooting_says_how_far_it_came(monkeypatch):
    """Across the logarithmic spike over the origin, which has no other side."""
    model = gn.AutogradModel(lambda w: anp.array([w[0], w[1], anp.log(w[0] ** 2 + w[1] ** 2)]), 2)
    manifold = gn.ParameterManifold(model)
    monkeypatch.setattr("gnmanifold.geometry.geodesics._MAX_EVALUATIONS", 300)  # or it takes long
    with pytest.raises(gn.GeodesicError, match=r"no geodesic was found beyond 4.% of the way"):
        manifold.log([1e-3, 0.0], [-1e-3, 0.0])


def test_a_degenerate_metric_is_a_typed_error():
    manifold = gn.ParameterManifold(rank_deficient())
    for call in (
        lambda: manifold.exp([0.3, 0.4], [1.0, 0.0]),
        lambda: manifold.log([0.3, 0.4], [0.5, 0.1]),
        lambda: manifold.sectional_curvature([0.3, 0.4], [1.0, 0.0], [0.0, 1.0]),
        lambda: manifold.scalar_curvature([0.3, 0.4]),
        lambda: manifold.second_fundamental_form_norm([0.3, 0.4]),
    ):
        with pytest.raises(gn.RankDeficientError, match="rank is 1"):
            call()


@pytest.mark.parametrize(
    "metric", [gn.GaussNewtonMetric(), gn.LevenbergMarquardtMetric(0.1), gn.EuclideanMetric()]
)
def test_vectors_that_are_not_finite_are_refused(metric):
    manifold = gn.ParameterManifold(sphere(), metric)
    w, a, bad = np.array([1.1, 0.4]), np.array([0.1, 0.2]), np.array([0.1, np.nan])
    for call in (
        lambda: manifold.exp(w, bad),
        lambda: manifold.geodesic(w, bad),
        lambda: manifold.log(w, bad),
        lambda: manifold.parallel_transport(w, a, bad),
        lambda: manifold.parallel_transport(w, bad, a, method="pole"),
        lambda: manifold.transport_along([w, bad], a),
        lambda: manifold.sectional_curvature(w, a, bad),
        lambda: manifold.ricci_curvature(w, bad, bad),
        lambda: manifold.second_fundamental_form(w, bad, a),
        lambda: manifold.weingarten(w, bad, a),
    ):
        with pytest.raises(gn.NonFiniteError, match=r"must be finite"):
            call()


def test_an_overflowing_loss_is_named():
    model = gn.CallableModel(
        lambda w: np.array([w[0], w[1], 1.0]), 2, jacobian=lambda w: np.eye(3, 2)
    )
    metric = gn.GeneralizedGaussNewtonMetric(gn.Poisson(np.ones(3)))
    manifold = gn.ParameterManifold(model, metric)
    with pytest.raises(gn.NonFiniteError, match="Hessian of the loss"):
        manifold.norm(np.array([800.0, 0.0]), [1.0, 0.0])
    newton = gn.ParameterManifold(model, gn.HessianMetric(gn.Poisson(np.ones(3))))
    with pytest.raises(gn.NonFiniteError, match="Hessian of the cost"):
        newton.norm(np.array([800.0, 0.0]), [1.0, 0.0])


def test_null_directions_of_a_softmax_have_length_zero():
    A = np.column_stack([np.ones(3), np.random.default_rng(0).standard_normal(3)])
    model = gn.CallableModel(lambda w: A @ w, 2, jacobian=lambda w: A)
    manifold = gn.ParameterManifold(model, gn.FisherMetric(gn.Softmax([0], num_classes=3)))
    for seed in range(10):
        w = np.random.default_rng(seed).standard_normal(2)
        assert 0 <= manifold.norm(w, [1.0, 0.0]) < 1e-15


def test_a_flat_metric_has_normal_vectors_of_the_right_size():
    model = sphere()
    for metric in (gn.EuclideanMetric(), gn.GaussNewtonMetric(1.0), gn.GaussNewtonMetric(0.5)):
        manifold = gn.ParameterManifold(model, metric)
        assert manifold.second_fundamental_form([1.1, 0.4], [1.0, 0.0], [0.0, 1.0]).shape == (5,)
        assert manifold.mean_curvature([1.1, 0.4]).shape == (5,)


def test_metrics_without_connection_say_so():
    model = CASES["saturation"].model
    w = CASES["saturation"].w
    loss = gn.SquaredError(targets(model, w, 0.01))
    a, b = np.eye(3)[:2]
    for metric in (gn.HessianMetric(loss), gn.LevenbergMarquardtMetric(0.1, "marquardt")):
        manifold = gn.ParameterManifold(model, metric)
        problem = gn.CompositeProblem(manifold, loss)
        for call in (
            lambda m=manifold: m.exp(w, a),
            lambda m=manifold: m.log(w, w + 0.1),
            lambda m=manifold: m.geodesic(w, a),
            lambda m=manifold: m.sectional_curvature(w, a, b),
            lambda m=manifold: m.parallel_transport(w, a, b),
            lambda p=problem: p.riemannian_hessian(w, a),
        ):
            with pytest.raises(gn.NotAnImmersionError, match="descent and flows"):
                call()
        assert gn.check_gradient(problem, w)


def test_hessian_metric_descends_by_newton_steps():
    model, w = CASES["saturation"].model, CASES["saturation"].w
    loss = gn.SquaredError(targets(model, w, 0.01))
    manifold = gn.ParameterManifold(model, gn.HessianMetric(loss))
    problem = gn.CompositeProblem(manifold, loss)
    z, J = loss.gradient(model(w)), model.jacobian(w)
    H = J.T @ J + np.column_stack([model.weighted_hessian(w, z, e) for e in np.eye(3)])
    newton = np.linalg.solve(H, J.T @ z)
    close(problem.riemannian_gradient(w), newton, 1e-9)
    a, b = np.random.default_rng(0).standard_normal((2, 3))
    assert manifold.inner_product(w, a, b) == pytest.approx(a @ H @ b, rel=1e-11)
    assert gn.check_manifold(manifold, w)
    point = w
    for _ in range(6):
        point = manifold.retraction(point, -problem.riemannian_gradient(point))
    assert np.linalg.norm(model.vjp(point, loss.gradient(model(point)))) < 1e-12
    far = gn.HessianMetric(gn.SquaredError(-50 * np.ones(9)))
    with pytest.raises(gn.IndefiniteError, match=r"is no metric here: .* is -"):
        gn.ParameterManifold(model, far).norm(w, a)
    fitted = rank_deficient()
    for seed in range(6):
        v = np.random.default_rng(seed).standard_normal(2)
        exact = gn.HessianMetric(gn.SquaredError(fitted(v)))
        with pytest.raises(gn.IndefiniteError, match="no metric"):
            gn.ParameterManifold(fitted, exact).euclidean_to_riemannian_gradient(v, np.ones(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, w: m.geodesic(w, [0.1, 0.1])(np.nan), "t must be a finite number"),
        (lambda m, w: m.transport_along([], [0.1, 0.1]), "at least one point"),
        (lambda m, w: m.parallel_transport(w, [1, 0], [0, 1], method="x"), "method must be one"),
        (lambda m, w: m.parallel_transport(w, [1, 0], [0, 1], method="pole", steps=0), "steps"),
        (lambda m, w: m.second_fundamental_form_norm(w, restarts=0), "restarts must be"),
        (lambda m, w: m.riemannian_hessian_matrix(w, "mse"), "loss must be a gnmanifold loss"),
        (lambda m, w: m.riemannian_hessian_matrix(w, gn.SquaredError([1.0])), "1 targets"),
        (lambda m, w: gn.GeneralizedGaussNewtonMetric("mse"), "loss must be"),
        (lambda m, w: gn.HessianMetric(3), "loss must be"),
        (
            lambda m, w: gn.ParameterManifold(m.model, gn.FisherMetric(gn.Logistic([1.0]))),
            "loss of the metric has 1 targets",
        ),
        (lambda m, w: gn.ParameterManifold(m.model, logarithm="exact"), "logarithm must be one"),
        (lambda m, w: gn.SquareRoot(m.model, "gamma"), "family must be one of"),
        (lambda m, w: gn.SquareRoot(m.model, "categorical"), "needs num_classes"),
        (lambda m, w: gn.SquareRoot(m.model, "categorical", 2), "no whole number of samples"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(gn.ArgumentError, match=message):
        call(gn.ParameterManifold(sphere()), np.array([1.1, 0.4]))


def test_loss_metrics_keep_the_contracts():
    """pymanopt's contract, and slopes of gradient, Hessian and retraction, as for the others."""
    function, w = PLANES["logits"]
    model = gn.AutogradModel(function, 3)
    loss = gn.SquaredError(targets(model, w))
    for metric in loss_metrics(6):
        manifold = gn.ParameterManifold(model, metric, retraction="second_order")
        check = gn.check_manifold(manifold, w)
        assert check, str(check)
        problem = gn.CompositeProblem(manifold, loss)
        for check in (
            gn.check_gradient(problem, w, rng=1),
            gn.check_hessian(problem, w, rng=1),
            gn.check_retraction(manifold, w, order=2),
        ):
            assert check, f"{metric}: {check}"
