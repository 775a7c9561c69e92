"""A measurement's timings, with rows that share a measurement beside those that were measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.measure.measured import Measured
from calibench.measure.stalls import AGAIN
from calibench.posthoc import log_of
from calibench.score.outcomes import Outcome
from calibench.score.prediction_sets import OWN, seconds_of
from calibench.types import IntArray


class SteppedEntries:
    """`Entries`: those of a journal with the time of post-hoc steps and of a method's sets added.

    A row with a post-hoc step has the times of the method alone, plus those of sending each block, and each
    sentence by itself, through the step, with the clock running; so has a method that makes prediction sets.

    Args:
        outcomes: all rows of the measurement.
    """

    def __init__(self, measured: Measured, outcomes: Sequence[Outcome]) -> None:
        self._journal = measured.journal
        self._blocks = [np.concatenate(groups) for groups in measured.setting.blocks]
        self._rows = measured.setting.dataset.rows
        self._stepped = [
            item
            for item in outcomes
            if item.fitted is not None or any(one.column == OWN for one in item.sets)
        ]
        self._entries: dict[str, list[dict[str, Any]]] = {}
        for item in self._stepped:
            self._seconds(item, np.array([0]))  # a first call may import

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""
        if kind not in self._entries:
            self._entries[kind] = [self._with_steps(entry) for entry in self._journal.of_kind(kind)]
        return self._entries[kind]

    def _with_steps(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["kind"] in ("block", AGAIN):
            positions = self._blocks[entry["block"]]
        elif entry["kind"] == "latency":
            positions = np.array([entry["position"]])
        else:
            return entry
        cells: dict[str, Any] = entry["cells"]
        added: dict[str, Any] = {}
        for item in self._stepped:
            if item.source.key in cells:
                times, seconds = cells[item.source.key], self._seconds(item, positions)
                added[item.row.key] = (
                    times | {"end_to_end_s": times["end_to_end_s"] + seconds}
                    if isinstance(times, dict)
                    else times + seconds
                )
        shared = {item.row.key: item.source.key for item in self._stepped}
        return entry | {"cells": cells | added, "shared": shared}

    def _seconds(self, item: Outcome, positions: IntArray) -> float:
        seconds = seconds_of(item, self._rows, positions)
        if item.fitted is None:
            return seconds
        probs = item.fitted.before[positions]
        start = time.perf_counter()
        item.fitted.calibrator.transform(log_of(probs))
        return seconds + time.perf_counter() - start
