"""Shell completion: names that are registered are known, and nothing is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from calibench.cli import main
from calibench.registry import METHODS, METRICS, RUNTIMES


def completed(*words: str, incomplete: str = "") -> list[str]:
    """What a shell would offer after these words."""
    completion = ShellComplete(main, {}, "calibench", "_CALIBENCH_COMPLETE")
    return [item.value for item in completion.get_completions(list(words), incomplete)]


def test_names_are_completed() -> None:
    """Methods, metrics, runtimes and suites by how they begin."""
    assert completed("run", "-m", incomplete="mc-dropout-b") == ["mc-dropout-baal", "mc-dropout-batch"]
    assert completed("run", "--method") == METHODS.names()
    assert completed("run", "--runtime") == RUNTIMES.names()
    assert completed("score", "--metric") == completed("leaderboard", "--metric") == METRICS.names()
    assert completed("run", incomplete="sst") == ["sst2", "sst2-iterations"]
    assert "methods" in completed("ls")


def test_a_suite_of_ones_own_is_a_file() -> None:
    """Where no suite's name begins so, the shell completes a path."""
    completion = ShellComplete(main, {}, "calibench", "_CALIBENCH_COMPLETE")
    (item,) = completion.get_completions(["run"], "./my")
    assert (item.value, item.type) == ("./my", "file")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_line_makes_a_script(shell: str) -> None:
    """As click makes it, for each of its shells; torch is not imported to complete a name."""
    code = "import sys; from calibench.cli import main; sys.argv = ['calibench']; main(prog_name='calibench')"
    script = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "_CALIBENCH_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_calibench_completion" in script.stdout, script.stderr
    words = {
        "COMP_WORDS": "calibench run -m mc-dropout-ba",
        "COMP_CWORD": "mc-dropout-ba" if shell == "fish" else "3",
    }
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        env={"PATH": "/usr/bin:/bin", "_CALIBENCH_COMPLETE": f"{shell}_complete", **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mc-dropout-baal" in answer.stdout
    assert "torch" not in answer.stderr.split()
