"""Assertions about predictions, for tests: they fail only where the examples show it.

A limit is broken where the whole 95% interval lies beyond it, and kept where it lies within. What lies on
both sides passes with the warning `calibench.Undecided`, which says about how many more examples would
decide, or fails where `strict` asks for a limit that is shown to be kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from calibench.compare.contrasts import contrasts
from calibench.compare.gate import FAILED, UNDECIDED, Finding, judge, judge_ece, worsening
from calibench.compare.limits import MOST, parse_limits
from calibench.compare.verdicts import Pair
from calibench.errors import Undecided, UsageError
from calibench.flows.library import in_python, several
from calibench.metrics.calibration import ECE, ECE_DEBIASED
from calibench.metrics.select import select_metrics
from calibench.readers.arrays import read_arrays
from calibench.readers.asked import Asked
from calibench.readers.scored import Scored
from calibench.report.writing.numbers import interval
from calibench.score.quality import RESAMPLES
from calibench.stats.bootstrap import bootstrap_interval
from calibench.types import Evaluation

#: Frames between the warning and whoever asserts.
_CALLER = 3


def assert_calibrated(
    probs: Any,
    labels: Any,
    ece: float = 0.05,
    *,
    classes: Sequence[str] = (),
    logits: bool = False,
    confidence: bool = False,
    skip_nulls: bool = False,
    seed: int = 0,
    strict: bool = False,
) -> None:
    """Fail where the expected calibration error is shown to be larger than it may be.

    It is the ECE of the records, in 10 bins of equal width, with their 95% interval, which allows for what
    the estimate reads too much.

    Args:
        probs, labels, classes, logits, confidence, skip_nulls: as of `calibench.score`.
        ece: how large it may be.
        seed: of the resampling.
        strict: fail also where it is not shown to be within.

    Raises:
        AssertionError: one sentence with the number and its interval.
        UsageError: input that is not what was said of it.

    Warns:
        Undecided: the interval lies on both sides of the limit.
    """
    __tracebackhide__ = True
    with in_python():
        (limit,) = parse_limits([f"ece={ece}"], MOST)
        if ece < 0.0:
            raise UsageError(
                f"The limit 'ece={ece:g}' is none; expected a number from 0 up, such as ece=0.05."
            )
        asked = Asked(classes=several(classes), logits=logits, skip_nulls=skip_nulls)
        (table,) = read_arrays({"the predictions": probs}, labels, asked, by_confidence=confidence)
    evaluation = _evaluation(table)
    found = bootstrap_interval(ECE, evaluation, resamples=RESAMPLES, seed=seed)
    finding = judge_ece("", limit, found, ECE_DEBIASED.evaluate(evaluation), len(table))
    _hold({f"{ECE.title} is": finding}, strict=strict)


def assert_no_worse(
    new: Any,
    base: Any,
    labels: Any,
    *,
    classes: Sequence[str] = (),
    logits: bool = False,
    confidence: bool = False,
    skip_nulls: bool = False,
    seed: int = 0,
    strict: bool = False,
    **limits: float,
) -> None:
    """Fail where new predictions are shown to be worse than a base by more than they may be.

    By the paired difference on the same examples with its 95% interval, as `calibench check` judges.

    Args:
        new, base: probabilities for the same rows in the same order, as of `calibench.compare`.
        labels, classes, logits, confidence, skip_nulls: as of `calibench.compare`; with `confidence` the
            labels are {"new": ..., "base": ...}.
        seed: of the resampling.
        strict: fail also where a metric is not shown to be within.
        limits: by name of a metric, how much worse it may get in its own units: `nll=0.01, accuracy=0.005`.

    Raises:
        AssertionError: one sentence with the difference and its interval.
        UsageError: input that is not what was said of it, or no limit.

    Warns:
        Undecided: an interval lies on both sides of its limit.
    """
    __tracebackhide__ = True
    with in_python():
        if not limits:
            raise UsageError("There is no limit to hold the predictions to; give one, such as nll=0.01.")
        metrics = select_metrics(list(limits), posterior_known=False, classes_known=not confidence)
        wanted = parse_limits([f"{name}={amount}" for name, amount in limits.items()])
        asked = Asked(classes=several(classes), logits=logits, skip_nulls=skip_nulls)
        tables = read_arrays({"base": base, "new": new}, labels, asked, by_confidence=confidence)
    reference, evaluation = map(_evaluation, tables)
    rows = contrasts([Pair("new", reference, evaluation)], metrics, seed=seed)
    findings = {
        f"{row.metric.title} got worse by": judge("", limit, worsening(row), len(reference))
        for row, limit in zip(rows, wanted, strict=True)
    }
    _hold(findings, strict=strict)


def _evaluation(table: Scored) -> Evaluation:
    return Evaluation(table.probs, table.labels)


def _hold(findings: dict[str, Finding], *, strict: bool) -> None:
    """Raise for what is shown, and say what is not.

    Args:
        findings: by the words before the number.
    """
    __tracebackhide__ = True
    for words, finding in findings.items():
        if finding.outcome == FAILED:
            raise AssertionError(
                f"{_measured(words, finding)}, and the whole 95% interval lies beyond the limit of "
                f"{finding.limit.amount:g}."
            )
    for words, finding in findings.items():
        if finding.outcome == UNDECIDED:
            sentence = _undecided(words, finding)
            if strict:
                raise AssertionError(sentence)
            warnings.warn(sentence, Undecided, stacklevel=_CALLER)


def _measured(words: str, finding: Finding) -> str:
    examples = "example" if finding.n == 1 else "examples"
    return f"{words} {interval(vars(finding.seen))} on {finding.n:,} {examples}"


def _undecided(words: str, finding: Finding) -> str:
    if finding.seen.value is None:
        return f"It cannot be told whether {finding.limit} is kept: {finding.seen.reason}."
    if finding.seen.low is None or finding.seen.high is None:
        return f"{_measured(words, finding)}, without an interval: {finding.seen.reason}."
    more = (
        "and no number of examples that could be named would tell"
        if finding.needed is None
        else f"and about {int(float(f'{finding.needed:.2g}')):,} more would tell"
    )
    return (
        f"{_measured(words, finding)}, which does not tell whether it is within the limit of "
        f"{finding.limit.amount:g}, {more}."
    )
