"""What measuring has found, which is all that scoring reads; nothing below it changes any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibench.measure.memory import Peak
from calibench.measure.setting import Setting
from calibench.measure.splits import CalibrationSplit, ExtraData
from calibench.measure.untimed import calibration_outputs, extra_outputs
from calibench.posthoc.conformal import Recipe
from calibench.runtimes.start import Facts
from calibench.store.journal import Journal
from calibench.suites.cells import Cell
from calibench.types import Coverage, FloatArray, Predictive


@dataclass(frozen=True, eq=False)
class MeasuredCell:
    """One cell after its measurement.

    Attributes:
        failure: why it has no outputs, as in a record; None where it has.
        setup_s: seconds from nothing to a method that can predict, fitting included.
        fit: of a method that learns from training data what that took, as in a record; else None.
        passes, coverage, conformal, tokenises: of its method, as `calibench.Method` has them.
        outputs: by repetition and block, what it predicted: of the first, and of those that count as
            replicates in a suite with a yardstick.
        peak: its peak memory, or None where memory was not measured.
        self_checked: whether it was raced against itself too.
    """

    cell: Cell
    key: str
    failure: dict[str, str] | None
    setup_s: float
    fit: dict[str, Any] | None
    passes: int
    coverage: Coverage | None
    conformal: Recipe | None
    tokenises: bool
    outputs: Mapping[int, Mapping[int, Predictive]]
    peak: Peak | None
    self_checked: bool


@dataclass(frozen=True, eq=False)
class DerivedCell:
    """A cell that shares the measurement of another: `base` is the other's key."""

    cell: Cell
    key: str
    base: str


@dataclass(frozen=True, eq=False)
class Measured:
    """A set of cells measured side by side.

    Attributes:
        cells: those with a method of their own, failed ones included.
        derived: those that share the measurement of one of these.
        journal: its timings, and what was predicted besides the scored data.
        runtimes: what is known of each runtime beside PyTorch, by name.
        references: float64 [2, N, C], long references of a suite with a yardstick; else None.
    """

    setting: Setting
    cells: tuple[MeasuredCell, ...]
    derived: tuple[DerivedCell, ...]
    journal: Journal
    runtimes: Mapping[str, Facts]
    references: FloatArray | None

    def reference_of(self, cell: Cell) -> MeasuredCell:
        """What costs of a cell are relative to."""
        return next(item for item in self.cells if item.cell.reference and item.cell.seed == cell.seed)

    def on_calibration(self, source: MeasuredCell, split: CalibrationSplit) -> tuple[Predictive, float]:
        """What a cell predicted for the calibration split, and the seconds it took.

        Raises:
            CalibenchError: it failed there.
        """
        return calibration_outputs(self.journal, source.key, source.cell.label, split)

    def on_extra(self, source: MeasuredCell, extra: ExtraData) -> Predictive:
        """What a cell predicted for other data.

        Raises:
            CalibenchError: it failed there.
        """
        return extra_outputs(self.journal, source.key, extra)
