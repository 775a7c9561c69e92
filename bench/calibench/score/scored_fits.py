"""Steps and sets of predictions that came in files: cross-fitted, or fitted on the rows that are held out."""

from __future__ import annotations

import time
from typing import Any

from calibench.errors import CalibenchError
from calibench.posthoc import FOLDS, cross_fit, log_of
from calibench.posthoc.conformal import FittedSets, Recipe, fit_apart, uniforms
from calibench.readers.scored import Scored
from calibench.score.apart import ContainedStep
from calibench.score.made_sets import Labelled, Sets, fitted_across, guarantee, identity_of, made, seed_of
from calibench.score.steps import FittedStep, across, cross_fitted, note_of
from calibench.seeds import derived_seed
from calibench.types import FloatArray


def with_step(step: str, table: Scored, seed: int) -> tuple[FloatArray, FittedStep, str]:
    """What a post-hoc step makes of the rows, float64 [N, C], the step, and how it was fitted in words.

    Raises:
        RefusedError: the step does not apply.
        CalibenchError: it could not be fitted.
    """
    if table.calibration is None:
        probs, fitted = cross_fitted(step, table.probs, table.labels, split=None, folds=FOLDS, seed=seed)
        return probs, fitted, note_of(step, across(fitted.fields, "these rows"), fitted.fields["parameters"])
    calibrator = ContainedStep(step)
    start = time.perf_counter()
    calibrator.fit(log_of(table.calibration.probs), table.calibration.labels)
    fields: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "examples": len(table.calibration),
        "folds": None,
        "split": _split(table),
        "unseen": None,
        "parameters": {name: [value] for name, value in calibrator.parameters.items()},
    }
    note = note_of(step, f"{fields['examples']:,} rows with {_split(table)}", fields["parameters"])
    return calibrator.transform(log_of(table.probs)), FittedStep(fields, (calibrator,), table.probs), note


def _split(table: Scored) -> str | None:
    """What the rows that are held out have in common."""
    return table.said.get("calibration_split")


def set_identity(recipe: Recipe, table: Scored) -> dict[str, Any]:
    """What tells sets from others of the same row."""
    calibration = table.calibration
    if calibration is None:
        return identity_of(recipe, folds=FOLDS, sha256=None)
    return identity_of(recipe, folds=None, sha256=calibration.data_sha256())


def sets_of(recipe: Recipe, table: Scored, probs: FloatArray, step: str | None, seed: int) -> Sets:
    """The prediction sets of a row of the table.

    Args:
        probs: float64 [N, C], what the row says, after its post-hoc step.
    """
    examples = Labelled(probs, table.labels, table.rows, table.classes.names, None)
    column = f"set_{recipe.kind}"
    identity = set_identity(recipe, table) | {"column": column}
    try:
        fitted, fit_s = _fitted(recipe, table, examples, step, seed)
    except CalibenchError as error:
        return Sets(recipe, column, None, None, identity | {"reason": str(error)})
    sets, values = made(fitted, examples, seed=seed, draws=seed)
    fields = identity | {
        "reason": None,
        "guarantee": guarantee(fitted, stepped=step is not None),
        "examples": fitted.examples,
        "split": _split(table),
        "unseen": None,
        **values,
        "fit_s": fit_s,
    }
    return Sets(recipe, column, sets, fitted, fields)


def _fitted(
    recipe: Recipe, table: Scored, examples: Labelled, step: str | None, seed: int
) -> tuple[FittedSets, float]:
    """The recipe with its thresholds, and the seconds that setting them took."""
    split = table.calibration
    if split is None:
        return fitted_across(recipe, examples, folds=FOLDS, seed=seed)
    probs = split.probs
    if step is not None:
        # Fitted there, the step is surer of these rows than of those that are scored: by folds it is not.
        folding = derived_seed(seed, "folds")
        probs = cross_fit(lambda: ContainedStep(step), probs, split.labels, folds=FOLDS, seed=folding).probs
    start = time.perf_counter()
    fitted = fit_apart(recipe, probs, split.labels, uniforms(split.rows, seed_of(seed, None)))
    return fitted, time.perf_counter() - start
