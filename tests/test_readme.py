"""The README's code runs as printed, and CI runs the README's test command."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(word):
    """Names that the one block with that word defines."""
    (code,) = (block for block in re.findall(r"```python\n(.+?)```", README, re.S) if word in block)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    return code, names


def test_code_runs_and_reaches_a_minimum(capsys):
    code, names = run("theirs")
    assert names["theirs"].gradient_norm < 1e-6
    assert names["ours"].gradient_norm < 1e-6
    assert names["theirs"].cost == pytest.approx(30.6694, abs=5e-5)
    assert "; Converged" in capsys.readouterr().out
    assert len(code.strip().splitlines()) <= 15


def test_curve_fit_runs_and_agrees_with_scipy(capsys):
    _, names = run("popt, pcov")
    y, t = names["y"], names["t"]
    reference = least_squares(
        lambda w: w[0] * np.exp(-w[1] * t) + w[2] - y,
        [1, 1, 0],
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )
    np.testing.assert_allclose(names["popt"], reference.x, rtol=1e-6)
    assert "amplitude" in capsys.readouterr().out


def test_geometry_runs_and_is_consistent(capsys):
    _, names = run("parallel_transport")
    M, w, a, end = (names[name] for name in ("M", "w", "a", "end"))
    np.testing.assert_allclose(M.exp(w, a), end, atol=1e-9)
    assert M.norm(end, names["b"]) == pytest.approx(M.norm(w, [0.0, 0.0, 1.0]), rel=1e-10)
    assert "half way" in capsys.readouterr().out


def test_the_comparison_runs(capsys):
    run("gn.compare")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("GaussNewton", "HessianFree", "KFAC"))


def test_the_flow_runs():
    _, names = run("gn.flows")
    flow = names["flow"]
    assert flow.finished
    assert flow.costs[-1] < flow.costs[0] * np.exp(-5.0)


def test_the_nonlinearity_runs(capsys):
    _, names = run("profile_intervals")
    assert "0.2121" in capsys.readouterr().out
    assert names["fit"].nonlinearity().trusted


def test_commands_and_links_exist():
    for name in ("main", "test"):
        (command,) = re.findall(rf"<!-- {name} command -->\n```sh\n(.+?)\n```", README, re.S)
        assert command.startswith("python3 -m venv")
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
