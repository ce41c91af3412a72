"""The report on a point of a problem."""

import json
import re

import autograd.numpy as anp
import numpy as np
import pytest
from zoo import network, rank_deficient, targets

import gnmanifold as gn
from gnmanifold.plotting import save_figure


def fitted(model, y, start):
    manifold = gn.ParameterManifold(model, gn.EuclideanMetric())
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    run = gn.optimizers.LevenbergMarquardt(verbosity=0).run(problem, initial_point=start)
    surface = gn.CompositeProblem(gn.OutputManifold(model), gn.SquaredError(y))
    return surface, run.point


@pytest.fixture(scope="module")
def decay():
    x = np.linspace(0, 3, 15)
    y = 2 * np.exp(-0.7 * x) + 0.01 * np.sin(9 * x)
    return fitted(gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * x), 2), y, [1.0, 1.0])


def test_a_good_fit(decay, tmp_path):
    problem, w = decay
    found = gn.diagnose(problem, w)
    assert found.advice == ("Nothing is wrong: a fit whose linear approximation can be trusted.",)
    assert found.numbers["rank"] == 2
    assert found.numbers["tangent_share"] < 1e-8
    assert found.local_rate.full_steps_converge
    assert found.terms.convex
    assert found.critical_point.kind == "minimum"
    assert found.nonlinearity.trusted
    printed = str(found)
    for title in (
        "The fit", "Curvature of the cost", "Convexity on the surface",
        "Gauss-Newton steps nearby", "Nonlinearity of the fit", "Stiff and sloppy directions",
        "What it means",
    ):  # fmt: skip
        assert title in printed
    save_figure(found.plot(), tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").stat().st_size > 20_000


def test_numbers_as_json(decay, tmp_path):
    found = gn.diagnose(*decay)
    path = tmp_path / "report.json"
    text = found.to_json(path)
    numbers = json.loads(path.read_text())
    assert numbers == json.loads(text)
    assert numbers["nonlinearity"]["sqrt_f"] == pytest.approx(found.nonlinearity.sqrt_f)
    assert numbers["advice"] == list(found.advice)
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_needs_nothing_else(decay, tmp_path):
    path = gn.diagnose(*decay).to_html(tmp_path / "pages" / "report.html")
    page = path.read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"http", page)
    assert "Nothing is wrong" in page
    assert page.count("<table>") == 7
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_leaves_nothing(decay, tmp_path):
    found = gn.diagnose(*decay)
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - of the system, whatever it is called
        found.to_html(target)
    assert list(tmp_path.iterdir()) == [target]


def advice_on(problem, w):
    return " ".join(gn.diagnose(problem, w).advice)


def test_an_unfinished_fit(decay):
    problem, w = decay
    assert "no minimum yet" in advice_on(problem, w + 0.1)
    assert gn.diagnose(problem, w + 0.1).local_rate is None


def test_parameters_that_are_not_determined():
    model = rank_deficient()
    loss = gn.SquaredError(np.ones(model.num_outputs))
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.EuclideanMetric()), loss)
    w = (
        gn.optimizers.LevenbergMarquardt(verbosity=0)
        .run(problem, initial_point=np.ones(model.num_parameters))
        .point
    )
    found = gn.diagnose(problem, w)
    assert "determine only" in " ".join(found.advice)
    missing = [section for section in found.sections if section.missing]
    assert any("rank" in section.missing for section in missing)
    assert "not computed" in str(found)


def test_more_parameters_than_outputs():
    net = gn.FeedforwardNetwork(np.random.default_rng(0).standard_normal((5, 3)), 8)
    metric = gn.GaussNewtonMetric(0.1)
    problem = gn.CompositeProblem(gn.ParameterManifold(net, metric), gn.SquaredError(np.ones(5)))
    w = (
        gn.optimizers.LevenbergMarquardt(verbosity=0)
        .run(problem, initial_point=net.initial_parameters)
        .point
    )
    found = gn.diagnose(problem, w)
    assert "19 more parameters than outputs" in " ".join(found.advice)
    assert found.nonlinearity is None
    found.plot()


def test_the_surface_is_found_to_be_the_cause():
    circle = gn.AutogradModel(lambda w: anp.array([anp.cos(w[0]), anp.sin(w[0])]), 1)
    problem = gn.CompositeProblem(gn.OutputManifold(circle), gn.SquaredError([3.0, 0.0]))
    assert "the surface is the cause" in advice_on(problem, np.array([np.pi - 0.3]))


def test_steps_that_run_away():
    """f = (w, w²/2·c) with a far target: the residual is large where the surface bends."""
    model = gn.AutogradModel(lambda w: anp.array([w[0], 0.5 * w[0] ** 2]), 1)
    problem = gn.CompositeProblem(gn.OutputManifold(model), gn.SquaredError([0.0, -3.0]))
    found = gn.diagnose(problem, np.array([0.0]))
    assert found.local_rate.radius == pytest.approx(3.0)
    assert "run away" in " ".join(found.advice)


def test_a_maximum_gets_no_other_advice():
    circle = gn.AutogradModel(lambda w: anp.array([anp.sin(w[0]), anp.cos(w[0])]), 1)
    problem = gn.CompositeProblem(gn.OutputManifold(circle), gn.SquaredError([2.0, 0.0]))
    (sentence,) = gn.diagnose(problem, np.array([-np.pi / 2])).advice
    assert sentence.startswith("A strict maximum")
    assert "This is no fit" in sentence


def test_zero_residual_is_a_minimum():
    x = np.linspace(0.1, 2, 12)
    model = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * x), 2)
    y = 2 * np.exp(-1.3 * x)
    for noise in (0.0, 1e-16):
        problem = gn.CompositeProblem(gn.OutputManifold(model), gn.SquaredError(y * (1 + noise)))
        found = gn.diagnose(problem, np.array([2.0, 1.3]))
        assert "no minimum" not in " ".join(found.advice)
        assert found.critical_point.kind == "minimum"
        found.plot()


def test_nothing_is_promised_that_was_not_assessed():
    model = gn.AutogradModel(lambda w: w + 0.1 * w**2, 3)
    problem = gn.CompositeProblem(gn.OutputManifold(model), gn.SquaredError(1.1 * np.ones(3)))
    found = gn.diagnose(problem, np.ones(3))
    assert found.advice[0].startswith("Nothing wrong was found in what was computed; not assessed")
    assert "Nonlinearity of the fit" in found.advice[0]
    missing = {section.title: section.missing for section in found.sections if section.missing}
    assert missing["Nonlinearity of the fit"] == "there is no degree of freedom left"


def test_a_saddle():
    model = gn.AutogradModel(lambda w: anp.array([w[0] ** 2 - 1, w[1]]), 2)
    manifold = gn.ParameterManifold(model, gn.EuclideanMetric())
    problem = gn.CompositeProblem(manifold, gn.SquaredError(np.zeros(2)))
    assert "A saddle: the cost decreases in 1 direction" in advice_on(problem, np.zeros(2))


def test_other_losses():
    model = network()
    w = model.initial_parameters
    loss = gn.Logistic(1.0 * (targets(model, w, 0.1) > 0))
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.GaussNewtonMetric(0.1)), loss)
    found = gn.diagnose(problem, w)
    assert found.nonlinearity is None
    assert found.spectrum is not None
    json.loads(found.to_json())
    with pytest.raises(gn.ArgumentError):
        gn.diagnose(model, w)
