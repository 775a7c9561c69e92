"""What a number was measured on and with: versions, processor, threads, accelerator, source revision."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import calibench

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "baal", "numpy", "scipy", "scikit-learn")


def capture() -> dict[str, Any]:
    """The environment as a record holds it; names no path, user or host.

    `fingerprint` hashes what timings depend on: two records with the same one may be compared in time.
    """
    import torch

    cuda = torch.cuda.is_available()
    machine: dict[str, Any] = {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        # Its own type of string would have whoever reads a record from a process's answer import torch.
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
    }
    fingerprint = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]
    versions = {name.replace("-", "_"): _version(name) for name in PACKAGES}
    return (
        machine
        | versions
        | {
            "torch": machine["torch"],
            "python": platform.python_version(),
            "calibench": calibench.__version__,
            "git_revision": _git_revision(),
            "fingerprint": fingerprint,
        }
    )


def capture_reading() -> dict[str, Any]:
    """The same for numbers that no model was run for: what they depend on, and nothing that times do."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        **{name: _version(name.replace("_", "-")) for name in ("numpy", "scipy", "scikit_learn", "pyarrow")},
        "python": platform.python_version(),
        "calibench": calibench.__version__,
        "git_revision": _git_revision(),
    }


def versions() -> dict[str, str | None]:
    """Those that a machine has to have in common with another for their predictions to be one run's."""
    found = {name: _version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    return {"calibench": calibench.__version__, **found, "python": platform.python_version()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _git_revision() -> str | None:
    """Commit of the checkout this package runs from, with "+changes" where it has any; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return result.stdout.strip() if result.returncode == 0 else ""

    try:
        revision = git("rev-parse", "HEAD")
        dirty = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (revision + ("+changes" if dirty else "")) or None
