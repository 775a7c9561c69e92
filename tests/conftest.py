"""Shared fixtures, and the third-party warnings that are not ours to fix."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Warnings are errors; these come from inside other packages, each with the reason it is let through.
THIRD_PARTY_WARNINGS = (
    # baal logs through structlog.threadlocal, deprecated since structlog 22.1.
    "ignore:`structlog.threadlocal` is deprecated:DeprecationWarning",
    # baal's log processor names the thread by a method deprecated since Python 3.10.
    "ignore:getName:DeprecationWarning",
    # structlog 22.3, of baal, dates what it logs by a method deprecated since Python 3.12.
    "ignore:datetime.datetime.utcnow:DeprecationWarning",
    # peft 0.21 asks transformers 5.23 for a property that is called otherwise now.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    # mlflow 3.17 loads relations by a strategy that sqlalchemy 2.1 deprecates.
    "ignore:The ``noload`` loader strategy:DeprecationWarning",
)

# A first call imports and compiles: time is no property of an example. The same examples on every machine.
settings.register_profile("calibench", deadline=None, derandomize=True)
settings.load_profile("calibench")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features of training texts are cached where no other run sees them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> Iterator[None]:
    """Ctrl-C means what it does at a terminal, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def same_generator() -> Iterator[None]:
    """Every test starts from the same state of torch's generator, whatever ran before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
