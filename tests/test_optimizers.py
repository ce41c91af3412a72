import warnings
from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from zoo import linear, network, rank_deficient, saturation, targets

import gnmanifold as gn
from gnmanifold.optimizers import (
    BackTracking,
    ConstantStep,
    GaussNewton,
    StopReason,
    TrustRegions,
    UnitStep,
)

QUIET = {"verbosity": 0}


def both(model, **options):
    return gn.OutputManifold(model, **options), gn.ParameterManifold(model, **options)


def rosenbrock():
    return gn.AutogradModel(
        lambda w: anp.array([10 * (w[1] - w[0] ** 2), 1 - w[0], 0.1 * w[0] * w[1]]), 2
    )


CASES = {
    "network": (network, None, 0.3),
    "saturation": (saturation, (2.5, 0.8, 0.3), 0.3),
    "rosenbrock": (rosenbrock, (-0.5, 1.0), 0.1),
}


@pytest.fixture(params=CASES)
def case(request):
    build, start, noise = CASES[request.param]
    model = build()
    w = model.initial_parameters if start is None else np.array(start)
    return model, w, targets(model, w + 0.2, noise)


class Recording(gn.CompositeProblem):
    """A problem that writes down the cost of each point whose gradient a solver asks for."""

    def _evaluate_gradient(self, point):
        self.costs.append(float(self.cost(point)))
        return super()._evaluate_gradient(point)


def costs_of(solver, manifold, model, w, y, **options):
    problem = Recording(manifold, gn.SquaredError(y))
    problem.costs = []
    solver.run(problem, initial_point=manifold.point(w), **options)
    return np.array(problem.costs)


@pytest.mark.parametrize("retraction", ["first_order", "second_order"])
def test_both_manifolds_give_the_same_run(case, retraction):
    model, w, y = case
    for solver, options in (
        (
            pymanopt.optimizers.SteepestDescent(
                line_searcher=ConstantStep(0.2), max_iterations=15, **QUIET
            ),
            {},
        ),
        (pymanopt.optimizers.TrustRegions(max_iterations=12, **QUIET), {"mininner": 0}),
        (TrustRegions(max_iterations=12, **QUIET), {}),
    ):
        runs = [
            costs_of(solver, manifold, model, w, y, **options)
            for manifold in both(model, retraction=retraction)
        ]
        assert len(runs[0]) == len(runs[1]) >= 3
        np.testing.assert_allclose(runs[0], runs[1], atol=1e-9 * runs[0][0], rtol=0)


@pytest.mark.parametrize("metric", [None, gn.GaussNewtonMetric(), gn.GaussNewtonMetric(0.1)])
@pytest.mark.parametrize("retraction", ["first_order", "second_order"])
@pytest.mark.parametrize(
    "solver",
    [
        pymanopt.optimizers.SteepestDescent(max_iterations=10, **QUIET),
        pymanopt.optimizers.ConjugateGradient(max_iterations=10, **QUIET),
        pymanopt.optimizers.ConjugateGradient(
            max_iterations=10, beta_rule="LiuStorey", line_searcher=BackTracking(), **QUIET
        ),
        pymanopt.optimizers.TrustRegions(max_iterations=10, **QUIET),
        TrustRegions(max_iterations=10, **QUIET),
        GaussNewton(BackTracking(), max_iterations=10, **QUIET),
    ],
    ids=str,
)
def test_one_jacobian_and_one_factorization_for_each_accepted_point(
    case, solver, metric, retraction
):
    model, w, y = case
    manifold = (
        gn.OutputManifold(model, retraction=retraction)
        if metric is None
        else gn.ParameterManifold(model, metric, retraction=retraction)
    )
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    accepted = set()

    original = problem.riemannian_gradient

    def gradient(point):
        accepted.add(np.asarray(getattr(point, "parameters", point)).tobytes())
        return original(point)

    problem._riemannian_gradient = gradient
    options = {"mininner": 0} if type(solver) is pymanopt.optimizers.TrustRegions else {}
    start = manifold.point(w)
    before = replace(manifold.evaluations)
    solver.run(problem, initial_point=start, **options)
    after = manifold.evaluations
    assert len(accepted) > 2
    assert after.jacobians - before.jacobians == len(accepted)
    # Gauss-Newton factors J itself, and that is not the root of a damped metric
    roots = 2 if metric == gn.GaussNewtonMetric(0.1) and isinstance(solver, GaussNewton) else 1
    steps = len(accepted) - 1 if roots == 2 else 0
    assert after.factorizations - before.factorizations == len(accepted) + steps


def lstsq_loop(model, w, y, steps):
    iterates = [w]
    for _ in range(steps):
        w = w - np.linalg.lstsq(model.jacobian(w), model(w) - y, rcond=None)[0]
        iterates.append(w)
    return np.array(iterates)


@pytest.mark.parametrize("name", ["saturation", "rosenbrock"])
def test_unit_step_descent_and_gauss_newton_are_the_lstsq_loop(name):
    build, start, noise = CASES[name]
    model, w = build(), np.array(start)
    y = targets(model, w + 0.1, 0.01 * noise)
    expected = lstsq_loop(model, w, y, 8)
    exact = {"max_iterations": 8, "min_gradient_norm": 0.0, "min_step_size": 0.0, **QUIET}
    manifold = gn.ParameterManifold(model)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    descent = pymanopt.optimizers.SteepestDescent(
        line_searcher=UnitStep(), log_verbosity=1, **exact
    ).run(problem, initial_point=manifold.point(w))
    ours = GaussNewton(**exact).run(problem, initial_point=w)
    points = [*descent.log["iterations"]["point"], descent.point]
    for got in (points, ours.log["iterations"]["point"]):
        error = np.linalg.norm(np.array(got) - expected, axis=1)
        assert np.max(error / np.linalg.norm(expected, axis=1)) <= 1e-12
    surface = gn.OutputManifold(model)
    on_surface = GaussNewton(**exact).run(
        gn.CompositeProblem(surface, gn.SquaredError(y)), initial_point=w
    )
    got = [point.parameters for point in on_surface.log["iterations"]["point"]]
    np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_a_constant_weight_cancels_in_gauss_newton_only():
    model, w = saturation(), np.array([2.5, 0.8, 0.3])
    y = targets(model, w + 0.1, 0.003)
    expected = lstsq_loop(model, w, y, 1)[1]
    manifold = gn.ParameterManifold(model)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y, weight=2.0))
    ours = GaussNewton(max_iterations=1, **QUIET).run(problem, initial_point=w)
    np.testing.assert_allclose(ours.point, expected, rtol=1e-12)
    halved = pymanopt.optimizers.SteepestDescent(
        line_searcher=ConstantStep(0.5), max_iterations=1, **QUIET
    ).run(problem, initial_point=w)
    np.testing.assert_allclose(halved.point, expected, rtol=1e-12)


def test_gauss_newton_with_a_curved_loss_solves_its_normal_equations():
    model, w = network(), network().initial_parameters + 0.1
    loss = gn.StronglyConvex(gn.Logistic(np.arange(20) % 2), 0.1)
    manifold = gn.ParameterManifold(model)
    problem = gn.CompositeProblem(manifold, loss)
    result = GaussNewton(max_iterations=1, **QUIET).run(problem, initial_point=w)
    J, psi = model.jacobian(w), model(w)
    A = np.column_stack([loss.hessian_product(psi, unit) for unit in np.eye(20)])
    step = np.linalg.solve(J.T @ A @ J, J.T @ loss.gradient(psi))
    np.testing.assert_allclose(result.point, w - step, rtol=1e-9)


def test_gauss_newton_takes_minimum_norm_steps_without_full_rank():
    X = np.random.default_rng(0).standard_normal((5, 3))
    wide = gn.FeedforwardNetwork(X, (8,), rng=1)
    w = wide.initial_parameters
    y = np.linspace(-0.1, 0.1, 5)
    for model, start, goal, rank in (
        (wide, w, y, 5),
        (rank_deficient(), np.array([0.3, 0.1]), np.array([0.5, 0.2, 0.4]), 1),
    ):
        manifold = gn.ParameterManifold(model, gn.EuclideanMetric())
        problem = gn.CompositeProblem(manifold, gn.SquaredError(goal))
        result = GaussNewton(max_iterations=1, **QUIET).run(problem, initial_point=start)
        step = -np.linalg.pinv(model.jacobian(start), rcond=1e-12) @ (model(start) - goal)
        np.testing.assert_allclose(result.point, start + step, rtol=1e-11)
        assert result.log["iterations"]["rank"][-1] == rank
    result = GaussNewton(max_iterations=20, min_gradient_norm=1e-13, **QUIET).run(
        gn.CompositeProblem(gn.ParameterManifold(wide, gn.EuclideanMetric()), gn.SquaredError(y)),
        initial_point=w,
    )
    assert result.cost < 1e-20


@pytest.mark.parametrize(
    "solver", [TrustRegions(**QUIET), pymanopt.optimizers.TrustRegions(**QUIET)]
)
def test_trust_regions_solve_a_linear_model_in_three_iterations(solver):
    model = linear()
    y = np.random.default_rng(3).standard_normal(7)
    best = np.linalg.lstsq(model.jacobian(np.zeros(3)), y, rcond=None)[0]
    options = {} if isinstance(solver, TrustRegions) else {"mininner": 0}
    for manifold in both(model):
        for start in (np.zeros(3), np.array([1.0, -2.0, 0.5])):
            problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
            result = solver.run(problem, initial_point=manifold.point(start), **options)
            assert result.iterations <= 3
            found = getattr(result.point, "parameters", result.point)
            np.testing.assert_allclose(found, best, rtol=1e-10)


def test_pymanopts_own_trust_regions_step_to_nan_without_mininner():
    """Why the README passes mininner=0: the second inner iteration is 0/0."""
    J = np.eye(3)[:, :2]  # rounds nowhere, so that the first inner iteration is exact
    model = gn.CallableModel(lambda w: J @ w, 2, jacobian=lambda w: J)
    manifold = gn.ParameterManifold(model)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(np.ones(3)))
    solver = pymanopt.optimizers.TrustRegions(max_iterations=3, **QUIET)
    seen = []
    cost = problem._cost
    problem._cost = lambda point: seen.append(np.isnan(point).any()) or cost(point)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the 0/0 itself
        solver.run(problem, initial_point=manifold.point(np.zeros(2)))
    assert any(seen)
    seen.clear()
    solver.run(problem, initial_point=manifold.point(np.zeros(2)), mininner=0)
    assert not any(seen)


def test_trust_regions_log_every_iteration():
    model, w = saturation(), np.array([2.5, 0.8, 0.3])
    y = targets(model, w + 0.5)
    manifold = gn.OutputManifold(model, retraction="second_order")
    result = TrustRegions(**QUIET).run(
        gn.CompositeProblem(manifold, gn.SquaredError(y)), initial_point=w
    )
    log = result.log["iterations"]
    assert log["iteration"] == list(range(result.iterations + 1))
    assert log["cost"][-1] == result.cost
    assert log["gradient_norm"][-1] == result.gradient_norm < 1e-6
    assert set(log["inner_stop"][1:]) <= set(TrustRegions.TCG_STOP_REASONS.values())
    for name in ("radius", "rho", "accepted", "inner_iterations", "values", "jacobians"):
        assert len(log[name]) == result.iterations + 1
    assert all(np.diff([c for c, ok in zip(log["cost"], log["accepted"], strict=True) if ok]) <= 0)
    assert result.evaluations.jacobians == 1 + sum(log["accepted"][1:])
    assert result.stopping_criterion == StopReason.GRADIENT.value


def test_trust_regions_take_pymanopts_radii_and_any_manifold():
    sphere = pymanopt.manifolds.Sphere(6)
    A = np.diag(np.arange(1.0, 7.0))

    @pymanopt.function.autograd(sphere)
    def cost(x):
        return x @ A @ x

    start = np.ones(6) / np.sqrt(6)
    result = TrustRegions(**QUIET).run(
        pymanopt.Problem(sphere, cost), initial_point=start, Delta_bar=1.0, Delta0=0.1, maxinner=5
    )
    assert result.log["iterations"]["radius"][0] == 0.1
    assert result.cost == pytest.approx(1.0, abs=1e-10)
    assert result.evaluations is None
    with pytest.raises(gn.ArgumentError, match="Delta0"):
        TrustRegions().run(pymanopt.Problem(sphere, cost), Delta0=-1.0)


def test_trust_regions_on_the_quickstart_problem_reach_the_published_cost():
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(256, rng)
    model = gn.Scaled(gn.FeedforwardNetwork(X, (18,), normalization="none", rng=rng), 16.0)
    assert 0.5 * y @ y == pytest.approx(819.687, abs=1e-3)
    manifold = gn.OutputManifold(model, retraction="second_order")
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    result = TrustRegions(**QUIET).run(problem, initial_point=model.initial_parameters)
    assert result.cost == pytest.approx(30.6694, abs=5e-5)
    erratic = GaussNewton(max_iterations=5, **QUIET).run(
        gn.CompositeProblem(gn.OutputManifold(model), gn.SquaredError(y)),
        initial_point=model.initial_parameters,
    )
    np.testing.assert_allclose(
        erratic.log["iterations"]["cost"][1:4], [747.98, 288.42, 88.10], atol=5e-3
    )


def exploding():
    """A model that is NaN beyond w = 1 and steep enough that full steps get there."""

    def f(w):
        with np.errstate(invalid="ignore"):
            return np.array([np.sqrt(1 - w[0]), w[0] ** 2])

    return gn.CallableModel(
        f, 1, 2, jacobian=lambda w: np.array([[-0.5 / np.sqrt(1 - w[0])], [2 * w[0]]])
    )


def test_line_searches_refuse_costs_that_are_not_finite():
    for manifold in both(exploding()):
        problem = gn.CompositeProblem(manifold, gn.SquaredError([0.0, 0.0]))
        x = manifold.point([0.2])
        d = -problem.riemannian_gradient(x) * 50
        f0 = problem.cost(x)
        df0 = manifold.inner_product(x, problem.riemannian_gradient(x), d)
        assert np.isnan(problem.cost(manifold.retraction(x, d)))
        length, same = UnitStep().search(problem.cost, manifold, x, d, f0, df0)
        assert length == 0.0
        assert same is x
        length, moved = BackTracking().search(problem.cost, manifold, x, d, f0, df0)
        assert 0 < length < manifold.norm(x, d)
        assert problem.cost(moved) < f0


def test_line_searches_stay_at_a_minimizer():
    model = linear()
    y = model(np.ones(3))
    manifold = gn.ParameterManifold(model)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    for search in (UnitStep(), ConstantStep(0.5), BackTracking()):
        solver = pymanopt.optimizers.SteepestDescent(line_searcher=search, **QUIET)
        result = solver.run(problem, initial_point=manifold.point(np.ones(3)))
        np.testing.assert_array_equal(result.point, np.ones(3))
    for solver in (TrustRegions(**QUIET), GaussNewton(**QUIET)):
        result = solver.run(problem, initial_point=np.ones(3))
        assert result.iterations == 0
        assert result.stopping_criterion == StopReason.GRADIENT.value


def test_optimizers_accept_either_kind_of_point():
    model = network()
    y = targets(model, model.initial_parameters + 0.1)
    surface, parameters = both(model)
    w = model.initial_parameters
    for manifold in (surface, parameters):
        problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
        for start in (w, list(w), surface.point(w)):
            result = GaussNewton(max_iterations=2, **QUIET).run(problem, initial_point=start)
            assert result.cost == pytest.approx(result.log["iterations"]["cost"][-1])


def run(manifold, y=None, solver=None, start=None, **options):
    y = np.zeros(manifold.model.num_outputs) if y is None else y
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    return (solver or GaussNewton(**QUIET)).run(problem, initial_point=start, **options)


def test_bad_starts_are_refused_before_any_step():
    model = exploding()
    for manifold in both(model):
        with pytest.raises(gn.NonFiniteError, match="output 0 is nan"):
            run(manifold, start=[2.0])
        with pytest.raises(gn.NonFiniteError, match=r"w\[0\] is nan"):
            run(manifold, start=[np.nan])
        with pytest.raises(gn.ShapeError, match="w must have shape"):
            run(manifold, start=[1.0, 2.0])
    with pytest.raises(gn.RankDeficientError):
        run(gn.OutputManifold(rank_deficient()), start=[0.1, 0.2])
    with pytest.raises(gn.ShapeError, match="3 targets, the model 20 outputs"):
        gn.CompositeProblem(gn.OutputManifold(network()), gn.SquaredError(np.ones(3)))
    with pytest.raises(gn.ArgumentError, match="loss must be"):
        gn.CompositeProblem(gn.OutputManifold(network()), np.ones(20))
    with pytest.raises(gn.ArgumentError, match="manifold must be"):
        gn.CompositeProblem(pymanopt.manifolds.Sphere(3), gn.SquaredError(np.ones(3)))
    sphere = pymanopt.manifolds.Sphere(3)
    plain = pymanopt.Problem(sphere, pymanopt.function.autograd(sphere)(lambda x: x[0]))
    with pytest.raises(gn.ArgumentError, match="GaussNewton needs a CompositeProblem"):
        GaussNewton().run(plain)


def test_limits_end_a_run_with_their_reason():
    model = network()
    manifold = gn.OutputManifold(model)
    y = targets(model, model.initial_parameters + 0.3)
    w = model.initial_parameters
    for limits, reason in (
        ({"max_iterations": 2}, StopReason.ROSE),
        ({"max_time": 1e-9}, StopReason.TIME),
        ({"max_cost_evaluations": 2}, StopReason.EVALUATIONS),
        ({"min_step_size": 1e6}, StopReason.STEP),
        ({"min_gradient_norm": 1e6}, StopReason.GRADIENT),
    ):
        result = run(manifold, y, GaussNewton(**limits, **QUIET), w)
        assert result.stopping_criterion == reason.value
    for name in ("max_time", "max_iterations", "min_gradient_norm", "max_cost_evaluations"):
        with pytest.raises(gn.ArgumentError, match=name):
            GaussNewton(**{name: -1})


def test_an_interrupted_run_returns_its_best_point():
    model = network()
    y = targets(model, model.initial_parameters + 0.3)

    def interrupt(state):
        if state.iteration == 3:
            raise KeyboardInterrupt

    result = run(gn.OutputManifold(model), y, start=model.initial_parameters, callback=interrupt)
    assert result.stopping_criterion == StopReason.INTERRUPTED.value
    assert result.cost == min(result.log["iterations"]["cost"])
    assert len(result.log["iterations"]["cost"]) == 4


def test_a_failing_step_returns_the_best_point_with_the_reason():
    """The first full step ends where the Jacobian loses rank."""
    model = gn.CallableModel(
        lambda w: np.array([w[0], (w[1] - 1) ** 2, 0.0]),
        2,
        3,
        jacobian=lambda w: np.array([[1.0, 0], [0, 2 * (w[1] - 1)], [0, 0]]),
    )
    result = run(gn.OutputManifold(model), [1.0, -1.0, 0.0], start=[0.0, 2.0])
    assert result.stopping_criterion.startswith(StopReason.FAILED.value)
    assert "numerical rank is 1" in result.stopping_criterion
    assert np.isfinite(result.cost)


def test_verbosity_prints_rows_and_the_reason(capsys):
    model = saturation()
    y = targets(model, np.array([3.5, 1.0, 0.5]))
    run(gn.OutputManifold(model), y, GaussNewton(max_iterations=2), [3.0, 1.2, 0.5])
    printed = capsys.readouterr().out
    assert "Iteration" in printed
    assert StopReason.ITERATIONS.value in printed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantStep(0.0), "alpha"),
        (lambda: BackTracking(contraction=1.0), "contraction"),
        (lambda: BackTracking(sufficient_decrease=0.0), "sufficient_decrease"),
        (lambda: BackTracking(max_trials=0), "max_trials"),
        (lambda: TrustRegions(rho_prime=-1), "rho_prime"),
        (lambda: GaussNewton("backtracking"), "line_searcher must be an object"),
        (lambda: GaussNewton(BackTracking), "line_searcher must be an object"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(gn.ArgumentError, match=message):
        make()


def test_euclidean_gradients_of_composite_problems():
    model = saturation()
    y, w = np.ones(9), np.array([3.0, 1.2, 0.5])
    residual = model(w) - y
    surface, parameters = both(model)
    loss = gn.SquaredError(y)
    on_surface = gn.CompositeProblem(surface, loss).euclidean_gradient(surface.point(w))
    on_parameters = gn.CompositeProblem(parameters, loss).euclidean_gradient(w)
    np.testing.assert_allclose(on_surface, residual)
    np.testing.assert_allclose(on_parameters, model.jacobian(w).T @ residual)


def test_a_critical_point_above_the_start_is_not_called_convergence():
    """A full step lands on the flat shoulder of a saturating model, where the gradient vanishes."""
    model = gn.AutogradModel(lambda w: anp.array([anp.tanh(w[0]), 1e-9 * w[0]]), 1)
    manifold = gn.ParameterManifold(model, gn.EuclideanMetric())
    result = run(manifold, [0.0, 0.0], start=[1.5])
    assert result.stopping_criterion == StopReason.DIVERGED.value
    assert result.cost == min(result.log["iterations"]["cost"])
    careful = run(manifold, [0.0, 0.0], GaussNewton(BackTracking(), **QUIET), [1.5])
    assert careful.stopping_criterion == StopReason.GRADIENT.value
    assert careful.cost < 1e-15


class Edge(gn.ParameterManifold):
    """A manifold whose retraction ends at a distance of ½ from every point."""

    def retraction(self, point, tangent_vector):
        if self.norm(point, tangent_vector) > 0.5:
            raise gn.GeodesicError("the geodesic ends")
        return super().retraction(point, tangent_vector)


def test_trial_points_that_cannot_be_reached_are_refused():
    model = linear()
    y = np.random.default_rng(3).standard_normal(7)
    best = np.linalg.lstsq(model.jacobian(np.zeros(3)), y, rcond=None)[0]
    for solver in (GaussNewton(BackTracking(), **QUIET), TrustRegions(**QUIET)):
        result = run(Edge(model), y, solver, np.zeros(3))
        np.testing.assert_allclose(result.point, best, atol=1e-6)
        assert result.iterations > 3
    stuck = run(Edge(model), y, GaussNewton(**QUIET), np.zeros(3))
    assert stuck.stopping_criterion == StopReason.STEP.value


def test_results_are_short_to_read():
    text = repr(run(gn.OutputManifold(saturation()), start=[3.0, 1.2, 0.5]))
    assert len(text) < 300
    assert "cost=" in text


def test_a_run_survives_a_model_that_raises_on_the_way():
    def fails_beyond(w):
        if w[0] > 2.0:
            raise RuntimeError("the solver inside the model failed")
        return np.array([np.tanh(w[0]), w[0]])

    model = gn.CallableModel(fails_beyond, 1, jacobian=lambda w: np.array([[1e-3], [1e-3]]))
    result = run(gn.OutputManifold(model), [5.0, 5.0], start=[0.0])
    assert result.stopping_criterion.startswith(StopReason.FAILED.value)
    assert "the solver inside the model failed" in result.stopping_criterion
    assert result.iterations == 0


def test_a_better_point_is_kept_when_its_gradient_fails():
    """The full step solves the problem exactly, where the Jacobian vanishes."""
    model = gn.CallableModel(
        lambda w: np.array([(w[0] - 1) ** 2, 0.0]),
        1,
        jacobian=lambda w: np.array([[w[0] - 1], [0.0]]),  # half the derivative: a full step lands
    )
    result = run(gn.OutputManifold(model), start=[0.0])
    assert result.cost == 0.0
    assert result.log["iterations"]["cost"][-1] == 0.0
    assert "numerical rank is 0" in result.stopping_criterion


def test_what_a_problem_returns_is_the_users_to_change():
    model = saturation()
    manifold = gn.ParameterManifold(model)
    w = manifold.point([3.0, 1.2, 0.5])
    y = np.ones(9)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    y[:] = 7.0
    assert problem.cost(w) == pytest.approx(0.5 * np.sum((model(w) - 1) ** 2))
    gradient = problem.riemannian_gradient(w)
    first = gradient.copy()
    gradient *= 0
    np.testing.assert_array_equal(problem.riemannian_gradient(w), first)
    with pytest.raises(ValueError, match="read-only"):
        manifold.predictions(w)[0] = 1.0


def test_gradients_that_are_not_finite_are_typed_errors():
    model = gn.CallableModel(
        lambda w: np.array([w[0], w[0]]), 1, jacobian=lambda w: np.full((2, 1), np.nan)
    )
    for metric in (gn.EuclideanMetric(), gn.GaussNewtonMetric(), gn.GaussNewtonMetric(0.1)):
        with pytest.raises(gn.NonFiniteError):
            run(gn.ParameterManifold(model, metric), start=[1.0])
    explosive = gn.CompositeProblem(gn.OutputManifold(linear()), gn.Poisson(np.ones(7)))
    with pytest.raises(gn.NonFiniteError, match="cost at the initial point"):
        GaussNewton(**QUIET).run(explosive, initial_point=[1e5, 1e5, 1e5])
    bent = gn.CallableModel(
        lambda w: np.array([w[0], w[0] ** 2]),
        1,
        jacobian=lambda w: np.array([[1.0], [2 * w[0]]]),
        second_derivative=lambda w, a, b: np.array([np.nan, 2.0]),
    )
    result = run(
        gn.OutputManifold(bent),
        [1.0, 0.0],
        TrustRegions(max_iterations=3, **QUIET),
        [3.0],
        Delta0=1.0,
    )
    assert "weighted_hessian is nan" in result.stopping_criterion


def test_a_saturated_loss_is_named_as_the_reason():
    model = linear()
    manifold = gn.ParameterManifold(model)
    y = (np.arange(7) % 2).astype(float)
    problem = gn.CompositeProblem(manifold, gn.Logistic(y))
    result = GaussNewton(**QUIET).run(problem, initial_point=[1e6, 1e6, 1e6])
    assert result.iterations == 1
    assert "no curvature above rounding" in result.stopping_criterion
