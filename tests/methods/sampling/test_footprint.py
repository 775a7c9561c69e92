"""What chunk sizes are decided from: the peak of a computation, and what is free."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibench.models.checkpoint import example_inputs
from calibench_methods.sampling.footprint import _cgroup_headroom, free_bytes, peak_bytes
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.sites import find_sites
from tiny_models import plan_of, sentences, tiny_checkpoint

CPU = torch.device("cpu")
BYTES = 4


@given(n=st.integers(1, 2000))
def test_peak_of_known_computations(n: int) -> None:
    """What is alive at once counts; what was there before, views, in-place work and freed tensors do not."""
    before = torch.ones(n)

    def chain() -> None:
        step = before + 1
        step = step + 1
        step = step.view(1, n).add_(1)[0]
        _ = step.sum()

    assert peak_bytes(chain, CPU) == 2 * n * BYTES
    assert peak_bytes(lambda: [before + k for k in range(5)], CPU) == 5 * n * BYTES
    assert peak_bytes(lambda: before.view(1, n).T.add_(0), CPU) == 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_peak_of_a_model_is_proportional_to_its_rows(attention: str) -> None:
    """Twice the rows take twice the memory, which is what a chunk size is extrapolated by."""
    checkpoint = tiny_checkpoint("bert", attention)
    LiveDropout(checkpoint.module, find_sites(checkpoint.module, example_inputs(checkpoint)))
    (batch,) = plan_of(checkpoint, [*sentences(8)], token_budget=1000).batches

    def peak(copies: int) -> int:
        inputs = {name: value.repeat(copies, 1) for name, value in batch.inputs.items()}
        with torch.inference_mode():
            return peak_bytes(lambda: checkpoint.module(**inputs), CPU)

    assert peak(8) == pytest.approx(8 * peak(1), rel=0.02)


def test_free_memory_is_bounded_by_the_machine() -> None:
    """Free memory is positive and no more than the machine has."""
    assert 0 < free_bytes(CPU) <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("1000\n", "400\n", 600), ("1000\n", "1400\n", 0), ("max\n", "400\n", None), (None, None, None)],
)
@pytest.mark.parametrize(
    ("limit_file", "used_file"),
    [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ],
)
def test_container_limit(
    tmp_path: Path, limit: str | None, used: str | None, expected: int | None, limit_file: str, used_file: str
) -> None:
    """A container's limit leaves what is not used of it, for both versions of cgroups; without one, None."""
    (tmp_path / "memory").mkdir()
    if limit is not None and used is not None:
        (tmp_path / limit_file).write_text(limit)
        (tmp_path / used_file).write_text(used)
    assert _cgroup_headroom(tmp_path) == expected
