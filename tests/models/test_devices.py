"""Devices and dtypes: the fastest there is, or a sentence that lists what there is."""

from __future__ import annotations

import pytest
import torch

from calibench.errors import UsageError
from calibench.models.devices import find_device, find_dtype
from calibench.models.loading import load_checkpoint


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int, mps: bool) -> None:
    """A machine with this many CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(0, False, "cpu"), (2, False, "cuda"), (0, True, "mps")])
def test_auto_takes_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, chosen: str
) -> None:
    """CUDA before MPS before CPU, and named devices where they exist."""
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert find_device("auto") == torch.device(chosen)
    assert find_device("cpu") == torch.device("cpu")
    if cuda:
        assert find_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", "not available here: choose from cpu, cuda:0, cuda:1"),
        ("mps", "not available here"),
        ("gpu", "is not a device: choose auto, cpu"),
        ("cuda:x", "is not a device"),
        ("cuda:", "is not a device"),
        ("cpu:0", "is not a device"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """The sentence lists what there is."""
    pretend(monkeypatch, cuda=2, mps=False)
    with pytest.raises(UsageError, match=message):
        find_device(name)


def test_mps_is_not_asked_for_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none, and would say so after the model was loaded."""
    pretend(monkeypatch, cuda=0, mps=True)
    with pytest.raises(UsageError, match=r"'mps' has no float64"):
        load_checkpoint("embedded", device="auto", dtype="float64")


def test_an_unknown_dtype_lists_the_known_ones() -> None:
    """`int8` is no precision to compute a softmax in."""
    with pytest.raises(UsageError, match=r"'int8' is not a dtype: choose auto, float32, bfloat16"):
        find_dtype("int8")
