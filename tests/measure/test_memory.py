"""The process that measures peaks: what it imports before it forks, and what it leaves alone."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from calibench.measure import fork_server


def test_modules_of_packages_are_imported_for_all_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of installed packages alone: what importing a user's own module does is done once, by them."""
    (tmp_path / "own.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own")
    found = fork_server.installed()
    assert {"numpy", "torch", "torch.nn.functional"} <= set(found)
    assert not {"own", "__main__", "json", "test_memory"} & set(found)


def test_the_process_is_ready_to_be_forked() -> None:
    """What cannot be imported is left out; what was is out of the collector's sight, and no thread."""
    program = (
        "import gc, sys, threading\n"
        "from calibench.measure.fork_server import import_all\n"
        "import_all(['no.such_module', 'calibench.models.loading', 'transformers.modeling_utils'])\n"
        "print('transformers.modeling_utils' in sys.modules, gc.isenabled())\n"
        "print(gc.get_freeze_count() > 100_000, threading.active_count())"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert child.stdout.split() == ["True", "True", "True", "1"], child.stderr
