"""Methods as metric and step: the equalities between them, and each against NumPy and SciPy."""

import tracemalloc
from itertools import islice

import autograd.numpy as anp
import numpy as np
import pymanopt
import pytest
from zoo import network, targets

import gnmanifold as gn
from gnmanifold.damping import Adaptive, ConstantLambda, DelayedGratification, TrustRadius
from gnmanifold.metrics.kronecker import kronecker_blocks
from gnmanifold.optimizers import (
    BFGS,
    KFAC,
    LBFGS,
    Adam,
    BackTracking,
    ConstantStep,
    FilteredNewton,
    GaussNewton,
    GradientDescent,
    HessianFree,
    LevenbergMarquardt,
    NaturalGradient,
    Newton,
    SharpnessAware,
    TrustRegions,
    UnitStep,
)
from gnmanifold.optimizers.hessian_free import conjugate_gradients
from gnmanifold.optimizers.newton import _krylov_solve

QUIET = {"verbosity": 0}
ONE = {"verbosity": 0, "max_iterations": 1, "min_gradient_norm": 0.0}


def posed(model, loss, metric=None, **options):
    metric = gn.EuclideanMetric() if metric is None else metric
    return gn.CompositeProblem(gn.ParameterManifold(model, metric, **options), loss)


def step_of(optimizer, problem, w):
    """Step that the optimizer takes first."""
    return optimizer.run(problem, initial_point=w).log["iterations"]["point"][1] - w


@pytest.fixture
def narrow():
    """Scaled network with 20 outputs and 12 parameters, targets and a starting point."""
    model = network()
    w = model.initial_parameters
    return model, targets(model, w + 0.3, 0.3), w


@pytest.fixture
def wide():
    """Network with 6 outputs and 45 parameters."""
    rng = np.random.default_rng(3)
    model = gn.FeedforwardNetwork(rng.standard_normal((6, 4)), (5, 5), centered=True, rng=rng)
    return model, rng.standard_normal(6), model.initial_parameters


LOSSES = {
    "squared error": gn.SquaredError,
    "logistic": lambda y: gn.Logistic(1.0 * (y > 0)),
    "poisson": lambda y: gn.Poisson(np.round(3 * y**2)),
}


# equalities between methods


def test_natural_gradient_of_squared_error_is_gauss_newton(narrow):
    model, y, w = narrow
    problem = posed(model, gn.SquaredError(y))
    ours, theirs = (step_of(o(**ONE), problem, w) for o in (NaturalGradient, GaussNewton))
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    np.testing.assert_allclose(
        ours, np.linalg.lstsq(model.jacobian(w), y - model(w), rcond=None)[0], rtol=1e-10
    )


def test_natural_gradient_of_a_robust_loss_has_a_constant_fisher_information(narrow):
    model, y, w = narrow
    loss = gn.PseudoHuber(y, 0.3)
    J, fisher = model.jacobian(w), loss.information.weight
    wanted = -np.linalg.solve(fisher * J.T @ J, J.T @ loss.gradient(model(w)))
    step = step_of(NaturalGradient(**ONE), posed(model, loss), w)
    np.testing.assert_allclose(step, wanted, rtol=1e-10)
    assert np.linalg.norm(step - step_of(GaussNewton(**ONE), posed(model, loss), w)) > 1e-2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", ["narrow", "wide"])
def test_damped_steps_are_steps_of_descent_in_the_damped_metrics(request, loss, size):
    model, y, w = request.getfixturevalue(size)
    loss = LOSSES[loss](y)
    rows = (
        (GaussNewton(damping=0.2, **ONE), gn.GeneralizedGaussNewtonMetric(loss, 0.2)),
        (NaturalGradient(damping=0.2, **ONE), gn.FisherMetric(loss, 0.2)),
    )
    J, z = model.jacobian(w), loss.gradient(model(w))
    A = np.column_stack([loss.hessian_product(model(w), e) for e in np.eye(len(y))])
    dense = -np.linalg.solve(0.8 * J.T @ A @ J + 0.2 * model.scale**2 * np.eye(len(w)), J.T @ z)
    for optimizer, metric in rows:
        step = step_of(optimizer, posed(model, loss), w)
        descent = step_of(GradientDescent(UnitStep(), **ONE), posed(model, loss, metric), w)
        np.testing.assert_allclose(step, descent, rtol=1e-12)
        np.testing.assert_allclose(step, dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_free_with_exact_conjugate_gradients_is_levenberg_marquardt(narrow, loss):
    model, y, w = narrow
    problem = posed(model, LOSSES[loss](y))
    exact = {"relative_progress": 0.0, "max_inner": 100, "backtracking": False}
    ours = step_of(HessianFree(ConstantLambda(0.5), **exact, **ONE), problem, w)
    theirs = step_of(
        LevenbergMarquardt(ConstantLambda(0.5), scaling=None, acceleration=0.0, offset=0.0, **ONE),
        problem,
        w,
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.linalg.norm(theirs))


def test_newton_is_unit_descent_in_the_hessian_metric(narrow):
    model, _, w = narrow
    loss = gn.SquaredError(targets(model, w + 0.02, 0.01))
    w = LevenbergMarquardt(**QUIET).run(posed(model, loss), initial_point=w).point + 0.01
    ours = step_of(Newton(**ONE), posed(model, loss), w)
    problem = posed(model, loss, gn.HessianMetric(loss))
    descent = step_of(GradientDescent(UnitStep(), **ONE), problem, w)
    np.testing.assert_allclose(ours, descent, rtol=1e-10)
    theirs = pymanopt.optimizers.SteepestDescent(line_searcher=UnitStep(), **ONE)
    np.testing.assert_allclose(theirs.run(problem, initial_point=w).point - w, ours, rtol=1e-9)


def dense_hessian(model, loss, w):
    J, psi = model.jacobian(w), model(w)
    A = np.column_stack([loss.hessian_product(psi, e) for e in np.eye(len(psi))])
    z = loss.gradient(psi)
    bend = np.column_stack([model.weighted_hessian(w, z, e) for e in np.eye(len(w))])
    return J.T @ A @ J + bend, J.T @ z


@pytest.mark.parametrize("size", ["narrow", "wide"])
@pytest.mark.parametrize("loss", LOSSES)
def test_newton_against_a_dense_solve(request, size, loss):
    model, y, w = request.getfixturevalue(size)
    loss = LOSSES[loss](y)
    H, slope = dense_hessian(model, loss, w)
    step = step_of(Newton(**ONE), posed(model, loss), w)
    assert np.linalg.norm(H @ step + slope) <= 1e-9 * np.linalg.norm(slope)
    if size == "narrow":
        np.testing.assert_allclose(step, -np.linalg.solve(H, slope), rtol=1e-7)


def test_newton_by_products_is_that_of_the_matrix(wide, monkeypatch):
    """A strongly convex cost, solved with products alone, and a singular Hessian."""
    rng = np.random.default_rng(0)
    A = np.vstack([rng.standard_normal((3, 8)), np.eye(8)])
    model = gn.AutogradModel(lambda x: A @ x + 0.1 * anp.sin(A @ x), 8)
    loss, w = gn.SquaredError(np.ones(11)), 0.1 * np.ones(8)
    dense = step_of(Newton(**ONE), posed(model, loss), w)
    H, slope = dense_hessian(model, loss, w)
    np.testing.assert_allclose(dense, -np.linalg.solve(H, slope), rtol=1e-10)
    lin = gn.Linearization(model, w)
    solution, residual = _krylov_solve(lin, loss, slope, 100)
    np.testing.assert_allclose(-solution, dense, rtol=1e-8)
    assert residual < 1e-9
    assert lin.counts.jacobians == 0
    monkeypatch.setattr("gnmanifold.optimizers.newton._DENSE", 0)
    # more parameters than outputs: a singular Hessian, of which products are all that is asked
    model, y, w = wide
    run = Newton(max_inner=40, **ONE).run(posed(model, gn.SquaredError(y)), initial_point=w)
    assert run.evaluations.jacobians == 0
    assert run.log["iterations"]["residual"][1] < 1
    for options in ({"saddle_free": True}, {"hessian": "riemannian"}):
        with pytest.raises(gn.ArgumentError, match="form p x p matrices"):
            Newton(**options, **ONE).run(posed(model, gn.SquaredError(y)), initial_point=w)
    # an incompatible system, whose solution of least norm is that of the pseudo-inverse
    bent = gn.AutogradModel(lambda v: anp.array([v[0] - v[0] ** 2 / 2 + 0 * v[2], v[1]]), 3)
    problem = posed(bent, gn.SquaredError([-1.0, 2.0]))
    step = step_of(Newton(**ONE), problem, np.zeros(3))
    np.testing.assert_allclose(step, [0, 2, 0], atol=1e-9)


def test_saddle_free_newton_descends_and_counts_negative_curvature(narrow):
    model, y, w = narrow
    loss = gn.SquaredError(-3 * y)
    run = Newton(BackTracking(), saddle_free=True, **QUIET).run(posed(model, loss), initial_point=w)
    H, _ = dense_hessian(model, loss, w)
    negative = run.log["iterations"]["negative"]
    assert negative[1] == np.sum(np.linalg.eigvalsh(H) < 0) > 0
    assert negative[-1] == 0
    assert run.stopping_criterion.startswith("Converged")
    assert np.all(np.diff(run.log["iterations"]["cost"]) <= 0)


def test_riemannian_newton_is_quadratic_on_the_prediction_surface(narrow):
    model, y, w = narrow
    surface = gn.OutputManifold(model, retraction="second_order")
    problem = gn.CompositeProblem(surface, gn.SquaredError(y))
    near = LevenbergMarquardt(**QUIET).run(problem, initial_point=w)
    start = surface.point(near.point.parameters + 1e-2)
    run = Newton(hessian="riemannian", min_gradient_norm=1e-9, **QUIET).run(
        problem, initial_point=start
    )
    assert run.iterations <= 6
    np.testing.assert_allclose(run.cost, near.cost, rtol=1e-12)
    norms = np.array(run.log["iterations"]["gradient_norm"])
    assert norms[-1] <= 50 * norms[-2] ** 2 + 1e-13


# filtered Newton


def morse_bott(dimension, rank, seed):
    """½|φ|² with a submersion φ: the minima are a manifold of codimension `rank`; a minimizer."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, rank, dimension))
    x0 = rng.standard_normal(dimension)
    shift = A @ x0 + 0.5 * np.sin(B @ x0)
    return gn.AutogradModel(lambda x: A @ x + 0.5 * anp.sin(B @ x) - shift, dimension), x0


def test_filtered_newton_is_the_gauss_newton_step_up_to_the_distance():
    """Relative difference from the least-norm Gauss-Newton step of order one in the distance."""
    distances = np.array([1e-1, 1e-2, 1e-3, 1e-4])
    medians = []
    for distance in distances:
        errors = []
        for seed in range(12):
            model, x0 = morse_bott(8, 3, seed)
            direction = np.random.default_rng(100 + seed).standard_normal(8)
            w = x0 + distance * direction / np.linalg.norm(direction)
            problem = posed(model, gn.SquaredError(np.zeros(3)))
            wanted = -np.linalg.pinv(model.jacobian(w)) @ model(w)
            step = step_of(FilteredNewton(rank=3, **ONE), problem, w)
            errors.append(np.linalg.norm(step - wanted) / np.linalg.norm(wanted))
        medians.append(np.median(errors))
    slope = np.polyfit(np.log(distances), np.log(medians), 1)[0]
    assert 0.9 <= slope <= 1.1
    assert medians[2] < 1e-2


@pytest.mark.parametrize("options", [{"rank": 4}, {"tolerance": 0.05}])
def test_filtered_newton_by_lanczos_is_that_of_all_eigenvalues(narrow, options, monkeypatch):
    model, y, w = narrow
    loss = gn.SquaredError(y)
    H, slope = dense_hessian(model, loss, w)
    values, vectors = np.linalg.eigh(H)
    keep = values > 0.05 * values[-1] if "tolerance" in options else np.arange(len(w)) >= len(w) - 4
    wanted = -vectors[:, keep] @ ((vectors[:, keep].T @ slope) / values[keep])
    dense = step_of(FilteredNewton(**options, **ONE), posed(model, loss), w)
    monkeypatch.setattr("gnmanifold.metrics.filtered._DENSE", 3)
    monkeypatch.setattr("gnmanifold.metrics.filtered._FIRST_GUESS", 2)
    lanczos = step_of(FilteredNewton(**options, **ONE), posed(model, loss), w)
    for step in (dense, lanczos):
        np.testing.assert_allclose(step, wanted, rtol=0, atol=1e-10 * np.linalg.norm(wanted))
    metric = gn.FilteredHessianMetric(loss, **options)
    np.testing.assert_array_equal(
        lanczos, step_of(GradientDescent(UnitStep(), **ONE), posed(model, loss, metric), w)
    )


def test_filtered_hessian_says_what_it_cannot_do(narrow):
    model, y, w = narrow
    with pytest.raises(gn.ArgumentError, match="either rank, or tolerance"):
        FilteredNewton(rank=2, tolerance=0.1)
    with pytest.raises(gn.ShapeError, match="rank = 99"):
        gn.ParameterManifold(model, gn.FilteredHessianMetric(gn.SquaredError(y), rank=99))
    with pytest.raises(gn.NotAnImmersionError):
        gn.ParameterManifold(
            model, gn.FilteredHessianMetric(gn.SquaredError(y), rank=3)
        ).sectional_curvature(w, w, w + 1)
    hill = gn.AutogradModel(lambda v: anp.array([-(v[0] ** 2) - v[1] ** 2 + 10.0]), 2)
    with pytest.raises(gn.IndefiniteError):
        gn.FilteredHessianMetric(gn.SquaredError(np.zeros(1)), rank=1).at(
            gn.Linearization(hill, np.zeros(2))
        ).raise_index(np.ones(2))


# K-FAC


def fisher(model, loss, w):
    J, psi = model.jacobian(w), model(w)
    root = loss.information.hessian_root(psi, J)
    return root.T @ root


@pytest.mark.parametrize("split", ["factored", "exact"])
def test_kfac_is_the_fisher_metric_of_a_single_linear_layer(split):
    rng = np.random.default_rng(0)
    net = gn.FeedforwardNetwork(
        rng.standard_normal((9, 3)), 4, activation="identity", outputs=8, rng=1
    )
    w, a = net.initial_parameters, rng.standard_normal(12)
    model = gn.Scaled(net, 2.0)
    loss = gn.SquaredError(rng.standard_normal(72), 3.0)
    F = fisher(model, loss, w)
    tensor = gn.KroneckerFactoredMetric(loss, split=split).at(gn.Linearization(model, w))
    np.testing.assert_allclose(tensor.lower(a), F @ a, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tensor.raise_index(F @ a), a, rtol=1e-10)


def blocks_of(model, matrix):
    """Diagonal blocks of a matrix, for the layers of a network."""
    ends = np.cumsum([rows * columns for rows, columns in model._shapes])
    return [matrix[i:j, i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize(
    ("samples", "activation", "loss"),
    [
        (1, "tanh", lambda rng: gn.SquaredError(rng.standard_normal(3))),
        (1, "tanh", lambda rng: gn.Softmax([1], 3)),
        (1, "sin", lambda rng: gn.Logistic([0.0, 1.0, 1.0])),
        (7, "identity", lambda rng: gn.SquaredError(rng.standard_normal(21), 2.0)),
    ],
)
def test_kfac_has_the_diagonal_blocks_of_the_fisher_metric(samples, activation, loss):
    """Exactly for one sample, or for a deep linear network with squared error."""
    rng = np.random.default_rng(1)
    model = gn.FeedforwardNetwork(
        rng.standard_normal((samples, 4)),
        (5, 4),
        activation=activation,
        outputs=3,
        train_output=True,
        rng=rng,
    )
    w, loss = model.initial_parameters, loss(rng)
    exact = blocks_of(model, fisher(model, loss, w))
    found = kronecker_blocks(gn.Linearization(model, w), loss)
    for wanted, block in zip(exact, found, strict=True):
        kronecker = block.samples * np.kron(block.outputs, block.inputs)
        np.testing.assert_allclose(kronecker, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_kfac_is_not_exact_otherwise():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((7, 4))
    model = gn.FeedforwardNetwork(X, (5, 4), train_output=True, rng=rng)
    w, loss = model.initial_parameters, gn.SquaredError(rng.standard_normal(7))
    exact = blocks_of(model, fisher(model, loss, w))
    found = kronecker_blocks(gn.Linearization(model, w), loss)
    errors = [
        np.linalg.norm(7 * np.kron(block.outputs, block.inputs) - wanted) / np.linalg.norm(wanted)
        for wanted, block in zip(exact, found, strict=True)
    ]
    assert min(errors[:2]) > 0.1
    assert errors[2] < 1e-12  # the output layer is linear


@pytest.mark.parametrize("split", ["factored", "exact"])
def test_kronecker_tensor_solves_what_it_multiplies(narrow, split):
    model, y, w = narrow
    a = np.random.default_rng(0).standard_normal((len(w), 2))
    tensor = gn.KroneckerFactoredMetric(gn.SquaredError(y), 0.1, split).at(
        gn.Linearization(model, w)
    )
    solved = tensor.raise_index(a)
    np.testing.assert_allclose(tensor.lower(solved[:, 1]), a[:, 1], rtol=1e-10, atol=1e-12)
    if split == "exact":
        (block,) = tensor.blocks
        F = block.samples * np.kron(block.outputs, block.inputs) + 0.1 * np.eye(len(w))
        np.testing.assert_allclose(solved, np.linalg.solve(F, a), rtol=1e-9)


def test_kfac_takes_the_step_of_its_metric_and_averages_factors(wide):
    model, y, w = wide
    loss = gn.SquaredError(y)
    plain = {"rescaling": False, "momentum": False}
    metric = gn.KroneckerFactoredMetric(loss, 0.5)
    problem = posed(model, loss)
    ours = step_of(KFAC(ConstantLambda(0.5), **plain, **ONE), problem, w)
    descent = step_of(GradientDescent(UnitStep(), **ONE), posed(model, loss, metric), w)
    np.testing.assert_array_equal(ours, descent)

    two = {**ONE, "max_iterations": 2}
    run = KFAC(ConstantLambda(0.5), averaging=0.3, **plain, **two).run(problem, initial_point=w)
    points = run.log["iterations"]["point"]
    old, new = (kronecker_blocks(gn.Linearization(model, point), loss) for point in points[:2])
    slope = model.vjp(points[1], loss.gradient(model(points[1])))
    pieces, offset = [], 0
    for before, after in zip(old, new, strict=True):
        block = after.mixed(before, 0.3).damped(0.5)
        size = block.shape[0] * block.shape[1]
        matrix = block.samples * np.kron(block.outputs, block.inputs)
        pieces.append(-np.linalg.solve(matrix, slope[offset : offset + size]))
        offset += size
    np.testing.assert_allclose(points[2] - points[1], np.concatenate(pieces), rtol=1e-9)


def test_kfac_combines_direction_and_last_step_by_the_exact_fisher_matrix(wide):
    model, y, w = wide
    loss = gn.SquaredError(y)
    two = {**ONE, "max_iterations": 2}
    run = KFAC(ConstantLambda(0.1), **two).run(posed(model, loss), initial_point=w)
    points = run.log["iterations"]["point"]
    metric = gn.KroneckerFactoredMetric(loss, 0.1)
    v = points[1]
    slope = model.vjp(v, loss.gradient(model(v)))
    D = np.column_stack([metric.at(gn.Linearization(model, v)).raise_index(slope), points[1] - w])
    F = fisher(model, loss, v) + 0.1 * np.eye(len(w))
    best = -D @ np.linalg.solve(D.T @ F @ D, D.T @ slope)
    np.testing.assert_allclose(points[2] - v, best, rtol=1e-8, atol=1e-10)


def test_kronecker_metric_says_what_it_cannot_do(narrow):
    _, y, _ = narrow
    loss = gn.SquaredError(y[:3])
    other = gn.AutogradModel(lambda v: anp.array([v[0], v[1], v[0] * v[1]]), 2)
    with pytest.raises(gn.ArgumentError, match="has no layers"):
        gn.ParameterManifold(other, gn.KroneckerFactoredMetric(loss))
    with pytest.raises(gn.ArgumentError, match="has no layers"):
        KFAC(**QUIET).run(posed(other, loss), initial_point=np.ones(2))
    net = gn.FeedforwardNetwork(np.ones((3, 2)), 4)
    lin = gn.Linearization(net, net.initial_parameters)
    for split in ("factored", "exact"):
        with pytest.raises(gn.RankDeficientError, match="take a damping > 0"):
            gn.KroneckerFactoredMetric(loss, 0.0, split).at(lin).raise_index(np.ones(8))
    with pytest.raises(gn.ArgumentError, match="TrustRadius"):
        KFAC(TrustRadius())


# basic solutions


def test_basic_solutions_have_as_many_entries_as_the_rank(wide):
    model, y, w = wide
    problem = posed(model, gn.SquaredError(y))
    step = step_of(GaussNewton(solution="basic", **ONE), problem, w)
    J, r = model.jacobian(w), y - model(w)
    assert np.count_nonzero(step) == 6
    np.testing.assert_allclose(J @ step, r, rtol=1e-9)
    used = np.flatnonzero(step)
    np.testing.assert_allclose(step[used], np.linalg.solve(J[:, used], r), rtol=1e-8)
    shortest = step_of(GaussNewton(**ONE), problem, w)
    assert np.linalg.norm(shortest) < np.linalg.norm(step)


def test_basic_solutions_do_not_depend_on_the_units_of_parameters():
    rng = np.random.default_rng(0)
    B, units = rng.standard_normal((5, 3)), np.array([1.0, 1e-18, 1e6])
    model = gn.CallableModel(lambda x: B @ (units * x), 3, jacobian=lambda x: B * units)
    y = rng.standard_normal(5)
    run = GaussNewton(solution="basic", **ONE).run(
        posed(model, gn.SquaredError(y)), initial_point=np.ones(3)
    )
    assert run.log["iterations"]["rank"][1] == 3
    best = np.linalg.lstsq(B, y, rcond=None)[0]
    np.testing.assert_allclose(units * run.point, best, rtol=1e-9)


def test_a_single_equation_is_solved_for_its_steepest_parameter():
    """Boumal's example: the basic solution from (½, ½) is (½, 0), in one step."""
    model = gn.AutogradModel(lambda x: anp.array([x[1] * anp.sqrt(1 + x[0] ** 2)]), 2)
    problem = posed(model, gn.SquaredError([0.0]))
    run = GaussNewton(solution="basic", verbosity=0).run(problem, initial_point=[0.5, 0.5])
    np.testing.assert_allclose(run.point, [0.5, 0.0], atol=1e-12)


# no false convergence


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "optimizer",
    [
        HessianFree,
        lambda **o: HessianFree(max_inner=2, **o),
        lambda **o: KFAC(rescaling=False, **o),
    ],
    ids=["hessian_free", "two inner iterations", "kfac without rescaling"],
)
def test_damped_methods_converge_only_where_the_gradient_vanishes(seed, optimizer):
    rng = np.random.default_rng(seed)
    model = gn.FeedforwardNetwork(rng.standard_normal((25, 3)), 8, rng=rng)
    problem = posed(model, gn.SquaredError(rng.standard_normal(25)))
    run = optimizer(verbosity=0, max_iterations=150).run(
        problem, initial_point=model.initial_parameters
    )
    costs = run.log["iterations"]["cost"]
    assert np.all(np.diff(costs) <= 0)
    assert run.gradient_norm < 1e-3 or not run.stopping_criterion.startswith("Converged"), run


def test_wrong_derivatives_are_not_convergence():
    t = np.linspace(0, 1, 5)
    model = gn.CallableModel(
        lambda w: w[0] * t + np.sin(w[1]),
        2,
        jacobian=lambda w: -np.column_stack([t, np.cos(w[1]) * np.ones(5)]),
    )
    run = HessianFree(**QUIET).run(
        posed(model, gn.SquaredError(np.ones(5))), initial_point=np.full(2, 1e-6)
    )
    assert "derivatives are wrong" in run.stopping_criterion


# work


def test_transports_between_two_points_need_no_third_linearization():
    """A Jacobian for each point, whatever a quasi-Newton method carries along."""
    t = np.linspace(0, 2, 40)
    model = gn.CallableModel(
        lambda w: w[0] * np.exp(-w[1] * t) + w[2],
        3,
        jacobian=lambda w: np.column_stack(
            [np.exp(-w[1] * t), -t * w[0] * np.exp(-w[1] * t), np.ones(40)]
        ),
    )
    y = model(np.array([2.0, 0.7, 0.3])) + 0.1 * np.sin(9 * t)
    for solver in (
        LBFGS(**QUIET),
        BFGS(**QUIET),
        GradientDescent(BackTracking(), momentum=0.3, **QUIET),
    ):
        problem = posed(model, gn.SquaredError(y), gn.GaussNewtonMetric())
        run = solver.run(problem, initial_point=np.array([1.0, 1.0, 0.0]))
        used = run.evaluations
        assert used.jacobians == used.factorizations == run.iterations + 1
        assert used.products == 0


def test_gradients_are_pulled_once(narrow):
    model, y, w = narrow
    run = Adam(0.01, max_iterations=10, **QUIET).run(
        posed(model, gn.SquaredError(y)), initial_point=w
    )
    assert run.evaluations.products == run.evaluations.values == 11
    for solver in (GaussNewton(BackTracking(), **QUIET), NaturalGradient(damping=0.1, **QUIET)):
        run = solver.run(posed(model, gn.SquaredError(y)), initial_point=w)
        assert run.evaluations.products == 0
        assert run.evaluations.jacobians == run.iterations + 1


def test_the_kept_forward_pass_cannot_be_changed(narrow):
    model, _, w = narrow
    net, w = model.model, np.array(w)
    before = net.jvp(w, np.ones_like(w))
    with pytest.raises(ValueError, match="read-only"):
        net.layers(w)[0][0][...] = 0
    kept = w.copy()
    w += 1.0  # the caller's array is his own
    after = net.jvp(w, np.ones_like(w))
    np.testing.assert_array_equal(net.jvp(kept, np.ones_like(w)), before)
    assert np.linalg.norm(after - before) > 0
    with pytest.raises(gn.ArgumentError):
        net(w + 1j)


# quasi-Newton and baselines against their textbook forms


def test_bfgs_is_the_matrix_method_in_the_euclidean_metric(narrow):
    model, y, w = narrow
    problem = posed(model, gn.SquaredError(y))
    run = BFGS(max_iterations=12, **QUIET).run(problem, initial_point=w)
    points = run.log["iterations"]["point"]
    gradients = [model.vjp(v, model(v) - y) for v in points]
    H, identity = None, np.eye(len(w))
    for k in range(len(points) - 1):
        direction = -gradients[k] if H is None else -H @ gradients[k]
        s = points[k + 1] - points[k]
        alpha = (s @ direction) / (direction @ direction)
        np.testing.assert_allclose(s, alpha * direction, rtol=0, atol=1e-9 * np.linalg.norm(s))
        z = gradients[k + 1] - gradients[k]
        if H is None:
            H = (s @ z) / (z @ z) * identity
        V = identity - np.outer(z, s) / (s @ z)
        H = V.T @ H @ V + np.outer(s, s) / (s @ z)


SOLVERS = (
    BFGS(min_gradient_norm=1e-7, **QUIET),
    LBFGS(memory=4, min_gradient_norm=1e-7, **QUIET),
    GradientDescent(momentum=0.5, min_gradient_norm=1e-6, max_iterations=3000, **QUIET),
)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("case", ["sphere", "stiefel", "positive definite", "product"])
def test_first_order_solvers_on_manifolds_of_pymanopt(solver, case):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    A = A @ A.T
    values = np.linalg.eigvalsh(A)
    x0 = np.ones(6) / np.sqrt(6)
    sphere, stiefel = pymanopt.manifolds.Sphere(6), pymanopt.manifolds.Stiefel(6, 2)
    if case == "sphere":
        manifold, wanted, start = sphere, values[0], x0
        cost = pymanopt.function.autograd(manifold)(lambda x: x @ A @ x)
    elif case == "stiefel":
        manifold, wanted, start = stiefel, values[0] + values[1], np.eye(6)[:, :2]
        cost = pymanopt.function.autograd(manifold)(lambda x: anp.trace(x.T @ A @ x))
    elif case == "positive definite":
        manifold, wanted = pymanopt.manifolds.SymmetricPositiveDefinite(3), 3.0
        start = np.eye(3)
        B = A[:3, :3] + np.eye(3)
        cost = pymanopt.function.autograd(manifold)(
            lambda x: anp.trace(B @ x) - anp.log(anp.linalg.det(x)) - np.log(np.linalg.det(B))
        )
    else:
        manifold, wanted = pymanopt.manifolds.Product([sphere, sphere]), 2 * values[0]
        start = [x0, np.eye(6)[0]]
        cost = pymanopt.function.autograd(manifold)(lambda x, y: x @ A @ x + y @ A @ y)
    run = solver.run(pymanopt.Problem(manifold, cost), initial_point=start)
    assert run.cost == pytest.approx(wanted, abs=1e-7)
    assert run.stopping_criterion.startswith("Converged"), run


def test_gradient_descent_with_momentum_is_the_heavy_ball(narrow):
    model, y, w = narrow
    problem = posed(model, gn.SquaredError(y))
    run = GradientDescent(ConstantStep(0.01), momentum=0.8, **{**ONE, "max_iterations": 4}).run(
        problem, initial_point=w
    )
    v, velocity = w.copy(), np.zeros_like(w)
    for _ in range(4):
        velocity = 0.8 * velocity - model.vjp(v, model(v) - y)
        v = v + 0.01 * velocity
    np.testing.assert_allclose(run.point, v, rtol=1e-12)


def test_adam_is_the_published_algorithm(narrow):
    model, y, w = narrow
    run = Adam(0.05, **{**ONE, "max_iterations": 5}).run(
        posed(model, gn.SquaredError(y)), initial_point=w
    )
    v, m, s = w.copy(), 0.0, 0.0
    for k in range(1, 6):
        slope = model.vjp(v, model(v) - y)
        m, s = 0.9 * m + 0.1 * slope, 0.999 * s + 0.001 * slope**2
        v = v - 0.05 * (m / (1 - 0.9**k)) / (np.sqrt(s / (1 - 0.999**k)) + 1e-8)
    np.testing.assert_allclose(run.point, v, rtol=1e-12)


def test_sharpness_aware_takes_the_gradient_up_the_hill(narrow):
    model, y, w = narrow
    slope = model.vjp(w, model(w) - y)
    above = w + 0.1 * slope / np.linalg.norm(slope)
    wanted = -0.01 * model.vjp(above, model(above) - y)
    step = step_of(
        SharpnessAware(ConstantStep(0.01), radius=0.1, **ONE), posed(model, gn.SquaredError(y)), w
    )
    np.testing.assert_allclose(step, wanted, rtol=1e-10)


@pytest.mark.parametrize("metric", [gn.EuclideanMetric(), gn.GaussNewtonMetric(0.3)], ids=str)
def test_trust_regions_with_the_gauss_newton_hessian(narrow, metric):
    model, y, w = narrow
    loss = gn.Logistic(1.0 * (y > 0))
    problem = posed(model, loss, metric)
    a = np.random.default_rng(0).standard_normal(len(w))
    J = model.jacobian(w)
    A = np.diag(loss.hessian_product(model(w), np.ones(len(y))))
    G = np.column_stack([problem.manifold.at(w).lower(e) for e in np.eye(len(w))])
    np.testing.assert_allclose(
        problem.gauss_newton_hessian(w, a), np.linalg.solve(G, J.T @ A @ J @ a), rtol=1e-9
    )
    run = TrustRegions(hessian="gauss_newton", **QUIET).run(
        posed(model, gn.SquaredError(y), metric), initial_point=w
    )
    assert run.stopping_criterion.startswith("Converged"), run
    assert run.evaluations.second_derivatives == 0


def test_conjugate_gradients_solve_and_know_their_model():
    rng = np.random.default_rng(0)
    B = rng.standard_normal((8, 8))
    B, b, x0 = B @ B.T + np.eye(8), rng.standard_normal(8), rng.standard_normal(8)
    iterates = list(islice(conjugate_gradients(lambda a: B @ a, b, x0), 12))
    for iterate in iterates:
        assert iterate.value == pytest.approx(0.5 * iterate.x @ B @ iterate.x - b @ iterate.x)
        np.testing.assert_allclose(iterate.residual, b - B @ iterate.x, atol=1e-9)
    np.testing.assert_allclose(iterates[-1].x, np.linalg.solve(B, b), rtol=1e-9)


# a flat surface


@pytest.mark.parametrize(
    ("retraction", "most"), [("exponential", 1), ("second_order", 20), ("first_order", 3)]
)
def test_unit_steps_on_the_flat_surface_of_rosenbrock(retraction, most):
    """A flat surface has straight geodesics: one exponential step ends at the solution."""
    model = gn.AutogradModel(lambda x: anp.array([100 * (x[1] - x[0] ** 2), 1 - x[0]]), 2)
    problem = gn.CompositeProblem(
        gn.OutputManifold(model, retraction=retraction), gn.SquaredError(np.zeros(2))
    )
    run = GaussNewton(min_gradient_norm=1e-9, **QUIET).run(
        problem, initial_point=np.array([-0.5, 1.75])
    )
    assert run.cost < 1e-20
    assert run.iterations <= most


# memory


def network_wide(p_target):
    rng = np.random.default_rng(0)
    width = p_target // 20
    model = gn.FeedforwardNetwork(rng.standard_normal((40, 20)), width, rng=rng)
    return model, rng.standard_normal(40), model.initial_parameters


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FEW = {"verbosity": 0, "max_iterations": 2, "log_verbosity": 0}
WIDE_SOLVERS = {
    "gauss_newton": GaussNewton(**FEW),
    "basic": GaussNewton(solution="basic", **FEW),
    "adaptive": GaussNewton(damping=Adaptive(), **FEW),
    "natural": NaturalGradient(damping=0.1, **FEW),
    "levenberg_marquardt": LevenbergMarquardt(**FEW),
    "newton": Newton(max_inner=50, **FEW),
    "filtered": FilteredNewton(rank=5, **FEW),
    "hessian_free": HessianFree(max_inner=20, **FEW),
    "kfac": KFAC(DelayedGratification(), **FEW),
    "bfgs": BFGS(**FEW),
    "trust_regions": TrustRegions(**FEW),
    "adam": Adam(**FEW),
}


@pytest.mark.parametrize("name", WIDE_SOLVERS)
def test_more_parameters_than_outputs_never_allocates_p_by_p(name):
    model, y, w = network_wide(6000)
    n, p = len(y), len(w)
    problem = posed(model, gn.SquaredError(y))
    used = peak(lambda: WIDE_SOLVERS[name].run(problem, initial_point=w))
    assert used < 40 * n * p * 8 < p * p * 8


@pytest.mark.parametrize("name", ["filtered", "hessian_free", "kfac", "adam"])
def test_matrix_free_methods_never_allocate_n_by_p(name):
    rng = np.random.default_rng(0)
    model = gn.FeedforwardNetwork(rng.standard_normal((2000, 20)), (30, 30, 10), rng=rng)
    model = gn.Scaled(model, 2.0)
    y, w = rng.standard_normal(2000), model.initial_parameters
    n, p = len(y), len(w)
    optimizer, problem = WIDE_SOLVERS[name], posed(model, gn.SquaredError(y))
    used = peak(lambda: optimizer.run(problem, initial_point=w))
    assert used < 0.5 * n * p * 8
    assert optimizer.run(problem, initial_point=w).evaluations.jacobians == 0
