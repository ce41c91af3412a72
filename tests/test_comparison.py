"""Comparisons, stopping criteria, the progress bar."""

import json

import numpy as np
import pymanopt
import pytest
from zoo import network, rank_deficient, targets

import gnmanifold as gn
from gnmanifold.optimizers import (
    BackTracking,
    CostBelow,
    GaussNewton,
    GradientDescent,
    GradientReduced,
    LevenbergMarquardt,
    Stagnation,
    When,
)
from gnmanifold.plotting import plot_comparison, plot_trajectories, save_figure

QUIET = {"verbosity": 0}


@pytest.fixture
def problem():
    model = network()
    y = targets(model, model.initial_parameters + 0.2, 0.3)
    return gn.CompositeProblem(
        gn.ParameterManifold(model, gn.GaussNewtonMetric()), gn.SquaredError(y)
    )


@pytest.fixture
def comparison(problem):
    euclidean = gn.CompositeProblem(
        gn.ParameterManifold(problem.model, gn.EuclideanMetric()), problem.loss
    )
    return gn.compare(
        {
            "Gauss-Newton": GaussNewton(BackTracking(), **QUIET),
            "gradient": (GradientDescent(max_iterations=30, **QUIET), euclidean),
            "theirs": pymanopt.optimizers.SteepestDescent(max_iterations=10, **QUIET),
            "their region": (pymanopt.optimizers.TrustRegions(**QUIET), problem, {"mininner": 0}),
        },
        problem,
        problem.model.initial_parameters,
    )


def test_runs_are_those_of_the_optimizers_alone(problem, comparison):
    w = problem.model.initial_parameters
    alone = GaussNewton(BackTracking(), **QUIET).run(problem, initial_point=w)
    run = comparison["Gauss-Newton"]
    assert run.cost == alone.cost
    assert run.iterations == alone.iterations
    assert run.evaluations == alone.evaluations
    assert run.stopping_criterion == alone.stopping_criterion
    assert run.costs == tuple(alone.log["iterations"]["cost"])
    for run in comparison.runs:
        model, w = problem.model, run.result.point
        slope = model.jacobian(w).T @ problem.loss.gradient(model(w))
        assert run.gradient_norm == pytest.approx(np.linalg.norm(slope), rel=1e-6, abs=1e-12)
        assert len(run.costs) == len(run.times)
        assert run.costs[-1] == pytest.approx(run.cost)
        assert np.all(np.diff(run.times) >= 0)
        assert run.times[-1] <= run.seconds + 1e-3
    assert comparison.best.cost == min(run.cost for run in comparison.runs)
    with pytest.raises(KeyError, match="there are Gauss-Newton, gradient"):
        comparison["other"]


def test_counts_do_not_depend_on_the_runs_before(problem):
    first, second = gn.compare(
        {name: gn.optimizers.GaussNewton(max_iterations=2, verbosity=0) for name in "ab"},
        problem,
        problem.model.initial_parameters,
    ).runs
    assert first.evaluations == second.evaluations
    assert first.evaluations.jacobians >= 2


def test_table_and_dictionary(comparison):
    table = str(comparison)
    for run in comparison.runs:
        assert run.name in table
        assert f"{run.cost:.6g}" in table
        assert run.stopping_criterion[:40] in table
    assert "gradient_norm" in json.loads(json.dumps(comparison.to_dict()))["theirs"]


def test_figures(comparison, problem, tmp_path):
    save_figure(comparison.plot(), tmp_path / "runs.png")
    figure = plot_comparison(comparison, above=0.0)
    assert [len(axes.get_lines()) for axes in figure.axes] == [4, 4]
    flow = gn.flows.integrate(problem, problem.model.initial_parameters, 0.1)
    figure = plot_trajectories({"flow": flow})
    assert [axes.get_ylabel().split()[0] for axes in figure.axes] == [
        "cost", "distance", "norm", "λ_min",
    ]  # fmt: skip
    assert (tmp_path / "runs.png").stat().st_size > 10_000


def test_an_optimizer_that_cannot_start_is_a_row(problem):
    model = rank_deficient()
    w = np.ones(model.num_parameters)
    loss = gn.SquaredError(np.ones(model.num_outputs))
    surface = gn.CompositeProblem(gn.OutputManifold(model), loss)
    found = gn.compare(
        [GaussNewton(**QUIET), LevenbergMarquardt(**QUIET), LevenbergMarquardt(**QUIET)], surface, w
    )
    assert found["GaussNewton"].stopping_criterion.startswith("Failed: RankDeficientError")
    assert np.isnan(found["GaussNewton"].cost)
    assert found["LevenbergMarquardt #2"].cost == found.best.cost
    assert "Failed: RankDeficientError" in str(found)
    for wrong in ([], [GaussNewton], [3], GaussNewton()):
        with pytest.raises(gn.ArgumentError):
            gn.compare(wrong, problem, w)


def run_with(problem, stop, **limits):
    solver = GradientDescent(stop=stop, **{**QUIET, **limits})
    return solver.run(problem, initial_point=problem.model.initial_parameters)


def test_stopping_criteria(problem):
    free = run_with(problem, None, max_iterations=40)
    costs = np.array(free.log["iterations"]["cost"])
    norms = np.array(free.log["iterations"]["gradient_norm"])
    value = costs[5]
    run = run_with(problem, CostBelow(value))
    assert run.iterations == 5
    assert run.stopping_criterion.endswith(f"Reason: the cost is at most {value:g}")
    run = run_with(problem, GradientReduced(1e-2))
    assert run.iterations == np.argmax(norms <= 1e-2 * norms[0])
    run = run_with(problem, Stagnation(0.05, 3))
    k = run.iterations
    assert min(costs[: k - 2]) - min(costs[k - 2 : k + 1]) <= 0.05 * min(costs[: k - 2])
    run = run_with(problem, When(lambda state: state.iteration == 4, "four are enough"))
    assert run.iterations == 4
    assert run.stopping_criterion.endswith("four are enough")


def test_criteria_combine(problem):
    never = CostBelow(-1.0)
    four = When(lambda state: state.iteration >= 4, "four")
    six = When(lambda state: state.iteration >= 6, "six")
    assert run_with(problem, never | four).iterations == 4
    assert run_with(problem, six & four).iterations == 6
    assert run_with(problem, six & four).stopping_criterion.endswith("six and four")
    assert run_with(problem, never & four, max_iterations=8).iterations == 8
    with pytest.raises(gn.ArgumentError, match="expected a stopping criterion"):
        four | 3
    with pytest.raises(gn.ArgumentError, match="stop must be a criterion"):
        GaussNewton(stop=1e-3)


def test_the_best_point_is_returned_where_a_criterion_ends_a_run():
    model = network()
    y = targets(model, model.initial_parameters + 3.0, 3.0)
    problem = gn.CompositeProblem(
        gn.ParameterManifold(model, gn.GaussNewtonMetric()), gn.SquaredError(y)
    )
    stop = When(lambda state: state.iteration >= 6, "enough")
    run = GaussNewton(stop=stop, **QUIET).run(problem, initial_point=model.initial_parameters)
    assert run.cost == min(run.log["iterations"]["cost"])


def test_progress_bar(problem, capsys):
    GradientDescent(progress=True, max_iterations=7, verbosity=2).run(
        problem, initial_point=problem.model.initial_parameters
    )
    printed = capsys.readouterr()
    assert "7/7" in printed.err
    assert "cost" in printed.err
    assert "Gradient norm" not in printed.out  # the table would break the bar
    GradientDescent(max_iterations=2, **QUIET).run(
        problem, initial_point=problem.model.initial_parameters
    )
    assert capsys.readouterr().err == ""
