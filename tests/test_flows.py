"""Flows: closed forms, the optimizers' steps, and the papers' rates at their thresholds."""

import warnings

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from zoo import network, targets

import gnmanifold as gn
from gnmanifold.damping import Adaptive, Constant, CurvatureAware, DataBased, Switch
from gnmanifold.flows import integrate
from gnmanifold.optimizers import ConstantStep, GaussNewton


def posed(model, loss, metric=None):
    metric = gn.GaussNewtonMetric(0.5) if metric is None else metric
    return gn.CompositeProblem(gn.ParameterManifold(model, metric), loss)


def wide_network(n=6, width=40, alpha=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 5))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    net = gn.FeedforwardNetwork(X, width, rng=rng)
    return gn.Scaled(net, alpha), rng.standard_normal(n), net.initial_parameters


# closed forms


@pytest.mark.parametrize("method", ["rk45", "dop853"])
def test_gauss_newton_on_a_submersion_follows_the_straight_line(method):
    model, y, w = wide_network()
    flow = integrate(posed(model, gn.SquaredError(y)), w, 2.0, method=method, damping=0.0)
    wanted = y + np.exp(-flow.times)[:, None] * (flow.outputs[0] - y)
    np.testing.assert_allclose(flow.outputs, wanted, rtol=0, atol=1e-7)
    assert flow.finished
    assert flow.times[-1] == 2.0
    np.testing.assert_allclose(flow.costs, flow.costs[0] * np.exp(-2 * flow.times), rtol=1e-6)


def test_tighter_tolerances_bring_it_closer():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    errors = []
    for rtol in (1e-6, 1e-12):
        flow = integrate(problem, w, 1.0, method="dop853", damping=0.0, rtol=rtol)
        wanted = y + np.exp(-1.0) * (flow.outputs[0] - y)
        errors.append(np.linalg.norm(flow.outputs[-1] - wanted))
    assert errors[1] < 1e-11
    assert errors[1] < 1e-3 * errors[0]


def test_newton_flow_shrinks_the_gradient_along_itself():
    rng = np.random.default_rng(0)
    A = np.vstack([rng.standard_normal((4, 5)), np.eye(5)])
    model = gn.AutogradModel(lambda x: A @ x + 0.2 * anp.sin(A @ x), 5)
    loss, w = gn.SquaredError(np.zeros(9)), rng.standard_normal(5)
    flow = integrate(posed(model, loss, gn.HessianMetric(loss)), w, 1.5, method="dop853")
    gradients = [model.vjp(v, loss.gradient(model(v))) for v in flow.parameters]
    wanted = np.exp(-flow.times)[:, None] * gradients[0]
    np.testing.assert_allclose(gradients, wanted, rtol=0, atol=1e-8 * np.linalg.norm(gradients[0]))
    assert flow.stability_limit == 2.0


def test_generalized_gauss_newton_flow_is_newtons_in_the_outputs():
    model, y, w = wide_network()
    loss = gn.StronglyConvex(gn.Logistic(1.0 * (y > 0)), 0.1)
    metric = gn.GeneralizedGaussNewtonMetric(loss, 0.5)
    flow = integrate(posed(model, loss, metric), w, 2.0, method="dop853", damping=0.0)
    gradients = np.array([loss.gradient(psi) for psi in flow.outputs])
    np.testing.assert_allclose(
        gradients, np.exp(-flow.times)[:, None] * gradients[0], rtol=0, atol=1e-8
    )


def test_gradient_flow_of_a_linear_model():
    rng = np.random.default_rng(0)
    A, y, w = rng.standard_normal((7, 3)), rng.standard_normal(7), rng.standard_normal(3)
    model = gn.CallableModel(lambda x: A @ x, 3, jacobian=lambda x: A)
    flow = integrate(
        posed(model, gn.SquaredError(y), gn.EuclideanMetric()), w, 1.0, method="dop853"
    )
    best = np.linalg.lstsq(A, y, rcond=None)[0]
    values, vectors = np.linalg.eigh(A.T @ A)
    exact = best + vectors @ (np.exp(-values) * (vectors.T @ (w - best)))
    np.testing.assert_allclose(flow.parameters[-1], exact, rtol=1e-7)
    assert flow.stability_limit == pytest.approx(2 / values[-1])
    np.testing.assert_allclose(flow.smallest_eigenvalues, values[0], rtol=1e-10)


def test_natural_gradient_flow_does_not_depend_on_the_parameters():
    """The same predictions when the parameters of the model are changed nonlinearly."""
    t, y = np.linspace(0, 2, 9), np.array([1.0, 0, 1, 1, 0, 0, 1, 0, 0])
    first = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * t), 2)
    second = gn.AutogradModel(lambda w: anp.sinh(w[0]) * anp.exp(-anp.exp(w[1]) * t), 2)
    loss = gn.Logistic(y)
    flows = [
        integrate(posed(model, loss, gn.FisherMetric(loss)), w, 1.0, method="dop853", rtol=1e-11)
        for model, w in (
            (first, np.array([1.0, 0.5])),
            (second, np.array([np.arcsinh(1.0), np.log(0.5)])),
        )
    ]
    np.testing.assert_allclose(flows[0].outputs[-1], flows[1].outputs[-1], rtol=1e-8)


# Euler's method


@pytest.mark.parametrize("damping", [0.0, 0.3, 1.0, Adaptive(2.0), DataBased(), None])
def test_euler_takes_the_steps_of_the_optimizer(damping):
    model, y, w = wide_network(alpha=2.0)
    problem = posed(model, gn.SquaredError(y))
    flow = integrate(problem, w, 0.4, step=0.02, damping=damping)
    rho = 0.5 if damping is None else damping
    run = GaussNewton(ConstantStep(0.02), damping=rho, max_iterations=20, verbosity=0).run(
        problem, initial_point=w
    )
    points = run.log["iterations"]["point"]
    if damping == 1.0:  # Jᵀz with a Jacobian in one and without in the other
        np.testing.assert_allclose(flow.parameters, points, rtol=1e-12, atol=1e-15)
    else:
        np.testing.assert_array_equal(flow.parameters, points)
    if damping is None:
        theirs = pymanopt.optimizers.SteepestDescent(
            line_searcher=ConstantStep(0.02), max_iterations=20, verbosity=0
        )
        np.testing.assert_array_equal(
            theirs.run(problem, initial_point=w).point, flow.parameters[-1]
        )


@pytest.mark.parametrize("loss", [gn.Logistic, gn.Poisson])
def test_euler_takes_the_steps_of_the_optimizer_for_other_losses(loss):
    model, y, w = wide_network(alpha=2.0)
    loss = loss(1.0 * (y > 0))
    problem = posed(model, loss, gn.GeneralizedGaussNewtonMetric(loss, 0.1))
    schedule = CurvatureAware("curvature", 0.5)
    flow = integrate(problem, w, 0.4, step=0.02, damping=schedule)
    run = GaussNewton(ConstantStep(0.02), damping=schedule, max_iterations=20, verbosity=0).run(
        problem, initial_point=w
    )
    np.testing.assert_array_equal(flow.parameters, run.log["iterations"]["point"])


def test_euler_on_the_prediction_surface():
    model = network()
    w = model.initial_parameters
    problem = gn.CompositeProblem(
        gn.OutputManifold(model), gn.SquaredError(targets(model, w + 0.2, 0.3))
    )
    flow = integrate(problem, problem.manifold.point(w), 0.5, step=0.1)
    run = GaussNewton(ConstantStep(0.1), max_iterations=5, verbosity=0).run(
        problem, initial_point=w
    )
    np.testing.assert_allclose(flow.outputs[-1], np.asarray(run.point), rtol=1e-12)
    np.testing.assert_allclose(flow.gradient_norms, run.log["iterations"]["gradient_norm"])


def test_euler_converges_with_order_one():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    exact = integrate(problem, w, 1.0, method="dop853", damping=0.1).parameters[-1]
    steps = np.array([0.1, 0.05, 0.025])
    errors = [
        np.linalg.norm(integrate(problem, w, 1.0, step=dt, damping=0.1).parameters[-1] - exact)
        for dt in steps
    ]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.2, 1.0])
def test_stability_limit(rho):
    """2/(μ h_ρ(|K|)), below which the method settles and above which it blows up."""
    rng = np.random.default_rng(0)
    A, y = 3 * rng.standard_normal((4, 7)), rng.standard_normal(4)
    model = gn.Scaled(gn.CallableModel(lambda x: A @ x, 7, jacobian=lambda x: A), 0.5)
    problem = posed(model, gn.SquaredError(y, weight=2.0))
    largest = np.linalg.norm(A, 2) ** 2
    limit = 2 / (2 * largest / ((1 - rho) * largest + rho))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = integrate(
            problem, np.zeros(7), 200 * limit, step=0.98 * limit, damping=rho, every=200
        )
    assert flow.stability_limit == pytest.approx(limit, rel=1e-6)
    assert flow.costs[-1] < flow.costs[0]
    with pytest.warns(gn.UnstableStepWarning, match="unstable where the flow starts"):
        flow = integrate(problem, np.zeros(7), 300 * limit, step=1.02 * limit, damping=rho)
    assert flow.costs[-1] > 1e2 * flow.costs[0]


def test_the_stability_limit_of_a_trajectory_is_the_functions():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    for damping in (None, 0.5, Adaptive(1.0)):
        limit = gn.flows.stability_limit(problem, w, damping)
        assert (
            limit
            == integrate(problem, w, limit / 4, step=limit / 4, damping=damping).stability_limit
        )
    with pytest.raises(gn.ArgumentError):
        gn.flows.stability_limit(problem, w, 2.0)


def test_records_and_the_last_step():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    flow = integrate(problem, w, 0.25, step=0.1)
    np.testing.assert_allclose(flow.times, [0, 0.1, 0.2, 0.25])
    np.testing.assert_allclose(
        flow.distances, np.linalg.norm(flow.parameters - w, axis=1), atol=1e-15
    )
    sparse = integrate(problem, w, 1.0, step=0.1, every=4, eigenvalues=False)
    np.testing.assert_allclose(sparse.times, [0, 0.4, 0.8, 1.0])
    assert np.all(np.isnan(sparse.smallest_eigenvalues))
    assert np.all(np.isnan(flow.damping))
    damped = integrate(problem, w, 0.2, step=0.1, damping=Adaptive(0.3))
    K = damped.smallest_eigenvalues
    np.testing.assert_allclose(damped.damping, 0.3 * K / (1 + 0.3 * K))
    assert flow.evaluations.jacobians == flow.evaluations.values == 4
    assert "Trajectory('euler', 4 records" in repr(flow)


def test_kernel_form_is_the_parameter_form():
    """The work for p > n is done with n x n matrices, and gives what p x p ones give."""
    model, y, w = wide_network(alpha=3.0)
    flow = integrate(posed(model, gn.SquaredError(y)), w, 0.02, step=0.01, damping=0.3)
    J, z = model.jacobian(w), model(w) - y
    velocity = -np.linalg.solve(0.7 * J.T @ J + 0.3 * 9 * np.eye(len(w)), J.T @ z)
    np.testing.assert_allclose(flow.parameters[1] - w, 0.01 * velocity, rtol=1e-9, atol=1e-14)


# times


@pytest.mark.parametrize("method", ["euler", "dop853"])
def test_exit_time(method):
    model, y, w = wide_network()
    flow = integrate(posed(model, gn.SquaredError(y)), w, 3.0, method=method, damping=0.0)
    radius = 0.6 * flow.distances[-1]
    t = flow.exit_time(radius)
    assert 0 < t < 3
    assert np.linalg.norm(flow.at(t) - w) == pytest.approx(radius, rel=1e-10)
    assert flow.exit_time(2 * np.max(flow.distances)) == np.inf
    assert flow.exit_time(1e-3, center=w + 1.0) == 0.0
    np.testing.assert_allclose(flow.at(3.0), flow.parameters[-1], atol=1e-14)
    np.testing.assert_allclose(flow.at(0.0), w, atol=1e-15)
    with pytest.raises(gn.ArgumentError, match="followed from t = 0 to 3"):
        flow.at(3.1)


# rate envelopes at the threshold


def constants(model, y, loss):
    """λ0, L (sharp, math of one hidden layer with unit rows) and the gap of a loss with minimum."""
    net = model.model
    w = net.initial_parameters
    lambda0 = np.linalg.svd(net.jacobian(w), compute_uv=False)[-1] / 2
    s = np.sqrt(net.c_sigma / net.widths[0])
    bend = 4 / (3 * np.sqrt(3))  # of tanh
    L = s * bend * np.linalg.norm(net.inputs, 2)
    return lambda0, L


def gap(loss, psi, minimum):
    return float(loss.value(psi)) - minimum


SCHEDULES = [
    (Constant(0.0), None),
    (Constant(0.05), None),
    (Constant(1.0), None),
    (Adaptive(1.0), 1.0),
    (Adaptive(0.2), 0.2),
    (DataBased(1.0), None),
]


@pytest.mark.parametrize(("schedule", "kappa"), SCHEDULES, ids=str)
def test_rate_envelopes_of_the_squared_error_at_the_threshold(schedule, kappa):
    """Theorem 5 and Corollary 9, for the smallest α that the bound on the path allows."""
    model, y, w = wide_network(n=5, width=200)
    loss = gn.SquaredError(y)
    lambda0, L = constants(model, y, loss)
    delta0 = gap(loss, np.zeros(5), 0.0)
    alpha = L * np.sqrt(2 * delta0) / lambda0**2
    model = gn.Scaled(model.model, alpha)
    problem = posed(model, loss)
    flow = integrate(problem, w, 3.0, method="rk45", damping=schedule, rtol=1e-8)
    radius = lambda0 / L
    assert flow.exit_time(radius) == np.inf
    assert np.min(flow.smallest_eigenvalues) >= lambda0**2
    if kappa is None:
        rho = flow.damping[0]
        rate = 2 * lambda0**2 / ((1 - rho) * lambda0**2 + rho)
    else:
        rate = 2 * (1 + kappa * lambda0**2) / (1 + kappa)
    envelope = delta0 * np.exp(-rate * flow.times)
    assert np.all(flow.costs <= envelope * (1 + 1e-6))
    # the bound on the length of the path: a quarter or so of it is used, never more than all
    assert flow.distances[-1] <= np.sqrt(2 * delta0) / (alpha * lambda0)
    measured = -np.polyfit(flow.times, np.log(flow.costs), 1)[0]
    assert measured >= rate * (1 - 1e-6)


@pytest.mark.parametrize("rho", [0.01, 0.3, 1.0])
def test_the_cost_falls_at_least_as_the_weakest_eigenvalue_says(rho):
    """Lemma 2: d/dt g <= -h_ρ(λ_min(K)) |∇g|², with equality along the weakest eigenvector."""
    base, y, w = wide_network(n=5, width=40)
    values, vectors = np.linalg.eigh(gn.theory.empirical_ntk(base, w))
    least = values[0] / ((1 - rho) * values[0] + rho)
    step, found = 1e-3, []
    for target in (y, base(w) - vectors[:, 0]):
        problem = posed(base, gn.SquaredError(target))
        moved = integrate(problem, w, step, step=step, damping=rho).parameters[-1] - w
        z = base(w) - target
        found.append(-z @ base.jvp(w, moved) / step / (z @ z))
    assert found[0] > least
    assert found[1] == pytest.approx(least, rel=1e-9)


def test_the_rate_is_attained_along_the_weakest_eigenvector():
    """With λ_min(K) in place of its bound the rate of Corollary 9 is exact in the lazy regime."""
    base, _, w = wide_network(n=5, width=200)
    J = base.model.jacobian(w)
    values, vectors = np.linalg.eigh(J @ J.T)
    loss = gn.SquaredError(vectors[:, 0])
    problem = posed(gn.Scaled(base.model, 1e5), loss)
    for kappa in (1.0, 0.3):
        flow = integrate(problem, w, 2.0, method="dop853", damping=Adaptive(kappa))
        rate = -np.polyfit(flow.times, np.log(flow.costs), 1)[0]
        assert rate == pytest.approx(2 * (1 + kappa * values[0]) / (1 + kappa), rel=1e-3)


@pytest.mark.parametrize("kind", ["kernel", "curvature"])
@pytest.mark.parametrize("kappa", [1.0, 0.3])
def test_rate_envelopes_of_a_general_loss_at_the_threshold(kind, kappa):
    """Theorem 10: the rate of (16) everywhere; that of (17) near the minimum, whatever ν."""
    base, y, w = wide_network(n=5, width=200)
    loss = gn.StronglyConvex(gn.Logistic(1.0 * (y > 0)), 0.05)
    lambda0, L = constants(base, y, loss)
    psi = np.zeros(5)
    for _ in range(50):
        psi = psi - loss.hessian_solve(psi, loss.gradient(psi))
    minimum = float(loss.value(psi))
    delta0 = gap(loss, np.zeros(5), minimum)
    alpha = L * np.sqrt(2 * delta0 * loss.mu) / (loss.nu * lambda0**2)
    problem = posed(gn.Scaled(base.model, alpha), loss, gn.GeneralizedGaussNewtonMetric(loss, 0.5))
    schedule = CurvatureAware(kind, kappa)
    flow = integrate(problem, w, 8.0, method="dop853", damping=schedule)
    assert flow.exit_time(lambda0 / L) == np.inf
    gaps = flow.costs - minimum
    if kind == "kernel":
        envelope = delta0 * np.exp(-2 * loss.nu / (loss.mu * (1 + kappa)) * flow.times)
        assert np.all(gaps <= envelope * (1 + 1e-6))
        return
    A = np.column_stack([loss.hessian_product(psi, e) for e in np.eye(5)])
    root = np.sqrt(A)
    J = base.model.jacobian(flow.parameters[-1])
    smallest = np.linalg.eigvalsh(root @ J @ J.T @ root)[0]
    late = (gaps > 1e-9) & (flow.times > 3)
    rate = -np.polyfit(flow.times[late], np.log(gaps[late]), 1)[0]
    assert rate >= 2 * (1 + kappa * smallest) / (1 + kappa) * (1 - 1e-2)


# schedules


def test_schedules_are_the_papers_formulas():
    model, y, w = wide_network(alpha=4.0)
    loss = gn.StronglyConvex(gn.Logistic(1.0 * (y > 0)), 0.1)
    lin = gn.Linearization(model, w)
    D = model.jacobian(w) / 4.0
    K = np.linalg.eigvalsh(D @ D.T)[0]
    A = np.diag(loss.hessian_product(lin.psi, np.ones(6)))
    B = np.linalg.eigvalsh(np.sqrt(A) @ D @ D.T @ np.sqrt(A))[0]
    rows = (
        (Constant(0.3), 0.3),
        (Adaptive(2.0), 2 * K / (1 + 2 * K)),
        (DataBased(2.0).start(lin, loss), 2 * K / (1 + 2 * K)),
        (CurvatureAware("kernel", 2.0), 0.7 * K / (1 + 0.7 * K)),
        (CurvatureAware("curvature", 2.0), 2 * B / (1 + 2 * B)),
    )
    for schedule, wanted in rows:
        assert schedule.rho(lin, loss) == pytest.approx(wanted, rel=1e-9), schedule


def test_fewer_parameters_than_outputs_means_no_damping():
    model = network()
    w = model.initial_parameters
    lin, loss = gn.Linearization(model, w), gn.SquaredError(np.ones(model.num_outputs))
    for schedule in (Adaptive(), DataBased(), CurvatureAware(), CurvatureAware("curvature")):
        assert schedule.start(lin, loss).rho(lin, loss) == 0.0
    flow = integrate(posed(model, loss, gn.GaussNewtonMetric(0.2)), w, 0.1, damping=Adaptive())
    undamped = integrate(posed(model, loss, gn.GaussNewtonMetric()), w, 0.1)
    np.testing.assert_array_equal(flow.parameters, undamped.parameters)


def test_a_switch_looks_at_the_point():
    model, y, w = wide_network()
    loss = gn.SquaredError(y)
    switch = Switch(Constant(0.9), Constant(0.0), 0.5)
    flow = integrate(posed(model, loss), w, 4.0, step=0.05, damping=switch)
    slopes = np.linalg.norm(flow.outputs - y, axis=1)
    np.testing.assert_array_equal(flow.damping == 0.0, slopes <= 0.5 * slopes[0])
    assert set(flow.damping) == {0.9, 0.0}
    own = Switch(Constant(0.9), Constant(0.0), lambda lin, loss: loss.value(lin.psi) < 0.1)
    flow = integrate(posed(model, loss), w, 4.0, step=0.05, damping=own)
    np.testing.assert_array_equal(flow.damping == 0.0, flow.costs < 0.1)
    with pytest.raises(gn.ArgumentError, match="call start"):
        switch.rho(gn.Linearization(model, w), loss)


def test_schedules_refuse_what_they_cannot_use():
    for build in (
        lambda: Constant(1.5),
        lambda: Adaptive(0.0),
        lambda: CurvatureAware("other"),
        lambda: Switch("strong", Constant(0.0)),
        lambda: Switch(Constant(0.1), Constant(0.0), 2.0),
        lambda: GaussNewton(damping="strong"),
        lambda: GaussNewton(damping=-0.1),
    ):
        with pytest.raises(gn.ArgumentError):
            build()
    model, y, w = wide_network()
    loss = gn.Poisson(np.abs(np.round(y)))
    with pytest.raises(gn.ArgumentError, match="curvature without bound"):
        integrate(posed(model, loss), w, 1.0, damping=CurvatureAware())


def test_damping_of_a_softmax_with_a_prior():
    """Its root has as many rows as outputs: (17), and ρ = 0, see the kernel and nothing else."""
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(rng.standard_normal((4, 3)), 12, outputs=3, rng=rng)
    loss, w = gn.StronglyConvex(gn.Softmax([0, 1, 2, 1], 3), 0.2), net.initial_parameters
    lin, J = gn.Linearization(net, w), net.jacobian(w)
    A = np.column_stack([loss.hessian_product(lin.psi, e) for e in np.eye(12)])
    values, vectors = np.linalg.eigh(A)
    root = (vectors * np.sqrt(values)) @ vectors.T
    smallest = np.linalg.eigvalsh(root @ J @ J.T @ root)[0]
    rho = CurvatureAware("curvature", 2.0).rho(lin, loss)
    assert rho == pytest.approx(2 * smallest / (1 + 2 * smallest), rel=1e-8)
    metric = gn.GeneralizedGaussNewtonMetric(loss, 0.5)
    flow = integrate(posed(net, loss, metric), w, 1.0, method="dop853", damping=0.0)
    gradients = np.array([loss.gradient(psi) for psi in flow.outputs])
    np.testing.assert_allclose(
        gradients, np.exp(-flow.times)[:, None] * gradients[0], rtol=0, atol=1e-8
    )


# what can go wrong


def test_a_flow_that_ends_early_records_where():
    model = gn.CallableModel(np.sqrt, 1, jacobian=lambda w: np.diag(0.5 / np.sqrt(w)))
    problem = posed(model, gn.SquaredError([-1.0]), gn.GaussNewtonMetric())
    times = []
    for every in (1, 7, 1000):
        flow = integrate(problem, np.array([1.0]), 5.0, step=0.01, every=every)
        assert not flow.finished
        times.append(flow.times[-1])
    assert times[0] == times[1] == times[2] > 0


def test_reasons_of_the_integrators_are_the_models():
    def f(w):
        if w[0] < 0.3:
            raise ValueError("the pump cannot run dry")
        return w

    model = gn.CallableModel(f, 1, jacobian=lambda w: np.eye(1))
    problem = posed(model, gn.SquaredError([0.0]), gn.GaussNewtonMetric())
    for method in ("euler", "rk45", "dop853"):
        flow = integrate(problem, np.array([1.0]), 5.0, method=method)
        assert flow.end.endswith("the pump cannot run dry")
        assert 0.3 <= flow.parameters[-1][0] < 1.0


def test_a_flat_start_stays():
    model = gn.AutogradModel(lambda w: anp.array([w[0] ** 2, w[1] ** 2, w[0] * w[1]]), 2)
    for metric in (gn.EuclideanMetric(), gn.GaussNewtonMetric(0.5)):
        problem = posed(model, gn.SquaredError(np.ones(3)), metric)
        for method in ("euler", "dop853"):
            flow = integrate(problem, np.zeros(2), 1.0, method=method, step=0.5)
            assert flow.finished
            assert flow.stability_limit == np.inf
            np.testing.assert_array_equal(flow.parameters[-1], 0)


def test_short_times_and_long_steps():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    flow = integrate(problem, w, 1e-12, damping=0.0)
    assert flow.times[-1] == 1e-12
    limit = integrate(problem, w, 0.01, damping=1.0).stability_limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the only step is a short one
        integrate(problem, w, limit / 2, step=2 * limit, damping=1.0)


def test_tolerances_are_those_of_the_displacement():
    """A start a million times as far from zero as from the end: w - w(0) is right to rtol."""
    offset = 1e6 * np.array([1.0, -2.0, 0.5])
    model = gn.CallableModel(
        lambda w: np.sinh(w - offset), 3, jacobian=lambda w: np.diag(np.cosh(w - offset))
    )
    y = np.array([1.0, 2.0, -0.5])
    problem = posed(model, gn.SquaredError(y), gn.GaussNewtonMetric())
    flow = integrate(problem, offset, 3.0, method="dop853")
    exact = np.arcsinh(y * (1 - np.exp(-3.0)))
    np.testing.assert_allclose(flow.parameters[-1] - offset, exact, rtol=1e-8)


def test_parameters_of_small_size_are_followed_too():
    """Tolerances are relative: a parameter that starts at zero and stays below 1e-9."""
    t = np.linspace(0.1, 1, 5)
    model = gn.CallableModel(
        lambda w: np.sinh(1e10 * w[0] * t),
        1,
        jacobian=lambda w: (1e10 * t * np.cosh(1e10 * w[0] * t))[:, None],
    )
    problem = posed(model, gn.SquaredError(np.sinh(2 * t)), gn.GaussNewtonMetric())
    loose, tight = (
        integrate(problem, np.zeros(1), 2.0, method="dop853", rtol=rtol).parameters[-1]
        for rtol in (1e-9, 1e-12)
    )
    np.testing.assert_allclose(loose, tight, rtol=1e-7)


def test_bad_arguments():
    model, y, w = wide_network()
    problem = posed(model, gn.SquaredError(y))
    for wrong in (
        {"t_final": 0.0},
        {"step": -1.0},
        {"method": "heun"},
        {"every": 0},
        {"damping": 2.0},
        {"w0": w[:3]},
        {"w0": np.full_like(w, np.nan)},
    ):
        arguments = {"w0": w, "t_final": 1.0, **wrong}
        with pytest.raises(gn.ArgumentError):
            integrate(problem, arguments.pop("w0"), arguments.pop("t_final"), **arguments)
    euclidean = posed(model, gn.SquaredError(y), gn.EuclideanMetric())
    with pytest.raises(gn.ArgumentError, match="the manifold has EuclideanMetric"):
        integrate(euclidean, w, 1.0, damping=0.5)


@pytest.mark.parametrize("method", ["euler", "rk45"])
def test_a_flow_that_cannot_go_on_says_where(method):
    """The square root ends at zero, where the model is no longer defined."""
    model = gn.CallableModel(np.sqrt, 1, jacobian=lambda w: np.diag(0.5 / np.sqrt(w)))
    problem = posed(model, gn.SquaredError([-1.0]), gn.GaussNewtonMetric())
    flow = integrate(problem, np.array([1.0]), 5.0, method=method, step=0.1)
    assert not flow.finished
    assert flow.end.startswith("Stopped at t = ")
    assert 0 < flow.times[-1] < 5
    assert np.all(np.isfinite(flow.costs))


def test_an_interrupted_flow_returns_what_it_has():
    model, y, w = wide_network()
    calls = iter(range(5))

    class Tired(type(model)):
        def __call__(self, w):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return super().__call__(w)

    tired = Tired(model.model, 1.0)
    for method in ("euler", "rk45"):
        calls = iter(range(12))
        flow = integrate(posed(tired, gn.SquaredError(y)), w, 10.0, method=method)
        assert flow.end.startswith("Stopped: interrupted")
        assert 1 <= len(flow.times) <= 12


def test_progress_bar(capsys):
    model, y, w = wide_network()
    integrate(posed(model, gn.SquaredError(y)), w, 0.1, progress=True)
    assert "100%" in capsys.readouterr().err
    integrate(posed(model, gn.SquaredError(y)), w, 0.1)
    assert capsys.readouterr().err == ""
