"""The prediction sets of one row, and their fields of a record."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibench.posthoc.conformal import FittedSets, Recipe, fit_crossed, uniforms
from calibench.posthoc.folds import stratified_folds
from calibench.score.set_coverage import set_values
from calibench.seeds import derived_seed
from calibench.store.records import Record
from calibench.types import BoolArray, FloatArray, IntArray


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


def identity_of(recipe: Recipe, *, folds: int | None, sha256: str | None) -> dict[str, Any]:
    """What tells sets from others of the same row.

    Args:
        folds: of a cross-fit; None where a split of its own sets the thresholds.
        sha256: of that split.
    """
    parameters = {"lambda": recipe.raps_lambda, "k_reg": recipe.raps_k_reg}
    return {
        "kind": recipe.kind,
        "level": recipe.level,
        "class_conditional": recipe.class_conditional,
        "parameters": parameters if recipe.kind == "raps" else {},
        "folds": folds,
        "sha256": sha256,
    }


@dataclass(frozen=True, eq=False)
class Labelled:
    """The examples whose sets are made.

    Attributes:
        probs: float64 [N, C].
        labels: int64 [N]; -1 for examples out of scope.
        rows: int64 [N], which example gets which random number.
        names: the C classes.
        split: where the examples come from.
    """

    probs: FloatArray
    labels: IntArray
    rows: IntArray
    names: Sequence[str]
    split: str | None


def fitted_across(recipe: Recipe, examples: Labelled, *, folds: int, seed: int) -> tuple[FittedSets, float]:
    """Thresholds of each fold from the others, and the seconds that setting them took.

    Args:
        seed: of the cell.
    """
    fold = stratified_folds(examples.labels, folds, seed=derived_seed(seed, "folds"))
    uniform = uniforms(examples.rows, seed_of(seed, examples.split))
    start = time.perf_counter()
    fitted = fit_crossed(recipe, examples.probs, examples.labels, uniform, fold, folds)
    return fitted, time.perf_counter() - start


def seed_of(seed: int, split: str | None) -> int:
    """What the random numbers of a split's examples are drawn from."""
    return derived_seed(seed, "sets", split)


def made(
    fitted: FittedSets, examples: Labelled, *, seed: int, draws: int
) -> tuple[BoolArray, dict[str, Any]]:
    """The sets, bool [N, C], and what a record says of them beside how they were fitted.

    Args:
        seed: of the cell.
        draws: the seed of what chance would make of them.
    """
    start = time.perf_counter()
    sets = fitted.sets(examples.probs, uniforms(examples.rows, seed_of(seed, examples.split)))
    seconds = time.perf_counter() - start
    return sets, {
        **set_values(sets, examples.labels, examples.names, fitted, draws),
        "without_own": _without_own(fitted),
        "thresholds": _thresholds(fitted),
        "seconds_per_example": seconds / len(examples.labels),
    }


def guarantee(fitted: FittedSets, *, stepped: bool) -> str | None:
    """ "class", "marginal", or None where the probabilities depend on the labels that set the thresholds.

    Args:
        stepped: whether a post-hoc step was fitted to these labels.
    """
    if stepped:
        return None
    if not fitted.recipe.class_conditional:
        return "marginal"
    return "class" if all(item.own.all() for item in fitted.thresholds) else "some classes"


def _without_own(fitted: FittedSets) -> int | None:
    """How many classes had too few examples, in any fold, for a threshold of their own."""
    if not fitted.recipe.class_conditional:
        return None
    return int((~np.stack([item.own for item in fitted.thresholds])).any(axis=0).sum())


def _thresholds(fitted: FittedSets) -> list[Any]:
    """Per fit a threshold, or one per class; null where it is infinite."""
    values = [[None if math.isinf(v) else float(v) for v in item.values] for item in fitted.thresholds]
    return values if fitted.recipe.class_conditional else [item[0] for item in values]
