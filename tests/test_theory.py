"""Constants, thresholds and certificates of the theorems; what earlier versions claimed wrongly."""

import json
from dataclasses import replace
from itertools import product

import autograd.numpy as anp
import numpy as np
import pytest
from zoo import deep_network, linear

import gnmanifold as gn
from gnmanifold import theory
from gnmanifold.damping import (
    Adaptive,
    Constant,
    CurvatureAware,
    DampingSchedule,
    DataBased,
    Switch,
)
from gnmanifold.flows import integrate
from gnmanifold.geometry.hessian import hessian_form
from gnmanifold.geometry.second_form import second_fundamental_form
from gnmanifold.models.activations import activation
from gnmanifold.theory.estimate import bend_norm
from gnmanifold.theory.kernels import _quadrature
from gnmanifold.theory.rates import damping_bands

ACTIVATIONS = ("tanh", "sigmoid", "softplus", "sin", "gelu", "identity")


def posed(model, loss, metric=None):
    metric = gn.GaussNewtonMetric(0.5) if metric is None else metric
    return gn.CompositeProblem(gn.ParameterManifold(model, metric), loss)


def wide(alpha=1.0, n=5, width=200, **options):
    """A network with p > n, its targets and its start."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 5))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    net = gn.FeedforwardNetwork(X, width, rng=rng, **options)
    return gn.Scaled(net, alpha), rng.standard_normal(net.num_outputs), net.initial_parameters


def narrow(alpha=1.0):
    """A network with p = 6 < n = 12 parameters, its targets and its start."""
    rng = np.random.default_rng(3)
    net = gn.FeedforwardNetwork(rng.standard_normal((12, 3)), 2, rng=rng)
    return gn.Scaled(net, alpha), rng.standard_normal(12), net.initial_parameters


def logistic(y, nu=0.2):
    return gn.StronglyConvex(gn.Logistic(1.0 * (y > 0)), nu)


def scaled_to_threshold(make, certify, factor):
    """Problem with α at a multiple of the threshold, which does not depend on α for centred f."""
    model, y, w = make()
    threshold = certify(posed_at(model, y, 1.0), w).threshold
    return posed_at(model, y, factor * threshold), w


def posed_at(model, y, alpha):
    metric = gn.GaussNewtonMetric(0.5 if model.num_parameters > model.num_outputs else 0.0)
    return posed(gn.Scaled(model.model, alpha), gn.SquaredError(y), metric)


# constants


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_constants_are_suprema(name):
    """Against a dense grid: never exceeded, and reached up to the grid's spacing."""
    z = np.concatenate([np.linspace(-8, 8, 160_001), [-60.0, 60.0, np.pi / 2]])
    values = activation(name).derivatives(z, 2)
    for derivative, bound in zip(values, theory.activation_constants(name), strict=True):
        largest = np.max(np.abs(derivative))
        if np.isinf(bound):
            assert largest > 50
        else:
            assert bound * (1 - 1e-8) <= largest <= bound * (1 + 1e-14)
    with pytest.raises(gn.ArgumentError, match="activation must be one of"):
        theory.activation_constants("relu")


NETWORKS = [
    {},
    {"normalization": "none"},
    {"activation": "sin", "c_sigma": 1.0},
    {"outputs": 3},
    {"train_output": True},
    {"train_output": True, "outputs": 2, "normalization": "none"},
]


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_lipschitz_constants_bound_what_is_found(options):
    """Quotients of Jacobians and values, and the best of alternating SVDs, in the ball."""
    rng = np.random.default_rng(1)
    net = gn.FeedforwardNetwork(rng.standard_normal((6, 3)), 4, rng=rng, **options)
    weights = rng.uniform(0.5, 1.5, net.num_outputs)
    model = gn.Scaled(gn.Weighted(net, weights), 3.0)
    w0, radius = net.initial_parameters, 0.7
    L = theory.jacobian_lipschitz(model, w0, radius)
    lip = theory.output_lipschitz(model, w0, radius)
    estimate = theory.jacobian_lipschitz_estimate(model, w0, radius, safety=1.0)
    assert L.source == lip.source == "bound"
    assert estimate.source == "estimate"
    assert 0.2 * L.value < estimate.value <= L.value
    for _ in range(20):
        a, b = (w0 + radius * _unit(rng, w0.size) * rng.random() for _ in range(2))
        step = np.linalg.norm(b - a)
        bend = np.linalg.norm(model.jacobian(b) - model.jacobian(a), 2) / 3.0
        assert bend <= L.value * step
        assert np.linalg.norm(model(b) - model(a)) / 3.0 <= lip.value * step
    if net.train_output:
        assert theory.jacobian_lipschitz(model, w0, 2.0).value > L.value
        for function in (theory.jacobian_lipschitz, theory.output_lipschitz):
            with pytest.raises(gn.ArgumentError, match="trained output"):
                function(model, kind="paper")
    else:
        assert theory.jacobian_lipschitz(model, kind="paper").value >= L.value
        assert theory.output_lipschitz(model, kind="paper").value >= lip.value


def _unit(rng, size):
    u = rng.standard_normal(size)
    return u / np.linalg.norm(u)


def test_the_papers_constants_for_unit_rows():
    model, _, _ = wide()
    net = model.model
    lipschitz = theory.jacobian_lipschitz(model, kind="paper").value
    sigma = theory.activation_constants("tanh")
    assert lipschitz == pytest.approx(sigma.bend * np.sqrt(net.c_sigma * 5 / 200), rel=1e-12)
    lip = theory.output_lipschitz(model, kind="paper").value
    assert lip == pytest.approx(np.sqrt(net.c_sigma * 5), rel=1e-12)


def test_the_sharp_constant_is_attained_by_one_sample():
    """With one neuron and one input of length l: sup s |σ''| l², where its pre-activation is right.

    Attained to the square of the spacing of the points tried.
    """
    x = np.array([[1.5, -0.5]])
    net = gn.FeedforwardNetwork(x, 1, rng=0)
    best = max(
        bend_norm(net, z * x[0] / (x[0] @ x[0]), np.ones(2)) for z in np.linspace(0, 2, 2001)
    )
    assert best == pytest.approx(theory.jacobian_lipschitz(net).value, rel=1e-5)


def test_alternating_svds_find_the_largest_second_derivative():
    """Against a grid of all pairs of directions; the model is quadratic, so that L is exact."""
    rng = np.random.default_rng(2)
    T = rng.standard_normal((4, 2, 2))
    T = T + T.transpose(0, 2, 1)
    model = gn.AutogradModel(lambda w: anp.einsum("kij,i,j->k", T, w, w) / 2, 2)
    angles = np.linspace(0, np.pi, 721)
    U = np.stack([np.cos(angles), np.sin(angles)])
    grid = np.max(np.linalg.norm(np.einsum("kij,ia,jb->kab", T, U, U), axis=0))
    found = theory.jacobian_lipschitz_estimate(model, np.ones(2), 1.0, safety=1.0)
    assert grid <= found.value * (1 + 1e-12)
    assert found.value == pytest.approx(grid, rel=1e-4)
    doubled = theory.jacobian_lipschitz_estimate(gn.Scaled(model, 5.0), np.ones(2), 1.0)
    assert doubled.value == pytest.approx(2 * found.value, rel=1e-5)
    assert theory.jacobian_lipschitz_estimate(linear(), np.zeros(3), 1.0).value < 1e-8
    again = theory.jacobian_lipschitz_estimate(gn.Scaled(model, 5.0), np.ones(2), 1.0)
    assert again == doubled


def test_constants_of_a_start():
    model, _, w = wide(alpha=7.0)
    values = np.linalg.svd(model.model.jacobian(w), compute_uv=False)
    lambda0, lambda_n = theory.start_constants(model, w)
    assert 2 * lambda0 == pytest.approx(values[-1], rel=1e-10)
    assert 2 * lambda_n == pytest.approx(values[0], rel=1e-12)
    radius = theory.nondegenerate_radius(lambda0, theory.jacobian_lipschitz(model).value)
    rng = np.random.default_rng(0)
    for _ in range(20):  # (9), (10)
        K = theory.empirical_ntk(model, w + radius * _unit(rng, w.size))
        eigenvalues = np.linalg.eigvalsh(K)
        assert eigenvalues[0] >= lambda0**2
        assert lambda_n**2 <= eigenvalues[-1] <= (2 * lambda_n + lambda0) ** 2
    assert theory.nondegenerate_radius(1.0, 0.0) == np.inf


def test_the_ratio_of_the_ball():
    for nu, mu, lambda0, lip in ((1, 1, 1, 2), (0.1, 2, 0.01, 5), (1, 1, 1e-9, 3)):
        c = nu * lambda0 / (mu * lip)
        r = theory.ball_ratio(nu, mu, lambda0, lip)
        assert r / (1 - r) ** 2 == pytest.approx(c, rel=1e-12)
        sufficient = theory.ball_ratio(nu, mu, lambda0, lip, sufficient=True)
        assert sufficient <= r <= 0.5
    assert theory.ball_radius(0.25, 2.0, 4.0) == 0.25
    with pytest.raises(gn.ArgumentError, match="lambda0"):
        theory.ball_ratio(1, 1, 0, 1)


def test_infimum_of_a_loss():
    y = np.array([1.0, -2.0, 0.5])
    assert theory.loss_infimum(gn.SquaredError(y))[0] == 0.0
    loss = gn.StronglyConvex(gn.SquaredError(y, weight=2.0), 0.5)
    value, where = theory.loss_infimum(loss)
    np.testing.assert_allclose(where, 2 * y / 2.5, rtol=1e-12)
    assert value == pytest.approx(float(loss.value(2 * y / 2.5)), rel=1e-12)
    poisson = gn.StronglyConvex(gn.Poisson([1.0, 30.0, 0.0]), 1e-3)
    value, where = theory.loss_infimum(poisson)
    assert np.linalg.norm(poisson.gradient(where)) < 1e-6
    assert value <= float(poisson.value(where))
    with pytest.raises(gn.ArgumentError, match="not strongly convex"):
        theory.loss_infimum(gn.Logistic([1.0, 0.0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "sigmoid", "normalization": "none"},
        {"activation": "sin"},
        {"activation": "identity"},
        {"train_output": True},
        {"train_output": True, "activation": "sin", "outputs": 2},
    ],
    ids=str,
)
def test_the_expected_kernel_is_the_mean_over_starts(options):
    """Monte Carlo over 4000 neurons at a time, to five of its standard errors."""
    X = np.random.default_rng(0).standard_normal((4, 3))
    X[3] = 0.7 * X[0]  # perfectly correlated rows
    width = 4000
    wanted = theory.expected_ntk(gn.FeedforwardNetwork(X, 50, **options)) / 50
    if options.get("normalization") != "none":
        wanted = wanted * 50
    draws = []
    for seed in range(30):
        net = gn.FeedforwardNetwork(X, width, rng=seed, **options)
        K = theory.empirical_ntk(net, net.initial_parameters)
        draws.append(K / width if options.get("normalization") == "none" else K)
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(np.mean(draws, axis=0) - wanted) <= 5 * error + 1e-12)
    with pytest.raises(gn.ArgumentError, match="one hidden layer"):
        theory.expected_ntk(gn.FeedforwardNetwork(X, (3, 3)))


def test_quadrature_of_the_expected_kernel_converged():
    X = 2 * np.random.default_rng(0).standard_normal((5, 4))
    for name in ("tanh", "sigmoid", "gelu", "softplus"):
        net = gn.FeedforwardNetwork(X, 3, activation=name, train_output=True)
        fine = theory.expected_ntk(net, nodes=601)
        np.testing.assert_allclose(theory.expected_ntk(net), fine, rtol=0, atol=1e-9)
    sine = gn.FeedforwardNetwork(X, 3, activation="sin", train_output=True)
    closed = theory.expected_ntk(sine)
    gram = X @ X.T
    moments = gram * _quadrature(np.cos, gram, 481) + _quadrature(np.sin, gram, 481)
    np.testing.assert_allclose(sine.c_sigma * moments, closed, rtol=1e-9, atol=1e-12)


# thresholds and rates


SETTING = theory.Setting(lipschitz=0.4, lambda0=0.1, lambda_n=1.5, nu=0.5, mu=2.0, gap=3.0)


def test_kernel_peak_is_the_maximum():
    for rho in (0.0, 1e-3, 0.01, 0.3, 0.8, 0.95, 1.0):
        sigma = np.linspace(SETTING.lambda0, SETTING.ceiling, 200_001)
        grid = np.max(sigma / ((1 - rho) * sigma**2 + rho))
        assert theory.kernel_peak(SETTING, rho) == pytest.approx(grid, rel=1e-8)


def test_thresholds_put_the_bounds_of_the_path_at_the_radius():
    s = SETTING
    r0 = theory.nondegenerate_radius(s.lambda0, s.lipschitz)
    alpha = theory.path_threshold(s)
    assert theory.path_bound(s, alpha) == pytest.approx(r0, rel=1e-12)
    alpha = theory.generalized_threshold(s)
    assert theory.generalized_bound(s, alpha) == pytest.approx(r0, rel=1e-12)
    for rho in (0.0, 0.2, 1.0):
        alpha = theory.lemma4_threshold(s, rho)
        assert theory.lemma4_bound(s, alpha, rho) == pytest.approx(r0, rel=1e-12)
        assert alpha >= theory.path_threshold(s)
    small = s.lambda0**2 / (1 + s.lambda0**2)
    paper = s.mu * s.lipschitz * np.sqrt(2 * s.gap) / (s.nu**1.5 * s.lambda0**2)
    assert theory.lemma4_threshold(s, small) == pytest.approx(paper, rel=1e-12)
    assert theory.corollary9_threshold(s, 0.5) == pytest.approx(1.5 * paper, rel=1e-12)
    assert theory.deep_threshold(s, r0) == pytest.approx(theory.path_threshold(s), rel=1e-12)
    for r in (0.05, 0.3, 0.5):
        alpha = theory.contained_threshold(s, r)
        radius = theory.ball_radius(r, s.lambda0, s.lipschitz)
        assert theory.contained_bound(s, alpha, r) == pytest.approx(radius, rel=1e-12)
        bend = theory.second_form_bound(s, theory.convexity_threshold(s, r), r)
        assert bend * np.sqrt(2 * s.mu * s.gap) == pytest.approx(s.nu / 2, rel=1e-12)
        paper = (s.mu + s.nu / 2) * s.lipschitz * np.sqrt(s.gap)
        paper /= r * (1 - r) * s.lambda0**2 * s.nu**1.5
        assert theory.paper_contained_threshold(s, r) == pytest.approx(paper, rel=1e-12)
    assert theory.path_threshold(replace(s, lipschitz=0.0)) == 0
    assert theory.path_threshold(replace(s, lambda0=0.0)) == np.inf
    with pytest.raises(gn.ArgumentError, match="gap must be"):
        replace(s, gap=np.nan)
    with pytest.raises(gn.ArgumentError, match="r must be"):
        theory.contained_threshold(s, 0.7)


def test_deep_width():
    sigma = theory.activation_constants("tanh")
    C = 2 * np.sqrt(2 / np.pi) * 2.5
    wanted = 2 * 2.5**2 * (1 + C + C**2) ** 2 * np.log(2 * 40 * 3 / 0.1)
    assert theory.deep_width(3, 40, sigma, 2.5, failure=0.1) == pytest.approx(wanted, rel=1e-12)


class Unknown(DampingSchedule):
    def rho(self, lin, loss):
        return 0.5


SCHEDULES = [
    Constant(0.0),
    Constant(0.05),
    Constant(1.0),
    Adaptive(1.0),
    Adaptive(0.2),
    DataBased(1.0),
    CurvatureAware("kernel", 0.5),
    CurvatureAware("curvature", 0.5),
    Switch(Adaptive(1.0), Constant(0.1), 0.5),
    Unknown(),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("generalized", [False, True])
def test_rates_are_worst_cases(schedule, generalized):
    """Over a grid of λ_min(K) and of what the schedule may do there."""
    s = SETTING
    m = s.mu if generalized else 1.0
    rates, gains = [], []
    for x in np.geomspace(s.lambda0**2, 9 * s.lambda0**2, 7):
        for band in damping_bands(schedule, s):
            low, high = band.ends(x, x)
            for damping in np.geomspace(*np.clip((low, high), 1e-9, 1e9), 9):
                rho = damping / (1 + damping)
                rates.append(2 * s.nu * x / ((1 - rho) * m * x + rho))
                gains.append(s.ceiling**2 / ((1 - rho) * s.ceiling**2 + rho))
    rate = theory.flow_rate(s, schedule, generalized=generalized)
    assert rate == pytest.approx(min(rates), rel=1e-6)
    step, contraction = theory.discrete_rate(s, schedule)
    assert step == pytest.approx(1 / (2 * s.mu * max(gains)), rel=1e-6)
    if not generalized:
        wanted = 1 - s.nu / (2 * s.mu) * (rate / (2 * s.nu)) / max(gains)
        assert contraction == pytest.approx(wanted, rel=1e-6)


def test_closed_forms_of_the_rates():
    s, x = SETTING, SETTING.lambda0**2
    assert theory.flow_rate(s, 1.0) == pytest.approx(2 * s.nu * x)
    assert theory.flow_rate(s, 0.0) == pytest.approx(2 * s.nu)
    assert theory.flow_rate(s, Adaptive(0.3)) == pytest.approx(2 * s.nu * (1 + 0.3 * x) / 1.3)
    kernel = theory.flow_rate(s, CurvatureAware("kernel", 0.3), generalized=True)
    assert kernel == pytest.approx(2 * s.nu * (1 + 0.3 * s.mu * x) / (s.mu * 1.3))
    data = theory.discrete_rate(s, x / (1 + x))[1]  # ρ0 = κλ0² with κ = 1
    assert data <= 1 - s.nu / (4 * s.mu)
    np.testing.assert_allclose(theory.exponential_envelope(2.0, 3.0)([0, 1]), [2, 2 * np.exp(-3)])
    np.testing.assert_allclose(theory.geometric_envelope(2.0, 0.5)([0, 2]), [2, 0.5])


# certificates with p >= n


FLOWS = [
    (None, 0.0),
    (None, 1.0),
    (None, Adaptive(1.0)),
    (None, Adaptive(0.2)),
    (None, DataBased(1.0)),
    (None, Switch(Adaptive(1.0), Constant(0.1), 0.5)),
    ("generalized", 0.05),
    ("generalized", CurvatureAware("kernel")),
    ("generalized", CurvatureAware("curvature", 0.3)),
]


def over(alpha, kind):
    model, y, w = wide(alpha)
    if kind == "generalized":
        loss = logistic(y)
        return posed(model, loss, gn.GeneralizedGaussNewtonMetric(loss, 0.5)), w
    return posed(model, gn.SquaredError(y)), w


@pytest.mark.parametrize(("kind", "damping"), FLOWS, ids=str)
def test_flows_at_the_threshold_stay_inside(kind, damping):
    threshold = theory.overparameterized(*over(1.0, kind), damping).threshold
    assert not theory.overparameterized(*over(threshold * (1 - 1e-9), kind), damping)
    problem, w = over(threshold * (1 + 1e-12), kind)
    certificate = theory.overparameterized(problem, w, damping)
    assert certificate
    assert certificate.verdict == "holds"
    flow = integrate(problem, w, 3.0, method="rk45", damping=damping, rtol=1e-8)
    measured = certificate.monitor(flow)
    assert len(measured) == 3
    assert all(measured), [str(row) for row in measured]
    assert flow.exit_time(certificate.radius) == np.inf
    assert flow.distances[-1] <= certificate.path_bound <= certificate.radius * (1 + 1e-9)
    assert certificate.paper_threshold is None or certificate.paper_threshold >= threshold


def test_the_path_bound_is_half_used_along_the_weakest_eigenvector():
    """Exactly so in the lazy regime, as λ_min(K_0) = 4λ0² where the bound has λ0²."""
    base, _, w = wide()
    vectors = np.linalg.svd(base.model.jacobian(w))[0]
    problem = posed(gn.Scaled(base.model, 1e5), gn.SquaredError(vectors[:, -1]))
    certificate = theory.overparameterized(problem, w, 0.0)
    flow = integrate(problem, w, 12.0, method="dop853", damping=0.0)
    assert flow.distances[-1] / certificate.path_bound == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("damping", [0.0, 0.02, 1.0, Adaptive(1.0), DataBased(0.5)], ids=str)
@pytest.mark.parametrize("general", [False, True])
def test_steps_at_the_threshold_contract(damping, general):
    def problem_at(alpha):
        model, y, w = wide(alpha)
        return posed(model, logistic(y) if general else gn.SquaredError(y)), w

    threshold = theory.overparameterized(*problem_at(1.0), damping, discrete=True).threshold
    problem, w = problem_at(threshold * (1 + 1e-12))
    certificate = theory.overparameterized(problem, w, damping, discrete=True)
    assert certificate
    assert certificate.discrete
    step = certificate.step
    run = integrate(problem, w, 60 * step, step=step, damping=damping)
    np.testing.assert_allclose(certificate.clock(run), np.arange(61), atol=1e-9)
    assert all(certificate.monitor(run))
    assert run.distances[-1] <= certificate.path_bound
    smooth = integrate(problem, w, step, method="rk45", damping=damping)
    with pytest.raises(gn.ArgumentError, match="made by 'rk45'"):
        certificate.monitor(smooth)


def test_a_hypothesis_that_fails_is_named():
    problem, w = over(1.0, None)
    certificate = theory.overparameterized(problem, w)
    assert not certificate
    assert [h.name for h in certificate.failures] == ["α above its threshold"]
    assert certificate.failures[0].margin == pytest.approx(1 / certificate.threshold)
    assert certificate.verdict == "fails: α above its threshold"
    assert certificate.conclusions == ()
    assert not certificate.conditional
    X = np.ones((2, 3))  # the same sample twice: a singular kernel
    net = gn.FeedforwardNetwork(X, 20)
    problem = posed(gn.Scaled(net, 1e9), gn.SquaredError([1.0, 2.0]))
    certificate = theory.overparameterized(problem, net.initial_parameters)
    assert certificate.failures[0].name.startswith("Assumption 1")


def test_below_its_threshold_the_theorem_can_be_wrong():
    """The monitor sees it: at α far too small the flow leaves the radius."""
    problem, w = over(0.05, None)
    certificate = theory.overparameterized(problem, w, Adaptive(1.0))
    flow = integrate(problem, w, 2.0, step=0.05, damping=Adaptive(1.0))
    broken = [h.name for h in certificate.monitor(flow) if not h]
    assert "|w - w0| along the path" in broken


def test_a_linear_model_holds_with_every_scale():
    rng = np.random.default_rng(0)
    A, y = rng.standard_normal((3, 5)), rng.standard_normal(3)
    model = gn.CallableModel(lambda w: A @ w, 5, jacobian=lambda w: A)
    problem = posed(model, gn.SquaredError(y))
    certificate = theory.overparameterized(problem, np.zeros(5), 0.3, jacobian_lipschitz=0.0)
    assert certificate
    assert certificate.radius == np.inf
    assert certificate.inputs["L"].source == "given"
    flow = integrate(problem, np.zeros(5), 5.0, method="dop853", damping=0.3)
    assert all(certificate.monitor(flow))
    assert certificate.to_dict()["radius"] is None


def test_the_ball_of_an_estimate_covers_the_radius():
    """Where second derivatives vanish at the start the ball is found from those around it."""
    model = gn.AutogradModel(lambda w: anp.array([w[0] + 1e-3 * w[1] ** 3]), 2)
    problem = posed(model, gn.SquaredError(np.array([0.1])))
    certificate = theory.overparameterized(problem, np.zeros(2))
    L = certificate.inputs["L"].value
    assert 6e-3 * certificate.radius <= L  # the supremum of |D²f| = 6e-3 |w_2| there
    identity = gn.FeedforwardNetwork(np.eye(2), 9, activation="identity")
    problem = posed(identity, gn.SquaredError([1.0, 2.0]))
    exact = theory.overparameterized(problem, identity.initial_parameters)
    assert exact
    assert exact.radius == np.inf


def test_estimates_never_hold_plainly():
    """A network of two hidden layers has no closed form: L is estimated, and says so."""
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(rng.standard_normal((4, 3)), (12, 12), rng=rng)
    y, w = rng.standard_normal(4), net.initial_parameters
    first = theory.overparameterized(posed(net, gn.SquaredError(y)), w)
    assert first.inputs["L"].estimated
    problem = posed(gn.Scaled(net, 2 * first.threshold), gn.SquaredError(y))
    certificate = theory.overparameterized(problem, w)
    assert not certificate
    assert certificate.conditional
    L = certificate.inputs["L"].value
    assert certificate.lipschitz_limit == pytest.approx(2 * L, rel=1e-3)
    assert certificate.verdict == f"holds if L <= {certificate.lipschitz_limit:.4g}"
    assert f"If L <= {L:.4g}, as estimated:" in str(certificate)
    assert "estimate" in str(certificate)
    assert not any(h.verdict == "holds" for h in certificate.hypotheses if h.lipschitz_limit)
    flow = integrate(problem, w, 3.0, method="rk45", damping=0.5)
    assert all(certificate.monitor(flow))
    believed = theory.overparameterized(
        problem, w, jacobian_lipschitz=theory.Constant(L, "bound", "by hand")
    )
    assert believed
    assert theory.overparameterized(problem, w).to_dict() == certificate.to_dict()


def test_a_trained_output_layer_has_a_bound_of_its_own():
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(rng.standard_normal((4, 3)), 50, train_output=True, rng=rng)
    y, w = rng.standard_normal(4), net.initial_parameters
    threshold = theory.overparameterized(posed(net, gn.SquaredError(y)), w).threshold
    problem = posed(gn.Scaled(net, 1.001 * threshold), gn.SquaredError(y))
    certificate = theory.overparameterized(problem, w, Adaptive())
    assert certificate
    assert certificate.inputs["L"].source == "bound"
    flow = integrate(problem, w, 3.0, method="rk45", damping=Adaptive(), rtol=1e-8)
    assert all(certificate.monitor(flow))


def test_the_table_the_dictionary_and_the_figure(tmp_path):
    problem, w = over(50.0, None)
    certificate = theory.overparameterized(problem, w, Adaptive())
    text = str(certificate)
    for part in (
        "hypothesis",
        "required",
        "margin",
        "L, paper",
        "the paper's",
        certificate.verdict,
    ):
        assert part in text
    report = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert report["holds"] is bool(certificate)
    assert {"name", "required", "actual", "margin", "verdict"} <= set(report["hypotheses"][0])
    assert report["inputs"]["L"]["source"] == "bound"
    flow = integrate(problem, w, 2.0, damping=Adaptive())
    axes = certificate.plot(flow)
    assert [line.get_label() for line in axes.lines] == ["measured", "envelope"]
    gn.plotting.save_figure(axes.figure, tmp_path / "envelope.png")
    steps = theory.overparameterized(problem, w, discrete=True)
    run = integrate(problem, w, 20 * steps.step, step=steps.step)
    assert steps.plot(run, axes).get_xlabel() == "steps k"


def test_a_start_that_is_not_centred_is_noted():
    model, y, w = wide(100.0)
    there = w + 0.01
    certificate = theory.overparameterized(posed(model, gn.SquaredError(y)), there)
    assert "αf(w0) is not zero" in certificate.notes[0]
    assert certificate.gap == pytest.approx(float(gn.SquaredError(y).value(model(there))))


def test_bad_arguments():
    model, y, w = wide()
    thin, z, v = narrow()
    squared, loss = gn.SquaredError(y), logistic(y)
    unbounded = gn.StronglyConvex(gn.Poisson(np.abs(np.round(y))), 0.1)
    over, under = theory.overparameterized, theory.underparameterized
    plain = gn.GaussNewtonMetric()
    rows = (
        (over, posed(thin, gn.SquaredError(z)), v, {}, "p = 6 < n = 12"),
        (under, posed(model, squared), w, {}, "p = 1000 > n = 5"),
        (under, posed(thin, gn.SquaredError(z)), v, {}, "undamped"),
        (under, posed(thin, gn.SquaredError(z), plain), v, {"r": 0.9}, "r must be"),
        (under, posed(thin, gn.SquaredError(z), plain), v, {"infimum": -1.0}, "infimum must"),
        (over, posed(model, squared, gn.EuclideanMetric()), w, {}, "the manifold has Euclid"),
        (over, posed(model, gn.Logistic(1.0 * (y > 0))), w, {}, "not strongly convex"),
        (over, posed(model, unbounded), w, {"discrete": True}, "without bound"),
        (over, posed(model, squared), w, {"jacobian_lipschitz": -1.0}, "jacobian_lipschitz"),
        (over, posed(model, squared), w, {"damping": 2.0}, "rho"),
        (over, squared, w, {}, "needs a CompositeProblem"),
        (
            over,
            posed(model, loss, gn.GeneralizedGaussNewtonMetric(loss, 0.1)),
            w,
            {"discrete": True},
            "discrete time",
        ),
        (
            over,
            posed(model, loss, gn.GeneralizedGaussNewtonMetric(squared, 0.1)),
            w,
            {},
            "own loss",
        ),
    )
    for function, problem, start, options, message in rows:
        with pytest.raises(gn.ArgumentError, match=message):
            function(problem, start, **options)
    assert over(posed(model, unbounded), w).paper_threshold is None
    for wrong in ({"source": "guess"}, {"value": np.nan}):
        with pytest.raises(gn.ArgumentError):
            theory.Constant(**{"value": 1.0, **wrong})
    with pytest.raises(gn.ArgumentError, match="safety"):
        theory.jacobian_lipschitz_estimate(model, w, safety=0.5)
    with pytest.raises(gn.ArgumentError, match="jacobian_lipschitz_estimate"):
        theory.jacobian_lipschitz(deep_network())


# certificates with p <= n


def under(alpha, general=False):
    model, y, w = narrow(alpha)
    loss = logistic(y) if general else gn.SquaredError(y)
    return posed(model, loss, gn.GaussNewtonMetric()), w


@pytest.mark.parametrize("general", [False, True])
def test_surfaces_at_the_threshold(general):
    threshold = theory.underparameterized(*under(1.0, general)).threshold
    failing = theory.underparameterized(*under(threshold * (1 - 1e-9), general))
    assert 1 <= len(failing.failures) <= 2
    assert all("α" in h.name or "Assumption 3" in h.name for h in failing.failures)
    problem, w = under(threshold * (1 + 1e-9), general)
    certificate = theory.underparameterized(problem, w)
    assert certificate, str(certificate)
    flow = integrate(problem, w, 40.0 if general else 15.0, method="dop853", rtol=1e-10)
    lowest = float(np.min(flow.costs))  # to about 1e-13 of its distance from the start
    known = theory.underparameterized(problem, w, infimum=lowest)
    assert known.gap <= certificate.gap
    for checked in (certificate, known):
        assert all(checked.monitor(flow)), [str(h) for h in checked.monitor(flow)]
    assert flow.exit_time(certificate.radius) == np.inf
    assert flow.distances[-1] <= known.path_bound <= certificate.path_bound < certificate.radius
    assert certificate.paper_threshold >= threshold


@pytest.mark.parametrize("general", [False, True])
def test_steps_on_surfaces_at_the_threshold(general):
    threshold = theory.underparameterized(*under(1.0, general), discrete=True).threshold
    problem, w = under(threshold * (1 + 1e-9), general)
    certificate = theory.underparameterized(problem, w, discrete=True)
    assert certificate
    step = certificate.step
    run = integrate(problem, w, 60 * step, step=step)
    assert all(certificate.monitor(run))
    assert run.distances[-1] <= certificate.path_bound
    assert certificate.paper_threshold is None


def test_the_loss_is_convex_on_the_surface_at_the_threshold():
    """Theorem 22 on points of the ball: eigenvalues of the Hessian in [ν/2, μ + ν/2]."""
    threshold = theory.underparameterized(*under(1.0)).threshold
    problem, w = under(threshold)
    certificate = theory.underparameterized(problem, w)
    rng = np.random.default_rng(0)
    for _ in range(40):
        point = w + certificate.radius * rng.random() * _unit(rng, w.size)
        local = problem.manifold.at(problem.manifold.as_point(point))
        if problem.cost(point) > problem.cost(w):
            continue
        E = local.frame
        values = np.linalg.eigvalsh(E.T @ hessian_form(local, problem.loss) @ E)
        assert values[0] >= 0.5
        assert values[-1] <= 1.5


def test_which_hypothesis_fails_on_a_surface():
    problem, w = under(1e9)
    too_wide = theory.underparameterized(problem, w, r=0.5)
    assert [h.name for h in too_wide.failures] == ["(20): r/(1-r)²"]
    model = gn.AutogradModel(lambda v: anp.array([v[0] + v[1], (v[0] + v[1]) ** 2, 0.0]), 2)
    flat = posed(gn.Scaled(model, 1e9), gn.SquaredError(np.ones(3)), gn.GaussNewtonMetric(0.0))
    degenerate = theory.underparameterized(flat, np.zeros(2), jacobian_lipschitz=4.0)
    assert any(h.name.startswith("Assumption 2") for h in degenerate.failures)
    assert str(degenerate)
    assert json.dumps(degenerate.to_dict(), allow_nan=False)


def test_any_model_has_a_certificate_with_a_condition():
    t = np.linspace(0, 2, 9)
    model = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * t), 2)
    w = np.array([2.0, 0.7])
    y = model(w) + 1e-4 * np.random.default_rng(0).standard_normal(9)
    problem = posed(model, gn.SquaredError(y), gn.GaussNewtonMetric())
    certificate = theory.underparameterized(problem, w)
    assert certificate.conditional
    assert certificate.notes
    flow = integrate(problem, w, 20.0, method="dop853")
    assert all(certificate.monitor(flow))


# what holds on surfaces


def test_the_bound_of_the_second_form_is_attained_by_a_parabola():
    """f(w) = (w, Lw²/2) at zero for r -> 0; elsewhere in the ball it is a bound."""
    L, alpha = 1.7, 3.0
    model = gn.AutogradModel(lambda w: alpha * anp.array([w[0], 0.5 * L * w[0] ** 2]), 1)
    setting = theory.Setting(L, 0.5, 0.5, 1.0, 1.0, 1.0)  # Df(0) = (1, 0)
    a = np.ones(1)

    def bend(w):
        local = gn.ParameterManifold(model, gn.GaussNewtonMetric()).at(np.array([w]))
        return np.linalg.norm(second_fundamental_form(local, a, a)) / (local.length(a) ** 2)

    assert bend(0.0) == pytest.approx(theory.second_form_bound(setting, alpha, 0.0), rel=1e-12)
    for r in (0.1, 0.3):
        radius = theory.ball_radius(r, 0.5, L)
        assert max(map(bend, (-radius, 0.0, radius))) <= theory.second_form_bound(setting, alpha, r)


def test_balls_are_geodesically_convex_up_to_the_radius():
    """The Riemannian Hessian of ½|w - w0|², relative to I, is at least (1-2r)/(1-r)."""
    model, _, w0 = narrow()
    lambda0, lambda_n = theory.start_constants(model, w0)
    L = theory.jacobian_lipschitz(model).value
    setting = theory.Setting(L, lambda0, lambda_n, 1.0, 1.0, 1.0)
    assert theory.convexity_radius(setting) == pytest.approx(theory.ball_radius(0.5, lambda0, L))
    rng = np.random.default_rng(0)
    for r, _ in product((0.1, 0.25, 0.5), range(10)):
        offset = theory.ball_radius(r, lambda0, L) * _unit(rng, w0.size)
        lin = gn.Linearization(model, w0 + offset)
        covector = lin.pull(np.zeros(12)) + offset
        # Σ_k offset_k Γ^k = offset · J⁺D²f, whose weights of the outputs are (J⁺)ᵀ offset
        weights = lin.jacobian @ np.linalg.solve(lin.jacobian.T @ lin.jacobian, covector)
        hessian = np.eye(w0.size) - lin.hessian_matrix(weights)
        assert np.linalg.eigvalsh(hessian)[0] >= theory.convexity_modulus(r)


# what the first version of the paper claimed, and is false


def test_lemma_7_of_the_first_version_is_false():
    """On the circle with g = ½|ψ - y|² the Hessian is ψ·y: -2 where at least ν = 1 was claimed."""
    model = gn.AutogradModel(lambda w: anp.array([anp.cos(w[0]), anp.sin(w[0])]), 1)
    loss = gn.SquaredError(np.array([-2.0, 0.0]))
    problem = posed(model, loss, gn.GaussNewtonMetric())
    point, a = np.zeros(1), np.ones(1)
    local = problem.manifold.at(point)
    assert local.length(a) == pytest.approx(1.0)
    assert a @ problem.riemannian_hessian(point, a) == pytest.approx(-2.0, abs=1e-12)
    # along the geodesic itself, which is w -> w + t
    t = 1e-4
    second = (problem.cost(np.array([t])) - 2 * problem.cost(point) + problem.cost(-t * a)) / t**2
    assert second == pytest.approx(-2.0, abs=1e-6)
    certificate = theory.underparameterized(problem, point, jacobian_lipschitz=1.0)
    assert "(27): α, for convexity" in [h.name for h in certificate.failures]


def test_the_first_versions_bound_of_the_displacement_is_false():
    """It takes a function that falls at the largest eigenvalue: σ/((1-ρ)σ² + ρ) at Λ.

    A target along the weakest eigenvector moves the parameters |y|/(α σ_min), far beyond it; the
    bounds of theory hold.
    """
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(rng.standard_normal((8, 3)), 60, rng=rng)
    w = net.initial_parameters
    vectors = np.linalg.svd(net.jacobian(w))[0]
    rho, alpha = 1e-6, 1e4
    problem = posed(gn.Scaled(net, alpha), gn.SquaredError(vectors[:, -1]))
    certificate = theory.overparameterized(problem, w, rho)
    inputs = {name: constant.value for name, constant in certificate.inputs.items()}
    s = theory.Setting(inputs["L"], inputs["λ0"], inputs["λ_n"], 1.0, 1.0, inputs["Δ0"])
    flow = integrate(problem, w, 12.0, method="dop853", damping=rho)
    moved = flow.distances[-1]
    at_largest = s.ceiling / ((1 - rho) * s.ceiling**2 + rho)
    theirs = theory.lemma4_bound(s, alpha, rho) * at_largest / theory.kernel_peak(s, rho)
    assert moved > 4 * theirs
    assert moved <= theory.path_bound(s, alpha) <= theory.lemma4_bound(s, alpha, rho) * (1 + 1e-12)
