"""Every example runs in its quick configuration, and what it claims holds."""

import importlib.util
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

import gnmanifold as gn

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))  # where a script finds the module common
from common import Record

CLAIMS = sorted(
    path.stem for path in EXAMPLES.glob("*.py") if "Record(OUTPUT" in path.read_text("utf-8")
)


def load(name, folder):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.OUTPUT = folder
    return module


def test_quickstart(tmp_path, capsys):
    comparison = load("quickstart", tmp_path).main(["--quick"])
    printed = capsys.readouterr().out
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    costs = {run.name: run.cost for run in comparison.runs}
    assert len(costs) == 13
    assert "start: cost 819.6873, n = 256, p = 144" in printed
    for name, cost in costs.items():
        assert name in printed
        assert np.isfinite(cost)
    for solver in ("SteepestDescent", "ConjugateGradient", "TrustRegions"):
        assert costs[f"{solver} · f(B)"] == pytest.approx(costs[f"{solver} · JᵀJ"], rel=1e-6)
    assert costs["our TrustRegions · f(B)"] < 40 < costs["SteepestDescent · Euclidean"]
    assert costs["GaussNewton(BackTracking) · f(B)"] < 40


def test_one_idea_many_methods(tmp_path, capsys):
    comparison, claims = load("one_idea_many_methods", tmp_path).main(["--quick"])
    assert (tmp_path / "one_idea_many_methods.png").stat().st_size > 10_000
    assert len(comparison.runs) == 19
    for run in comparison.runs:
        assert run.cost < run.costs[0]
    assert len(claims) == 12
    for claim in claims:
        assert claim.holds, claim
    assert (
        "GaussNewton, exponential retraction                   1     2" in capsys.readouterr().out
    )


def test_deep_network_without_matrices(tmp_path, capsys):
    comparison = load("deep_network_without_matrices", tmp_path).main(["--quick"])
    assert (tmp_path / "deep_network_without_matrices.png").stat().st_size > 10_000
    assert "n = 200, p = 10430" in capsys.readouterr().out
    for run in comparison.runs:
        formed = run.evaluations.jacobians > 0
        assert formed == (run.name == "LevenbergMarquardt")
    adam = comparison["Adam, step 10⁻³"].cost
    for name in ("HessianFree", "KFAC", "KFAC, averaged factors"):
        assert comparison[name].cost < 1e-6 * adam


def test_can_i_trust_my_intervals(tmp_path, capsys):
    fits = load("can_i_trust_my_intervals", tmp_path).main(["--quick"])
    assert (tmp_path / "can_i_trust_my_intervals.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert fits["Puromycin"].nonlinearity().trusted
    assert not fits["two decays"].nonlinearity().trusted
    assert "0.2121" in printed
    assert "0.0920" in printed
    assert printed.count("cannot be trusted") == 1


def test_curvature_report(tmp_path, capsys):
    flows, regions, slope = load("curvature_report", tmp_path).main(["--quick"])
    assert (tmp_path / "curvature_report.png").stat().st_size > 10_000
    page = (tmp_path / "curvature_report.html").read_text(encoding="utf-8")
    assert "the surface is the cause, not the loss" in page
    assert [flow.alpha for flow in flows] == [16, 64]
    bent, flat = flows
    first = bent.profile.first_indefinite
    assert bent.trajectory.times[first] == pytest.approx(7, abs=1)
    assert bent.profile.surface_part[first] < -1 < bent.profile.loss_part[first]
    assert flat.profile.first_indefinite is None
    assert slope == pytest.approx(-1, abs=1e-6)
    assert regions[0].directions == 1
    assert "never" in capsys.readouterr().out


def test_the_reproductions_are_found():
    assert len(CLAIMS) >= 15


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_hold(name, tmp_path, capsys):
    """And a second run takes what is in the record, writes it no more, and prints the same."""
    module = load(name, tmp_path)
    found = module.main(["--quick"])
    assert len(found) >= 4
    for claim in found:
        assert claim.holds, claim
    record = tmp_path / "quick" / f"{name}.json"
    for suffix in ("png", "pdf"):
        assert record.with_suffix(f".{suffix}").stat().st_size > 10_000
    written, before = record.stat().st_mtime_ns, capsys.readouterr().out
    assert module.main(["--quick"]) == found
    assert record.stat().st_mtime_ns == written
    assert capsys.readouterr().out == before


def counted(seed, fail_at=None):
    COUNTED.append(seed)
    if seed == fail_at:
        raise KeyboardInterrupt
    return {"values": np.arange(3) * seed}


COUNTED = []


def test_a_stopped_record_resumes(tmp_path):
    record, wanted = Record(tmp_path, "record"), [{"seed": seed} for seed in range(4)]
    COUNTED.clear()
    with pytest.raises(KeyboardInterrupt):
        record.runs(counted, [*wanted[:2], {"seed": 2, "fail_at": 2}])
    found = Record(tmp_path, "record").runs(counted, wanted)
    assert COUNTED == [0, 1, 2, 2, 3]
    assert [run["values"] for run in found] == [[0, s, 2 * s] for s in range(4)]
    assert list(tmp_path.iterdir()) == [record.path]


def test_a_record_of_another_version_starts_anew(tmp_path, monkeypatch):
    record = Record(tmp_path, "record")
    record.runs(counted, [{"seed": 1}])
    COUNTED.clear()
    record.runs(counted, [{"seed": 1}])
    assert COUNTED == []
    monkeypatch.setattr(gn, "__version__", "0.0.0")
    record.runs(counted, [{"seed": 1}])
    assert COUNTED == [1]


def test_geometry_tour(tmp_path, capsys):
    claims = load("geometry_tour", tmp_path).main(["--quick"])
    assert (tmp_path / "geometry_tour.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert len(claims) == 11
    for claim in claims:
        assert claim.holds, claim
        assert claim.claim in printed


def test_levenberg_marquardt_nist(tmp_path, capsys):
    """All twelve data sets from both starts, to the rounding of the certified values."""
    found = load("levenberg_marquardt_nist", tmp_path).main([])
    assert (tmp_path / "levenberg_marquardt_nist.png").stat().st_size > 10_000
    assert len(found) == 24
    for run in found:
        assert run.digits >= 10, run
        assert run.error_digits >= 9, run
        assert run.reason.startswith("Converged")
    values, jacobians, seconds = (
        sum(getattr(run.evaluations, name) for run in found)
        for name in ("values", "jacobians", "second_derivatives")
    )
    assert max(jacobians, seconds) <= values < 1078  # two thirds of what MINPACK takes
    assert "runs with 10 digits or more: ours 24" in capsys.readouterr().out


def test_boumal(tmp_path):
    """Rows worked out in six digits, and Newton's steps in 50, beside the claims."""
    module = load("boumal_newton_and_gauss_newton", tmp_path)
    start, second = module.START, module.SECOND_START
    basic = module.iterate(module.basic_step, start, 2)
    np.testing.assert_allclose(basic[1], [0.5, 0.0], atol=1e-15)
    expected = [[0.5, 0.5], [0.403846, 0.019231], [0.403718, 1e-6], [0.403718, 0.0]]
    least = module.iterate(module.minimum_norm_step, start, 3)
    np.testing.assert_allclose(least, expected, atol=5e-7)
    expected = [[0.754071, 0.438077], [0.665733, 0.018603], [0.665573, 1e-6]]
    least = module.iterate(module.minimum_norm_step, second, 3)
    np.testing.assert_allclose(least[1:], expected, atol=5e-7)
    newton = module.iterate(module.newton_step, start, 12)
    np.testing.assert_allclose(newton, exact_newton(12), atol=5e-5)


def exact_newton(iterations):
    """Newton on x₂²(1 + x₁²)/2 in 50 digits, with the inverse of the Hessian written out."""
    with mpmath.workdps(50):
        x, y = mpmath.mpf(1) / 2, mpmath.mpf(1) / 2
        points = [(float(x), float(y))]
        for _ in range(iterations):
            s, q = 1 + x**2, 1 - 3 * x**2
            # H⁻¹g = (-x s, (s - 2x²) y) / (1 - 3x²)
            x, y = x + x * s / q, y - y * (s - 2 * x**2) / q
            points.append((float(x), float(y)))
    return np.array(points)
