"""Checkpoints along one training run: a folder of folders, as the trainer of `transformers` leaves it."""

from __future__ import annotations

import re

from calibench.data.hub import local_path
from calibench.errors import UsageError


def checkpoints_in(folder: str, last: int = 0) -> list[str]:
    """The checkpoints of a training run in the order of their steps.

    A checkpoint is a subfolder with a `config.json`; its step is the last number in its name, such as
    `checkpoint-500`.

    Args:
        folder: where they lie.
        last: how many of the last ones; 0 for all.

    Returns:
        Their paths; fewer than `last` where there are fewer.

    Raises:
        UsageError: no such folder, fewer than two checkpoints, or one whose name holds no number.
    """
    path = local_path(folder, "model")
    if path is None or not path.is_dir():
        raise UsageError(f"There is no folder {folder!r}: pass one that holds checkpoints of a training run.")
    found = [entry for entry in path.iterdir() if (entry / "config.json").is_file()]
    if len(found) < 2:
        raise UsageError(
            f"The folder {folder!r} holds {len(found)} checkpoints: pass one with two or more subfolders, "
            "such as checkpoint-500, each written by save_pretrained."
        )
    steps: dict[str, int] = {}
    for entry in found:
        numbers = re.findall(r"\d+", entry.name)
        if not numbers:
            raise UsageError(
                f"{entry.name!r} in {folder!r} has no step number in its name: rename it, such as to "
                "checkpoint-500, or move it away."
            )
        steps[str(entry)] = int(numbers[-1])
    ordered = sorted(steps, key=lambda name: (steps[name], name))
    return ordered[-last:] if last else ordered
