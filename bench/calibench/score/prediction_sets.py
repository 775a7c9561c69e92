"""The prediction sets of each row of a run: what they are calibrated on, and their fields of a record."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from calibench.errors import CalibenchError
from calibench.measure.checks import check_probabilities
from calibench.measure.measured import Measured
from calibench.measure.setting import Setting
from calibench.measure.splits import CalibrationSplit
from calibench.posthoc import cross_fit
from calibench.posthoc.conformal import FittedSets, Recipe, fit_apart, uniforms
from calibench.score.apart import step_factory
from calibench.score.made_sets import (
    Labelled,
    Sets,
    fitted_across,
    guarantee,
    identity_of,
    made,
    seed_of,
)
from calibench.score.outcomes import Outcome
from calibench.seeds import derived_seed
from calibench.store.records import Record
from calibench.suites.spec import Suite, recipes_of
from calibench.types import Dataset, FloatArray, IntArray, Predictive

#: The column of the stored predictions that holds the sets of a method that makes its own.
OWN = "set"


def lacks_sets(record: Record, setting: Setting) -> bool:
    """Whether a record was made without the sets that the suite asks for, or with others in their place."""
    asked = recipes_of(setting.suite.conformal)
    wanted = [_identity(recipe, setting.suite, setting.calibration) for recipe in asked]
    found = record.get("conformal") or []
    return not all(any(item.items() <= entry.items() for entry in found) for item in wanted)


def with_sets(measured: Measured, outcome: Outcome) -> Outcome:
    """The outcome with the sets that the suite asks for, and those of a method that makes its own.

    A method that cannot make its own sets has failed; where others get none, their record says why.
    """
    predictive, own = outcome.predictive, outcome.source.conformal
    if predictive is None:
        return outcome
    asked = recipes_of(measured.setting.suite.conformal)
    wanted = [(f"{OWN}_{recipe.kind}", recipe) for recipe in asked if recipe != own]
    if own is not None:
        wanted.insert(0, (OWN, own))
    made = [_made(measured, outcome, predictive, column, recipe) for column, recipe in wanted]
    if own is not None and made[0].sets is None:
        return outcome.failed(CalibenchError(str(made[0].fields["reason"])))
    if own is not None:
        predictive = replace(predictive, sets=made[0].sets)
    return replace(outcome, predictive=predictive, sets=tuple(made))


def seconds_of(outcome: Outcome, rows: IntArray, positions: IntArray) -> float:
    """The seconds in which a method that makes its own sets makes those of some examples.

    Args:
        rows: int64 [N], of all scored examples.
        positions: which of them.
    """
    found = next((item for item in outcome.sets if item.column == OWN), None)
    if found is None or found.fitted is None or outcome.predictive is None:
        return 0.0
    probs = outcome.predictive.probs[positions]
    start = time.perf_counter()
    found.fitted.sets(probs, uniforms(rows[positions], 0), positions)
    return time.perf_counter() - start


def _identity(recipe: Recipe, suite: Suite, split: CalibrationSplit | None) -> dict[str, Any]:
    """What tells sets from others of the same row."""
    folds = None if split else suite.calibration.folds
    return identity_of(recipe, folds=folds, sha256=split.dataset.sha256 if split else None)


def _made(measured: Measured, outcome: Outcome, predictive: Predictive, column: str, recipe: Recipe) -> Sets:
    setting, seed = measured.setting, outcome.source.cell.seed
    identity = _identity(recipe, setting.suite, setting.calibration) | {"column": column}
    examples = _labelled(setting.dataset, predictive.probs)
    try:
        fitted, fit_s = _fit(measured, outcome, examples, recipe)
    except CalibenchError as error:
        return Sets(recipe, column, None, None, identity | {"reason": str(error)})
    sets, values = made(fitted, examples, seed=seed, draws=setting.suite.seeds[0])
    fields = identity | {
        "reason": None,
        "guarantee": guarantee(fitted, stepped=outcome.fitted is not None),
        "examples": fitted.examples,
        "split": (setting.calibration.dataset if setting.calibration else setting.dataset).split,
        "unseen": setting.suite.calibration.unseen if setting.calibration else None,
        **values,
        "fit_s": fit_s,
    }
    return Sets(recipe, column, sets, fitted, fields)


def _labelled(dataset: Dataset, probs: FloatArray) -> Labelled:
    return Labelled(probs, dataset.labels, dataset.rows, dataset.label_names, dataset.split)


def _fit(
    measured: Measured, outcome: Outcome, examples: Labelled, recipe: Recipe
) -> tuple[FittedSets, float]:
    """The recipe with its thresholds, and the seconds that setting them took, forward passes apart.

    Raises:
        CalibenchError: there are no predictions to set them by.
    """
    setting, split, seed = measured.setting, measured.setting.calibration, outcome.source.cell.seed
    if split is None:
        return fitted_across(recipe, examples, folds=setting.suite.calibration.folds, seed=seed)
    raw, _ = measured.on_calibration(outcome.source, split)
    probs = _as_scored(measured, outcome, raw.probs, split)
    uniform = uniforms(split.dataset.rows, seed_of(seed, split.dataset.split))
    start = time.perf_counter()
    fitted = fit_apart(recipe, probs, split.dataset.labels, uniform)
    return fitted, time.perf_counter() - start


def _as_scored(
    measured: Measured, outcome: Outcome, probs: FloatArray, split: CalibrationSplit
) -> FloatArray:
    """The row's probabilities for the calibration split.

    A post-hoc step was fitted there, and is surer of the examples it has seen than of those that are scored;
    so each example gets the fit to the other folds of the split.

    Raises:
        CalibenchError: the step could not be fitted to the folds.
    """
    step = outcome.row.cell.step
    if step is None:
        return probs
    folds = measured.setting.suite.calibration.folds
    seed = derived_seed(outcome.source.cell.seed, "folds")
    try:
        make = step_factory(step, measured.setting)
        found = cross_fit(make, probs, split.dataset.labels, folds=folds, seed=seed).probs
        check_probabilities(found, split.dataset.rows, outcome.row.cell.label)
        return found
    except Exception as error:  # a post-hoc step may come from a plugin and break in any way
        raise CalibenchError(f"{step} failed on part of the calibration split: {error}") from error
