"""What a section's methods cost and what they buy: one point per method and per number of passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from calibench.compare import front
from calibench.compare.front import Box
from calibench.compare.verdicts import ranked
from calibench.metrics.calibration import ECE, ECE_DEBIASED
from calibench.metrics.scoring import NLL
from calibench.metrics.selective import AURC
from calibench.report.sections import Entry, Section
from calibench.report.stored import stored_predictions
from calibench.stats.ratios import ratio_interval
from calibench.store.predictions import Predictions
from calibench.store.records import Record, dig, optimism_of
from calibench.types import Evaluation, FloatArray

Estimate = Mapping[str, Any]
#: Qualities whose front is looked at. Calibration enters by the debiased ECE²: the plain one reads less for
#: sharper probabilities however well calibrated they are, which is no reason to be on a front.
QUALITIES = ("NLL", "ECE", "AURC")
COSTS = ("time", "passes")


@dataclass(frozen=True, eq=False)
class Point:
    """One method with one number of passes.

    Attributes:
        entry: the method.
        passes: forward passes per example, on average where they differ.
        whole: whether these are all the passes of the method's row.
        metrics: estimates as in a record, by metric name.
        ratio: the cost ratio, an estimate as in a record.
        seconds: per sentence, an estimate.
        evaluation: predictions and labels in scope, or None where no predictions are stored.
        every: the same with the examples out of scope.
    """

    entry: Entry
    passes: float
    whole: bool
    metrics: Mapping[str, Estimate]
    ratio: Estimate
    seconds: Estimate
    evaluation: Evaluation | None
    every: Evaluation | None = None


@dataclass(frozen=True, eq=False)
class Tradeoff:
    """The points of a section, and how sure one can be of where they lie.

    Attributes:
        points: those whose cost ratio is known, in the order of the section, passes rising.
        boxes: for "nll" and "ece" the 95% region of each point as seen from the reference, which stands
            still, by its position among `points`.
        shares: P(on the front) of each point by (quality, cost), by its position among `points`.
    """

    points: tuple[Point, ...]
    boxes: Mapping[str, Mapping[int, Box]] = field(default_factory=dict)
    shares: Mapping[tuple[str, str], Mapping[int, float]] = field(default_factory=dict)


def points(section: Section, folder: Path) -> list[Point]:
    """Every method with all its passes, and with each smaller number that was timed and stored.

    Raises:
        CalibenchError: two cells of the section hold predictions about different examples.
    """
    stored = {entry.order: predictions for entry, predictions in stored_predictions(section, folder)}
    found = []
    for entry in section.measured:
        predictions = stored.get(entry.order)
        found += [*_fewer_passes(entry, predictions), _whole(entry, predictions)]
    return found


def _whole(entry: Entry, predictions: Predictions | None) -> Point:
    record = entry.record
    every = None if predictions is None else evaluation_of(entry, predictions)
    return Point(
        entry=entry,
        passes=dig(record, "passes_used", "mean") or record.get("passes") or 1,
        whole=True,
        metrics=record.get("metrics") or {},
        ratio=record.get("cost_ratio") or {},
        seconds=_inverse(dig(record, "timing", "throughput", "sentences_per_s") or {}),
        evaluation=None if every is None else every.in_scope(),
        every=every,
    )


#: One object for each file's predictions: what metrics make of it is then made once.
_EVALUATIONS: WeakKeyDictionary[Predictions, Evaluation] = WeakKeyDictionary()


def evaluation_of(entry: Entry, predictions: Predictions) -> Evaluation:
    """What was stored of an entry, examples out of scope included, with the score by which it ranks.

    Raises:
        CalibenchError: that score is not stored.
    """
    if predictions not in _EVALUATIONS:
        own_score, optimism = predictions.own_score(entry.record), optimism_of(entry.record)
        _EVALUATIONS[predictions] = ranked(predictions.probs, predictions.label, own_score, optimism)
    return _EVALUATIONS[predictions]


def _fewer_passes(entry: Entry, predictions: Predictions | None) -> list[Point]:
    """Points of the curve; its last one is the row itself where that has as many passes."""
    curve = entry.record.get("curve") or {}
    found = []
    for at, passes in enumerate(curve.get("passes") or []):
        ratios, seconds = curve.get("cost_ratio"), curve.get("seconds")
        if passes >= (entry.record.get("passes") or 1) or not ratios or not seconds:
            continue
        probs = None if predictions is None else predictions.at_passes.get(passes)
        evaluation = None if predictions is None or probs is None else _scored(probs, predictions)
        found.append(
            Point(
                entry=entry,
                passes=passes,
                whole=False,
                metrics={name: values[at] for name, values in curve["metrics"].items()},
                ratio=ratios[at],
                seconds={"value": seconds[at]},
                evaluation=evaluation,
            )
        )
    return found


def _scored(probs: FloatArray, predictions: Predictions) -> Evaluation:
    # A label of -1 is one the model cannot output: no method can be right or wrong about it.
    scored = predictions.label >= 0
    return Evaluation(probs[scored], predictions.label[scored])


def _inverse(rate: Estimate) -> Estimate:
    value, low, high = (rate.get(key) for key in ("value", "low", "high"))
    if not value:
        return {"value": None}
    if not low or not high:
        return {"value": 1.0 / value}
    return {"value": 1.0 / value, "low": 1.0 / high, "high": 1.0 / low}


def tradeoff(found: Sequence[Point]) -> Tradeoff:
    """Regions and probabilities of the points that have predictions; empty with fewer than two of them."""
    costed = tuple(point for point in found if point.ratio.get("value"))
    at = [i for i, point in enumerate(costed) if point.evaluation is not None]
    if len(at) < 2:
        return Tradeoff(costed)
    drawn = [costed[i] for i in at]
    evaluations = [point.evaluation for point in drawn if point.evaluation is not None]
    time = _cost_draws(drawn)
    fixed = next((i for i, point in enumerate(drawn) if point.entry.record.get("reference")), None)
    passes = np.repeat(np.array([[point.passes] for point in drawn], dtype=float), front.DRAWS, axis=1)
    known = (ECE,) if evaluations[0].by_confidence else (NLL, ECE)
    metrics = (*known, ECE_DEBIASED, AURC)
    drawn_qualities = front.quality_draws(metrics, evaluations)
    quality_of = {metric.name: own for metric, own in zip(metrics, drawn_qualities, strict=True)}
    plain = {metric.name: quality_of[metric.name] for metric in known}
    qualities = {
        "NLL": plain.get("nll"),
        "ECE": quality_of[ECE_DEBIASED.name],
        "AURC": quality_of[AURC.name],
    }
    return Tradeoff(
        costed,
        {
            name: {
                i: front.region(*pair) for i, *pair in zip(at, _seen_from(draws, fixed), time, strict=True)
            }
            for name, draws in plain.items()
        },
        {
            (name, kind): dict(zip(at, front.on_front(quality, cost).tolist(), strict=True))
            for name, quality in qualities.items()
            if quality is not None
            for kind, cost in zip(COSTS, (time, passes), strict=True)
        },
    )


def _seen_from(draws: FloatArray, fixed: int | None) -> FloatArray:
    """Draws in which one point stays where it is: what remains is what the others differ by."""
    return draws if fixed is None else draws - draws[fixed] + draws[fixed].mean()


def _cost_draws(drawn: Sequence[Point]) -> FloatArray:
    """Draws of each point's cost ratio, float64 [P, R]: from the blocks it shares, where there are some."""
    reference = next((point.entry.record for point in drawn if point.entry.record.get("reference")), None)
    times = [_block_seconds(point.entry.record) if point.whole else {} for point in drawn]
    base = _block_seconds(reference) if reference else {}
    blocks = sorted({block for own in times for block in own} | set(base))
    seconds = np.array([[own.get(block, np.nan) for block in blocks] for own in times])
    against = np.array([base.get(block, np.nan) for block in blocks])
    paired = [_is_its_ratio(own, against, point.ratio) for own, point in zip(seconds, drawn, strict=True)]
    joint = iter(front.block_cost_draws(seconds[paired], against) if any(paired) else ())
    return np.stack(
        [
            next(joint) if together else front.interval_cost_draws(point.ratio, seed=1 + position)
            for position, (together, point) in enumerate(zip(paired, drawn, strict=True))
        ]
    )


def _block_seconds(record: Record) -> dict[tuple[int, int], float]:
    blocks = dig(record, "timing", "blocks") or []
    return {(block["repetition"], block["block"]): block["end_to_end_s"] for block in blocks}


def _is_its_ratio(own: FloatArray, reference: FloatArray, ratio: Estimate) -> bool:
    """Whether these blocks gave the recorded ratio: in a resumed run the reference may be timed anew."""
    both = np.isfinite(own) & np.isfinite(reference)
    if not both.any():
        return False
    found = ratio_interval(own[both], reference[both]).value
    return found is not None and bool(np.isclose(found, ratio["value"], rtol=1e-6))
