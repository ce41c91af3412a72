"""The README's code runs as printed, and CI runs the README's test command."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_code_runs_and_reaches_a_minimum(capsys):
    (code,) = re.findall(r"```python\n(.+?)```", README, re.S)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["theirs"].gradient_norm < 1e-6
    assert names["ours"].gradient_norm < 1e-6
    assert "stopped: Converged" in capsys.readouterr().out
    assert len(code.strip().splitlines()) <= 17


def test_commands_and_links_exist():
    for name in ("main", "test"):
        (command,) = re.findall(rf"<!-- {name} command -->\n```sh\n(.+?)\n```", README, re.S)
        assert command.startswith("python3 -m venv")
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
