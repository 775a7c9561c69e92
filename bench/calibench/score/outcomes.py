"""What each row predicts: blocks put together, and sent through the row's post-hoc step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibench.errors import CalibenchError
from calibench.measure.checks import check_probabilities
from calibench.measure.measured import DerivedCell, Measured, MeasuredCell
from calibench.measure.running import failure_of
from calibench.measure.setting import Setting
from calibench.measure.splits import ExtraData
from calibench.posthoc import log_of
from calibench.score.apart import seconds_allowed, step_factory
from calibench.score.made_sets import Sets
from calibench.score.steps import FittedStep, across, cross_fitted, note_of
from calibench.types import FloatArray, Predictive


@dataclass(frozen=True, eq=False)
class Outcome:
    """What there is to score of one row.

    Attributes:
        row: the row, whose cell and key the record has.
        source: the cell whose measurement it shares: itself, or its method without the post-hoc step.
        predictive: its predictions in data set order, or None where it failed.
        fitted: its post-hoc step, or None where it has none or failed.
        sets: its prediction sets; see `calibench.score.prediction_sets`.
        failure: why there is nothing to score, as in a record; None where there is.
    """

    row: MeasuredCell | DerivedCell
    source: MeasuredCell
    predictive: Predictive | None = None
    fitted: FittedStep | None = None
    sets: tuple[Sets, ...] = ()
    failure: dict[str, str] | None = None

    def failed(self, error: BaseException) -> Outcome:
        """The same without predictions, for this reason."""
        return replace(self, predictive=None, failure=failure_of(error))


def rows_of(measured: Measured) -> list[Outcome]:
    """One outcome per row, each method before its rows with post-hoc steps; nothing is predicted yet.

    A failed method fails these rows too, for its own reason.
    """
    found: list[Outcome] = []
    for source in measured.cells:
        derived = [item for item in measured.derived if item.base == source.key]
        rows: list[MeasuredCell | DerivedCell] = [source, *derived]
        found += [Outcome(row, source, failure=source.failure) for row in rows]
    return found


def predicted(measured: Measured, outcome: Outcome) -> Outcome:
    """The same with what the row predicts, its post-hoc step included; one that fails costs its row alone."""
    if outcome.failure is not None:
        return outcome
    raw = replace(outcome, predictive=joined(outcome.source, measured.setting))
    if raw.predictive is None or raw.row.cell.step is None:
        return raw
    try:
        predictive, fitted = calibrated(measured, raw.row.cell.step, raw.source, raw.predictive)
        check_probabilities(predictive.probs, measured.setting.dataset.rows, raw.row.cell.label)
    except Exception as error:  # a post-hoc step may come from a plugin and break in any way
        return raw.failed(error)
    return replace(raw, predictive=predictive, fitted=fitted)


def joined(source: MeasuredCell, setting: Setting, repetition: int = 0) -> Predictive:
    """The blocks of a repetition whose outputs were kept, put together in data set order."""
    order = np.concatenate([np.sort(np.concatenate(groups)) for groups in setting.blocks])
    inverse = np.argsort(order)
    outputs = source.outputs[repetition]
    parts = [outputs[block] for block in range(len(setting.blocks))]

    def join(arrays: Sequence[Any], axis: int = 0) -> Any:
        if any(array is None for array in arrays):
            return None
        return np.take(np.concatenate(arrays, axis=axis), inverse, axis=axis)

    return Predictive(
        probs=join([part.probs for part in parts]),
        passes=join([part.passes for part in parts]),
        samples=join([part.samples for part in parts], axis=1),
        standard_error=join([part.standard_error for part in parts]),
        scores={name: join([part.scores[name] for part in parts]) for name in parts[0].scores},
        sets=join([part.sets for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def on_extra(measured: Measured, outcome: Outcome, extra: ExtraData) -> Predictive:
    """What the row predicts for other data, its post-hoc step included.

    Raises:
        CalibenchError: it failed there.
    """
    predictive = measured.on_extra(outcome.source, extra)
    if outcome.fitted is None:
        return predictive
    label, rows = outcome.row.cell.label, extra.dataset.rows
    try:
        probs = outcome.fitted.on_other(predictive.probs, extra.of)
        check_probabilities(probs, rows, label)
    except CalibenchError:
        raise
    except Exception as error:  # a post-hoc step may come from a plugin and break in any way
        raise CalibenchError(f"{label} failed there: {type(error).__name__}: {error}") from error
    return replace(predictive, probs=probs)


def calibrated(
    measured: Measured, step: str, source: MeasuredCell, raw: Predictive
) -> tuple[Predictive, FittedStep]:
    """The predictions after a post-hoc step, and the step.

    What the step does not act on is left out: samples, standard errors and sets are about the method alone.

    Raises:
        RefusedError: the step does not apply.
        CalibenchError: it could not be fitted.
    """
    fit = _cross_fitted if measured.setting.calibration is None else _fitted_on_split
    probs, fitted = fit(measured, step, source, raw)
    notes = (*raw.notes, _note(step, fitted.fields, measured.setting))
    return replace(raw, probs=probs, samples=None, standard_error=None, sets=None, notes=notes), fitted


def _cross_fitted(
    measured: Measured, step: str, source: MeasuredCell, raw: Predictive
) -> tuple[FloatArray, FittedStep]:
    setting = measured.setting
    return cross_fitted(
        step,
        raw.probs,
        setting.dataset.labels,
        split=setting.dataset.split,
        folds=setting.suite.calibration.folds,
        seed=source.cell.seed,
        seconds=seconds_allowed(setting),
    )


def _fitted_on_split(
    measured: Measured, step: str, source: MeasuredCell, raw: Predictive
) -> tuple[FloatArray, FittedStep]:
    split = measured.setting.calibration
    assert split is not None
    predictive, seconds = measured.on_calibration(source, split)
    calibrator = step_factory(step, measured.setting)()
    start = time.perf_counter()
    calibrator.fit(log_of(predictive.probs), split.dataset.labels)
    fit_s = time.perf_counter() - start
    fields = {
        "seconds": seconds + fit_s,
        "examples": len(split.dataset),
        "folds": None,
        "split": split.dataset.split,
        "unseen": measured.setting.suite.calibration.unseen,
        "parameters": {name: [value] for name, value in calibrator.parameters.items()},
    }
    return calibrator.transform(log_of(raw.probs)), FittedStep(fields, (calibrator,), raw.probs)


def _note(step: str, fields: dict[str, Any], setting: Setting) -> str:
    """How the step was fitted, and what the intervals leave out."""
    split = setting.calibration
    where = f"{fields['examples']} examples of {fields['split']}"
    if split is None:
        where = across(fields, fields["split"])
    elif split.shared:
        where += f", without {split.shared} whose texts are scored"
    if fields["unseen"]:
        where += ", declared unseen by the model"
    return note_of(step, where, fields["parameters"])
