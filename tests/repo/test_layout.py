"""Files are found by name: a method by its registered name, a test by the module that it tests."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Where the tests of a package stand.
MIRRORS = {
    ROOT / "tests" / "methods": ROOT / "methods" / "calibench_methods",
    ROOT / "tests": ROOT / "bench" / "calibench",
}
#: Tests of no module's own: of whole runs, of the repository, of speed, and what tests share.
APART = ("perf", "plugin_example", "repo", "runs", "support")
#: Tests of a room as a whole; a test of one module bears its name.
OF_A_ROOM = {
    "methods/ensembles/test_ensembles.py",
    "methods/peers/test_peers.py",
    "methods/sampling/test_zoo.py",
    "methods/test_library.py",
    "methods/test_methods.py",
    "metrics/test_metrics.py",
    "metrics/test_peers.py",
    "posthoc/test_posthoc.py",
    "report/drawing/test_palette.py",
    "report/pages/test_browser.py",
    "report/test_many_methods.py",
    "report/test_report.py",
}


def misnamed(points: Iterable[EntryPoint]) -> list[str]:
    """Entry points whose file bears another name; `mc-dropout` lives in `mc_dropout.py`."""
    return [point.name for point in points if point.module.rpartition(".")[2] != point.name.replace("-", "_")]


def test_a_method_s_file_bears_its_registered_name() -> None:
    """Whatever its family, so that who knows the name finds the file."""
    points = [
        point
        for point in entry_points(group="calibench.methods")
        if point.dist is not None and point.dist.name == "calibench"
    ]
    assert len(points) > 20
    assert misnamed(points) == []
    strayed = EntryPoint("mc-dropout", "calibench_methods.dropout.plain:McDropout", "calibench.methods")
    assert misnamed([strayed]) == ["mc-dropout"]


def module_of(test: Path) -> Path:
    """Where the module stands that a test of this name is about."""
    tests, package = next(pair for pair in MIRRORS.items() if pair[0] in test.parents)
    return package / test.parent.relative_to(tests) / test.name.removeprefix("test_")


def test_a_test_is_found_by_its_module() -> None:
    """Each test file has a module at the same place, but for the few that are of a room as a whole."""
    tests = ROOT / "tests"
    strayed = {
        str(path.relative_to(tests))
        for path in tests.rglob("test_*.py")
        if path.relative_to(tests).parts[0] not in APART and not module_of(path).exists()
    }
    assert strayed == OF_A_ROOM
    assert (
        module_of(tests / "compare" / "test_gate.py") == ROOT / "bench" / "calibench" / "compare" / "gate.py"
    )
    masks = ROOT / "methods" / "calibench_methods" / "sampling" / "masks.py"
    assert module_of(tests / "methods" / "sampling" / "test_masks.py") == masks
