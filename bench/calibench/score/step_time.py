"""A measurement's timings, with rows that share a measurement beside those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.errors import CalibenchError
from calibench.measure.measured import Measured
from calibench.measure.stalls import AGAIN
from calibench.score.outcomes import Outcome
from calibench.score.prediction_sets import seconds_of
from calibench.types import IntArray


def adds_time(outcome: Outcome) -> bool:
    """Whether something is timed of a row beside its forward passes: a post-hoc step, or sets of its own."""
    return outcome.row.cell.step is not None or outcome.source.conformal is not None


class SteppedEntries:
    """`Entries`: those of a journal with the time of post-hoc steps and of a method's sets added.

    A row with a post-hoc step has the times of the method alone, plus those of sending each block, and each
    sentence by itself, through the step, with the clock running; so has a method that makes prediction sets.

    Args:
        outcomes: the rows of which `adds_time` is true, held no longer than it takes to time them.
    """

    def __init__(self, measured: Measured, outcomes: Sequence[Outcome]) -> None:
        self._journal = measured.journal
        self._blocks = [np.concatenate(groups) for groups in measured.setting.blocks]
        self._rows = measured.setting.dataset.rows
        stepped = [item for item in outcomes if item.failure is None]
        self._failures: dict[str, Exception] = {}
        for item in stepped:
            self._seconds(item, np.array([0]))  # a first call may import
        self._entries = {
            kind: [self._with_steps(entry, stepped) for entry in self._journal.of_kind(kind)]
            for kind in ("block", AGAIN, "latency")
        }

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""
        return self._entries[kind] if kind in self._entries else self._journal.of_kind(kind)

    def require(self, key: str) -> None:
        """Raise a CalibenchError where the row's step failed while it was timed."""
        if key in self._failures:
            raise CalibenchError(f"Its post-hoc step failed while it was timed: {self._failures[key]}")

    def _with_steps(self, entry: dict[str, Any], stepped: Sequence[Outcome]) -> dict[str, Any]:
        if entry["kind"] in ("block", AGAIN):
            positions = self._blocks[entry["block"]]
        else:
            positions = np.array([entry["position"]])
        cells: dict[str, Any] = entry["cells"]
        added: dict[str, Any] = {}
        for item in stepped:
            if item.source.key in cells:
                times, seconds = cells[item.source.key], self._seconds(item, positions)
                if seconds is None:
                    continue
                added[item.row.key] = (
                    times | {"end_to_end_s": times["end_to_end_s"] + seconds}
                    if isinstance(times, dict)
                    else times + seconds
                )
        shared = {item.row.key: item.source.key for item in stepped}
        return entry | {"cells": cells | added, "shared": shared}

    def _seconds(self, item: Outcome, positions: IntArray) -> float | None:
        """What a row's step and sets add for these examples; None once its step has failed."""
        seconds = seconds_of(item, self._rows, positions)
        if item.fitted is None:
            return seconds
        if item.row.key in self._failures:
            return None
        try:
            return seconds + item.fitted.calibrator.time_transform(item.fitted.before[positions])
        except Exception as error:  # a post-hoc step may come from a plugin and break in any way
            self._failures[item.row.key] = error
            return None
