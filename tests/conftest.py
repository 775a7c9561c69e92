"""Shared fixtures, and the third-party warnings that are not ours to fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Warnings are errors; these come from inside other packages, each with the reason it is let through.
THIRD_PARTY_WARNINGS = (
    # baal logs through structlog.threadlocal, deprecated since structlog 22.1.
    "ignore:`structlog.threadlocal` is deprecated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SHARED.is_dir():
        skip = pytest.mark.skip(reason="no ../shared with real data and checkpoints beside the checkout")
        for item in items:
            if "shared" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def shared() -> Path:
    """The folder of real data and checkpoints; for tests marked `shared`."""
    return SHARED


@pytest.fixture(autouse=True)
def unchanged_generators() -> Iterator[None]:
    """No test leaves torch's generator or thread count other than it found them."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    assert torch.get_num_threads() == threads
