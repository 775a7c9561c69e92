"""How long a user waits for help and listings, interpreter start included."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "methods"]], ids=["help", "ls-methods"])
def test_start(benchmark: Any, arguments: list[str]) -> None:
    """Answers without importing torch; tests/test_registry.py proves that it does not."""
    command = [sys.executable, "-m", "calibench.cli", *arguments]
    result = benchmark(lambda: subprocess.run(command, capture_output=True, check=True))
    assert result.stdout
