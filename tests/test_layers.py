"""Imports point down, and the heavy or optional packages have one door each."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gnmanifold"
LAYERS = [
    {"errors", "files"},
    {"validation"},
    {"models", "losses", "factorization", "datasets"},
    {"linearization"},
    {"damping"},
    {"metrics"},
    {"geometry"},
    {"manifolds"},
    {"problems"},
    {"optimizers", "flows"},
    {"theory"},
    {"diagnostics"},
    {"fitting", "comparison"},
]
LEAVES = {"checks": {"errors", "validation"}, "plotting": set.union(*LAYERS, {"checks"})}
DOORS = {"autograd": {"models/autograd.py"}, "matplotlib": {"plotting.py"}, "jax": set()}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    """Modules imported, but for those that methods called plot take when they are called."""
    tree = ast.parse(path.read_text())
    plots = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "plot"
        for inner in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if node in plots:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "gnmanifold":
                yield from (f"gnmanifold.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer_of(name):
    return next((i for i, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imported(path):
        if not module.startswith("gnmanifold."):
            door = DOORS.get(module.split(".")[0])
            relative = path.relative_to(PACKAGE).as_posix()
            assert door is None or relative in door, f"{relative} imports {module}"
            continue
        other = module.split(".")[1]
        if other == own:
            continue
        if own in LEAVES:
            assert other in LEAVES[own], f"{path} imports {module}"
        else:
            assert layer_of(other) is not None, f"{path} imports the leaf {module}"
            assert layer_of(other) < layer_of(own), f"{path} imports {module}"


def test_every_module_has_a_layer():
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert tops == set.union(*LAYERS) | set(LEAVES)


def test_modules_are_short():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 400, path


def test_public_names_are_documented():
    import gnmanifold

    for name in gnmanifold.__all__:
        thing = getattr(gnmanifold, name)
        assert thing.__doc__, name
