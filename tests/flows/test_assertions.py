"""Assertions about predictions: they fail where the examples show it, and only there."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calibench as cb
import scored_files
from calibench.compare.gate import check
from calibench.compare.limits import parse_limits
from calibench.compare.runs import load_run, match

PROBS, LABELS = scored_files.predictions(2000)
SURE, _ = scored_files.predictions(2000, scale=2.0)


def outcome(assertion: Any, *args: Any, **given: Any) -> str:
    """ "failed", "undecided" or "passed"."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            assertion(*args, **given)
        except AssertionError:
            return "failed"
    assert all(item.category is cb.Undecided for item in caught)
    return "undecided" if caught else "passed"


ORDER = ["failed", "undecided", "passed"]


@given(limits=st.lists(st.floats(0.0, 0.3), min_size=2, max_size=6))
def test_a_wider_limit_is_never_harder_to_keep(limits: list[float]) -> None:
    """From shown beyond, over not known, to shown within."""
    found = [ORDER.index(outcome(cb.assert_calibrated, SURE[:400], LABELS[:400], x)) for x in sorted(limits)]
    assert found == sorted(found)


def test_a_known_answer() -> None:
    """Labels drawn from the probabilities are calibrated; logits twice as large are off by more than .1."""
    assert outcome(cb.assert_calibrated, PROBS, LABELS) == "passed"
    assert outcome(cb.assert_calibrated, SURE, LABELS, ece=0.1) == "failed"
    assert outcome(cb.assert_calibrated, SURE, LABELS, ece=0.2) == "passed"
    assert outcome(cb.assert_calibrated, np.log(PROBS), LABELS, logits=True) == "passed"
    assert outcome(cb.assert_no_worse, SURE, PROBS, LABELS, nll=0.01) == "failed"
    assert outcome(cb.assert_no_worse, PROBS, SURE, LABELS, nll=0.01, brier=0.0, accuracy=0.01) == "passed"


def test_few_examples_of_a_calibrated_model_do_not_fail() -> None:
    """At 60 seeds of 100 examples, where ECE itself reads .08: one in forty may, and 6 have odds of 1:400."""
    failed = 0
    for seed in range(60):
        probs, labels = scored_files.predictions(100, seed=seed)
        failed += outcome(cb.assert_calibrated, probs, labels, ece=0.01) == "failed"
    assert failed < 6


def test_what_cannot_be_told_says_what_would() -> None:
    """As many more as it names decide it; strict fails in the same sentence."""
    probs, labels = PROBS[:200], LABELS[:200]
    with pytest.warns(cb.Undecided) as caught:
        cb.assert_calibrated(probs, labels, ece=0.05)
    (warning,) = caught
    sentence = str(warning.message)
    assert warning.filename == __file__
    needed = re.fullmatch(
        r"ECE is \S+ \[\S+, \S+\] on 200 examples, which does not tell whether it is within the limit of "
        r"0\.05, and about ([\d,]+) more would tell\.",
        sentence,
    )
    assert needed is not None
    more = 200 + int(needed[1].replace(",", ""))
    assert more < 2000
    assert outcome(cb.assert_calibrated, PROBS[:more], LABELS[:more]) == "passed"
    with pytest.raises(AssertionError, match=f"^{re.escape(sentence)}$"):
        cb.assert_calibrated(probs, labels, ece=0.05, strict=True)


def test_a_failure_is_one_sentence() -> None:
    """With the number, its interval, the examples and the limit."""
    with pytest.raises(AssertionError) as raised:
        cb.assert_no_worse(SURE, PROBS, LABELS, brier=1.0, nll=0.01)
    assert re.fullmatch(
        r"NLL got worse by \S+ \[\S+, \S+\] on 2,000 examples, and the whole 95% interval lies beyond the "
        r"limit of 0\.01\.",
        str(raised.value),
    )


@pytest.mark.parametrize(
    "limit", ["nll=0.01", "nll=0.12", "nll=0.3", "accuracy=0.02", "ece=0.12", "brier=0.01"]
)
def test_it_judges_as_the_command_does(limit: str, tmp_path: Path) -> None:
    """The same limit on the same predictions as two run folders."""
    for name, probs in (("base", PROBS[:500]), ("new", SURE[:500])):
        cb.score(probs, LABELS[:500], name="m", output=tmp_path / name)
    found = match(load_run(tmp_path / "base"), load_run(tmp_path / "new"), quality_only=True)
    (finding,) = check(found, parse_limits([limit]))
    metric, _, amount = limit.partition("=")
    given = {metric: float(amount)}
    said = outcome(cb.assert_no_worse, SURE[:500], PROBS[:500], LABELS[:500], **given)
    assert said == finding.outcome


def test_answers_without_classes() -> None:
    """By their confidences, each method with its own right and wrong."""
    right = PROBS.argmax(axis=1) == LABELS
    sure = SURE.max(axis=1)
    assert outcome(cb.assert_calibrated, PROBS.max(axis=1), right, confidence=True) == "passed"
    assert outcome(cb.assert_calibrated, sure, right, confidence=True) == "failed"
    both = {"new": right, "base": right}
    given: dict[str, Any] = {"confidence": True, "brier_confidence": 0.001}
    assert outcome(cb.assert_no_worse, sure, PROBS.max(axis=1), both, **given) == "failed"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cb.assert_calibrated(PROBS, LABELS, ece=-1), "The limit 'ece=-1' is none"),
        (lambda: cb.assert_calibrated(2 * PROBS, LABELS), "which is no probability"),
        (lambda: cb.assert_no_worse(PROBS, PROBS, LABELS), "There is no limit to hold"),
        (lambda: cb.assert_no_worse(PROBS, PROBS, LABELS, nl=1.0), "did you mean 'nll'"),
        (lambda: cb.assert_no_worse(PROBS, PROBS, LABELS, throughput=5.0), "Unknown metric 'throughput'"),
        (
            lambda: cb.assert_no_worse(PROBS, PROBS[:-1], LABELS, nll=1.0),
            "1,999 rows of predictions and 2,000",
        ),
        (lambda: cb.assert_no_worse(PROBS, PROBS, LABELS, oos_auroc=1.0), "needs examples out of scope"),
    ],
)
def test_input_that_is_wrong_is_no_failed_assertion(call: Any, words: str) -> None:
    """It is refused, so that a broken test does not look like a broken model."""
    with pytest.raises(cb.UsageError) as raised:
        call()
    assert words in str(raised.value)


def test_what_has_no_interval_is_not_decided() -> None:
    """A number that these examples do not have is no reason to fail."""
    assert (
        outcome(cb.assert_no_worse, PROBS[:5], PROBS[:5], PROBS[:5].argmax(axis=1), error_auroc=0.1)
        == "undecided"
    )


def test_luck_is_no_evidence() -> None:
    """Forty examples that come out right to the last have an interval of no width, which shows nothing."""
    assert outcome(cb.assert_calibrated, [[0.5, 0.5]] * 40, [0, 1] * 20, ece=0.01) == "undecided"
