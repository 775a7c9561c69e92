"""Numbers as text: compact, and written the same way in every table, figure and page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Format = Callable[[float], str]


def fraction(value: float, decimals: int = 4) -> str:
    """`.0770`: fixed decimals and no zero before the point, so that a column of them lines up."""
    text = f"{round(value, decimals) + 0.0:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def bound(value: float) -> str:
    """`.058`: the end of an interval, which is known less well than the value."""
    return fraction(value, 3)


def signed(value: float, decimals: int = 4) -> str:
    """`+.0012`: a difference; one that rounds to zero has no sign."""
    text = fraction(abs(value), decimals)
    rounded = round(value, decimals)
    return text if rounded == 0 else f"{'+' if rounded > 0 else '-'}{text}"


def span(low: float | None, high: float | None, decimals: int = 4) -> str:
    """`[-.0031, .0012]`: the ends of a difference's interval, or nothing without them."""
    return "" if low is None or high is None else f"[{fraction(low, decimals)}, {fraction(high, decimals)}]"


def tick(value: float) -> str:
    """`0`, `.05`, `1`: the shortest form, for an axis."""
    text = f"{value:.6g}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def significant(value: float, digits: int = 3) -> str:
    """`19.8`, `1,430`, `0.0042`: at least `digits` significant digits, never an exponent."""
    if value == 0:
        return "0"
    # Rounding first, because 9.996 has one digit before the point and its rounded form has two.
    magnitude = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def seconds(value: float) -> str:
    """Three significant digits as far as milliseconds go: `11.1`, `0.018`, `<0.001`."""
    if 0 < value < 0.0005:
        return "<0.001"
    return significant(value) if value >= 0.1 else f"{value:.3f}"


def memory(size: float) -> str:
    """Bytes in binary units: `312 MiB`."""
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size) >= step:
            return f"{significant(size / step)} {unit}"
    return f"{size:.0f} B"


def percent(value: float) -> str:
    """A share of 1 as `4.2%`."""
    return f"{significant(100 * value, 2)}%"


def interval(estimate: dict[str, Any], value: Format = fraction, end: Format = bound) -> str:
    """`.0770 [.058, .097]` from a record's `{"value", "low", "high"}`; the value alone without both ends."""
    text = value(estimate["value"])
    if estimate.get("low") is None or estimate.get("high") is None:
        return text
    return f"{text} [{end(estimate['low'])}, {end(estimate['high'])}]"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5940:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
