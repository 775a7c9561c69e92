"""What is run before the clock starts: every method, on no more than settles it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from calibench.measure.progress import Silent
from calibench.measure.running import Running
from calibench.measure.set_up import warm_up
from calibench.suites.cells import Cell
from calibench_methods.one_pass.frequentist import Frequentist

BLOCKS = [[np.array([0]), np.array([3])], [np.array([1]), np.array([4])], [np.array([2])]]


def warmed(device: str, warmup: int, replicates: int | None = None) -> list[list[int]]:
    """The positions of each prediction that a method is warmed up with, in order."""
    asked: list[list[int]] = []
    session: Any = SimpleNamespace(
        setting=SimpleNamespace(
            checkpoint=SimpleNamespace(device=torch.device(device)),
            blocks=BLOCKS,
            suite=SimpleNamespace(timing=SimpleNamespace(warmup=warmup)),
        ),
        alive=[Running(Cell("frequentist", Frequentist, {}, 0, True, replicates=replicates), "key")],
        progress=Silent(),
        predict=lambda _, groups, *__: asked.append(
            [int(position) for group in groups for position in group]
        ),
    )
    warm_up(session)
    return asked


@pytest.mark.parametrize(("warmup", "asked"), [(0, []), (1, [[0]]), (2, [[0], [1]]), (9, [[0], [1], [2]])])
def test_a_cpu_is_warmed_by_a_batch_of_a_block(warmup: int, asked: list[list[int]]) -> None:
    """As many batches as the suite says, of blocks of which there are fewer."""
    assert warmed("cpu", warmup) == asked


@pytest.mark.parametrize("warmup", [0, 1])
def test_an_accelerator_sees_every_shape(warmup: int) -> None:
    """All batches, whatever the suite says; of a method with few replicates one of each block."""
    assert warmed("cuda", warmup) == [[0, 3], [1, 4], [2]]
    assert warmed("cuda", warmup, replicates=3) == [[0], [1], [2]]
