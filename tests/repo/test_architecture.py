"""Imports run down: from a room to itself or to one below it, and no two modules import each other."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Rooms from the top floor down. Those of one floor do not import each other.
FLOORS = {
    "calibench": (
        {"__main__"},
        {"cli"},
        {"commands"},
        {"sweep"},
        {"flows"},
        {"run"},
        {"score", "report"},
        {"measure", "compare"},
        {"suites"},
        {"method", "runtimes"},
        {"models", "readers", "sinks"},
        {"data", "metrics", "posthoc", "store"},
        {"stats", "hashing", "registry"},
        {"types", "seeds", "containment", "callables"},
        {"errors"},
    ),
    "calibench_methods": ({"dropout", "ensembles", "one_pass", "peers", "scores"}, {"sampling"}),
}
#: What a room may not reach, wherever it stands.
NEVER = {
    "report": {"measure", "score", "models", "method", "data", "readers"},
    "compare": {"measure", "score", "models", "method", "data", "readers", "suites"},
}


def modules() -> dict[str, Path]:
    """Every module of both packages, by its dotted name."""
    found = {}
    for base, package in (("bench", "calibench"), ("methods", "calibench_methods")):
        for path in sorted((ROOT / base / package).rglob("*.py")):
            parts = path.relative_to(ROOT / base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: dict[str, Path]) -> set[str]:
    """The modules that a file imports, anywhere in it, for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known.keys()


KNOWN = modules()
IMPORTS = {name: imports(path.read_text(encoding="utf-8"), KNOWN) - {name} for name, path in KNOWN.items()}


def room(module: str) -> tuple[str, str]:
    """A module's package and room: `calibench.compare.gate` is in "calibench", "compare"."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def breaches(module: str, imported: set[str]) -> list[str]:
    """What is wrong with the imports of a module, a sentence each."""
    package, own = room(module)
    height = {name: -floor for floor, names in enumerate(FLOORS[package]) for name in names}
    if own not in height:
        return [f"{own} is no room: give it a floor"]
    found = []
    for name in sorted(imported):
        other, its = room(name)
        if package == "calibench" and other != "calibench":
            found.append(f"{module} imports {name}: the bench names no method")
        elif other == package and its and its != own:
            if height[its] >= height[own]:
                found.append(f"{module} imports {name}, which is not below it")
            if its in NEVER.get(own, ()):
                found.append(f"{own} may not know {its}: {module} imports {name}")
    return found


@pytest.mark.parametrize("module", [name for name in KNOWN if "." in name])
def test_imports_run_down(module: str) -> None:
    """No module imports from a room beside or above its own."""
    assert not breaches(module, IMPORTS[module])


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("calibench.store.records", "from calibench.score.record import make_records"),
        ("calibench.compare.gate", "from calibench.models import Checkpoint"),
        ("calibench.report.parts.sets", "def f():\n    from calibench.measure.clocks import Timed"),
        ("calibench.metrics.scoring", "from calibench.posthoc import cross_fit"),
        ("calibench.measure.running", "import calibench_methods.sampling.masks"),
        ("calibench_methods.sampling.masks", "from calibench_methods.dropout import allocation"),
        ("calibench_methods.scores.base", "from calibench_methods.one_pass.frequentist import Frequentist"),
    ],
)
def test_an_import_that_runs_up_is_seen(module: str, line: str) -> None:
    """The rule is not vacuous: one line is enough to break it, inside a function too."""
    assert breaches(module, imports(line, KNOWN))


def test_no_module_imports_itself_by_way_of_another() -> None:
    """No circle among modules, not even one for type checking."""
    tree = {name: {x for x in found if "." in x} for name, found in IMPORTS.items() if "." in name}
    TopologicalSorter(tree).prepare()  # raises CycleError, naming the circle
    tree["calibench.errors"] = {"calibench.cli"}
    with pytest.raises(CycleError):
        TopologicalSorter(tree).prepare()


def test_few_modules_lie_outside_a_room() -> None:
    """What does not belong to a stage is on the ground, and there is little of it."""
    assert len(list((ROOT / "bench" / "calibench").glob("*.py"))) <= 12
