"""Every random number of a run comes from the seed of its cell, by way of a purpose."""

from __future__ import annotations

import hashlib
from typing import Any


def derived_seed(seed: int, *purpose: Any) -> int:
    """A seed for one purpose, the same on every machine: 63 bits of a hash of seed and purpose."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
