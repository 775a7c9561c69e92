"""The fixture `calibration` of pytest. Every project's pytest loads this, so that it imports nothing more."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def calibration() -> ModuleType:
    """`assert_calibrated` and `assert_no_worse`, which fail only where the examples show it."""
    from calibench.flows import assertions

    return assertions
