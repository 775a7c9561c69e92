"""What each row predicts: blocks put together, and sent through the row's post-hoc step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibench.errors import CalibenchError
from calibench.measure.checks import check_probabilities
from calibench.measure.measured import DerivedCell, Measured, MeasuredCell
from calibench.measure.running import failure_of
from calibench.measure.setting import Setting
from calibench.measure.splits import ExtraData
from calibench.metrics.calibration import ECE_DEBIASED
from calibench.posthoc import cross_fit, log_of
from calibench.posthoc.conformal import FittedSets, Recipe
from calibench.score.apart import ContainedStep, step_factory
from calibench.seeds import derived_seed
from calibench.store.records import Record
from calibench.types import BoolArray, Evaluation, FloatArray, IntArray, Metric, Predictive


@dataclass(frozen=True, eq=False)
class FittedStep:
    """A post-hoc step after its fit.

    Attributes:
        fields: `fit` of the record.
        calibrators: the fitted step, or of a cross-fit that of each fold.
        before: float64 [N, C], the probabilities it was applied to.
        fold: int64 [N], of a cross-fit the fold in which each example was held out; else None.
    """

    fields: dict[str, Any]
    calibrators: tuple[ContainedStep, ...]
    before: FloatArray
    fold: IntArray | None = None

    @property
    def calibrator(self) -> ContainedStep:
        """The fitted step; of a cross-fit the first fold's."""
        return self.calibrators[0]

    def optimism(
        self, before: FloatArray, evaluation: Evaluation, metrics: Iterable[Metric]
    ) -> dict[str, float]:
        """What cross-fitting hides from each metric: `Evaluation.optimism`; empty of a fit on another split.

        Args:
            before: float64 [N, C], what the step was applied to.
            evaluation: what it made of that, examples out of scope included.
        """
        if self.fold is None:
            return {}
        inside = evaluation.labels >= 0
        log_probs, scored = log_of(before[inside]), evaluation.in_scope()
        refits = [calibrator.transform(log_probs) for calibrator in self.calibrators]
        return {
            metric.name: metric.optimism(scored, refits)
            for metric in metrics
            if metric.optimism is not None and (self.calibrator.smooth or metric is not ECE_DEBIASED)
        }

    def on_other(self, probs: FloatArray, of: IntArray | None) -> FloatArray:
        """What the step makes of examples that are not the scored ones, float64 [M, C].

        Of a cross-fit the mean over its folds; for what is made from a scored example, the fit that did not
        see that example's label.

        Args:
            of: int64 [M], the scored example that each is made from; None for others.
        """
        mapped = np.stack([calibrator.transform(log_of(probs)) for calibrator in self.calibrators])
        if self.fold is not None and of is not None:
            held_out: FloatArray = mapped[self.fold[of], np.arange(len(probs))]
            return held_out
        mean: FloatArray = mapped.mean(axis=0)
        return mean


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


def outcomes_of(measured: Measured) -> list[Outcome]:
    """One outcome per row, each method before its rows with post-hoc steps.

    A failed method fails these rows too, for its own reason; a post-hoc step that fails costs its row alone.
    """
    found: list[Outcome] = []
    for source in measured.cells:
        raw = _raw(source, measured.setting)
        derived = [item for item in measured.derived if item.base == source.key]
        rows: list[MeasuredCell | DerivedCell] = [source, *derived]
        found += [_stepped(measured, replace(raw, row=row)) for row in rows]
    return found


def _raw(source: MeasuredCell, setting: Setting) -> Outcome:
    """What the method itself predicted, before any post-hoc step."""
    outcome = Outcome(source, source, failure=source.failure)
    if source.failure is not None:
        return outcome
    return replace(outcome, predictive=joined(source, setting))


def _stepped(measured: Measured, raw: Outcome) -> Outcome:
    """The outcome after the row's post-hoc step, where it has one."""
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
    outputs = source.replicates[repetition] if repetition else source.outputs
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
    folds = setting.suite.calibration.folds
    seed = derived_seed(source.cell.seed, "folds")
    found = cross_fit(step_factory(step, setting), raw.probs, setting.dataset.labels, folds=folds, seed=seed)
    fields = {
        "seconds": found.fit_s,
        "examples": found.examples,
        "folds": folds,
        "split": setting.dataset.split,
        "unseen": None,
        "parameters": found.parameters,
    }
    return found.probs, FittedStep(fields, found.calibrators, raw.probs, found.fold)


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
    split, parameters = setting.calibration, fields["parameters"]
    where, hidden = f"{fields['examples']} examples of {fields['split']}", ""
    if split is None:
        where += f" in {fields['folds']} folds, each example scored by the fit to the other folds"
        hidden = "; calibration errors hold what cross-fitting hides from them"
    elif split.shared:
        where += f", without {split.shared} whose texts are scored"
    if fields["unseen"]:
        where += ", declared unseen by the model"
    numbers = [value for values in parameters.values() for value in values]
    learnt = ""
    if len(parameters) == 1 and all(isinstance(value, int | float) for value in numbers):
        learnt = f" ({next(iter(parameters))} {', '.join(f'{value:.3g}' for value in numbers)})"
    return f"{step} was fitted on {where}{learnt}{hidden}; intervals do not refit it on resamples."


@dataclass(frozen=True, eq=False)
class Sets:
    """The sets of one row by one recipe.

    Attributes:
        recipe: what was asked for.
        column: of the stored predictions.
        sets: bool [N, C], or None where they could not be made.
        fitted: what made them.
        fields: of the record.
    """

    recipe: Recipe
    column: str
    sets: BoolArray | None
    fitted: FittedSets | None
    fields: Record
