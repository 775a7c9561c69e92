"""The shapes that travel."""

from __future__ import annotations

from calibench.types import Interval


def test_an_interval_is_what_a_record_holds() -> None:
    """The four fields, missing ones as null with the reason."""
    assert Interval(1.0, 0.5, 1.5).as_dict() == {"value": 1.0, "low": 0.5, "high": 1.5, "reason": None}
    missing = Interval(None, None, None, "n too small")
    assert missing.as_dict() == {"value": None, "low": None, "high": None, "reason": "n too small"}
