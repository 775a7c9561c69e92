"""Limits: how they are read, which rows they hold for, and what a value is judged to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from calibench.cli import main
from calibench.compare.gate import BEYOND, FAILED, FINE, NOT_APART, PASSED, UNDECIDED, hold, judge, levels
from calibench.compare.limits import CHANGE, LEAST, MOST, Kind, Limit, by_row, parse_limits
from calibench.compare.runs import load_run
from calibench.errors import UsageError
from calibench.types import Interval
from run_pairs import METHOD, REFERENCE, run


def test_a_limit_names_a_row_and_a_row_may_hold_commas_and_colons() -> None:
    """What is in brackets is the row's, and the last colon parts it from the name."""
    found = parse_limits(["ece=0.05, a + b (T=5, k=2):nll=3", "m:x:latency_p50=20"], MOST)
    assert [(limit.row, limit.name, limit.amount) for limit in found] == [
        (None, "ece", 0.05),
        ("a + b (T=5, k=2)", "nll", 3.0),
        ("m:x", "latency_p50", 20.0),
    ]
    assert parse_limits([str(limit) for limit in found], MOST) == found


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("latncy_p50=20", MOST, "Unknown metric 'latncy_p50'; did you mean 'latency_p50'?"),
        ("throughput=5%", MOST, "Unknown metric 'throughput'"),
        ("latency_p50=20", CHANGE, "Unknown metric 'latency_p50'"),
        ("accuracy=0.9", MOST, "Of accuracy more is better, so that --max limits nothing; give --min."),
        ("latency_p50=9", LEAST, "Of latency_p50 less is better, so that --min limits nothing; give --max."),
        ("ece=5%", MOST, "should be a number in its own units"),
        ("a:ece=1,a:ece=2", MOST, "There are two limits for a:ece"),
        ("ece=inf", MOST, "expected NAME=VALUE or ROW:NAME=VALUE"),
    ],
)
def test_what_limits_no_value_is_refused(text: str, kind: Kind, message: str) -> None:
    """A name that is near is said, and so is the other option."""
    with pytest.raises(UsageError) as caught:
        parse_limits([text], kind)
    assert message in str(caught.value)


def test_a_row_s_own_limit_stands_in_place_of_the_general_one(tmp_path: Path) -> None:
    """Of the same kind and name only; and all seeds of a method are named by the method."""
    held = load_run(run(tmp_path / "a", seeds=(0, 1)))
    limits = parse_limits(["ece=0.1,mc-dropout:ece=0.2,nll=1"], MOST)
    found = by_row(limits, held)
    for record in held.records:
        amount = 0.2 if record["method"]["name"] == "mc-dropout" else 0.1
        assert {(limit.name, limit.amount) for limit in found[record["cell"]]} == {
            ("ece", amount),
            ("nll", 1),
        }


def test_a_row_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """One sentence."""
    held = load_run(run(tmp_path / "a"))
    with pytest.raises(UsageError, match="has no row 'mc-dropuot'; did you mean 'mc-dropout'"):
        by_row(parse_limits(["mc-dropuot:ece=1"], MOST), held)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(-2, 2))
def test_at_most_and_at_least_are_mirror_images(
    value: float, below: float, above: float, amount: float
) -> None:
    """A value is no less than a limit exactly where its negative is no more than the limit's."""
    seen = Interval(value, value - below, value + above)
    mirrored = Interval(-value, -value - above, -value + below)
    most = judge("a", Limit("ece", amount, MOST), seen, 100)
    least = judge("a", Limit("accuracy", -amount, LEAST), mirrored, 100)
    assert (most.judgement, most.needed) == (least.judgement, least.needed)
    expected = BEYOND if value - below > amount else FINE if value + above <= amount else NOT_APART
    assert most.judgement == expected


@pytest.mark.parametrize("name", ["nll", "latency_p50", "cost_ratio"])
def test_a_value_is_that_of_the_record(name: str, tmp_path: Path) -> None:
    """Passed above its interval, failed below it, undecided within; changes do not matter."""
    held = load_run(run(tmp_path / "a", METHOD, REFERENCE))
    ((finding, *_), _) = levels(held, [Limit(name, 1e9, MOST)])
    paths = {"latency_p50": ("timing", "latency_ms", "p50"), "cost_ratio": ("cost_ratio",)}
    block = held.records[0]
    for key in paths.get(name, ("metrics", name)):
        block = block[key]
    low, high = block["low"], block["high"]
    assert finding.seen == Interval(block["value"], low, high)
    assert low < high
    for amount, outcome in ((high, PASSED), (0.999 * low, FAILED), ((low + high) / 2, UNDECIDED)):
        (found, *_), _ = levels(held, [Limit(name, amount, MOST)])
        assert found.outcome == outcome


def test_a_value_that_a_record_lacks_is_refused(tmp_path: Path) -> None:
    """And is no silent pass."""
    held = load_run(run(tmp_path / "a"))
    with pytest.raises(UsageError, match="its record has no oos_auroc"):
        hold(held, parse_limits(["oos_auroc=0.5"], LEAST))


def test_a_row_that_failed_fails_what_holds_for_it(tmp_path: Path) -> None:
    """A limit on another row leaves it alone."""
    held = load_run(run(tmp_path / "a", REFERENCE, replace(METHOD, error="no dropout")))
    everywhere = hold(held, parse_limits(["nll=100"], MOST))
    assert everywhere.outcome == FAILED
    assert everywhere.failed == (("mc-dropout", "no dropout"),)
    assert hold(held, parse_limits(["frequentist:nll=100"], MOST)).outcome == PASSED


def test_a_ratio_of_prices_is_known_and_decides(tmp_path: Path) -> None:
    """It has no interval because nothing was measured, and not because too little was."""
    rows = ["label,p_0,p_1", *["0,0.9,0.1", "1,0.2,0.8"] * 100]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(rows), encoding="utf-8")
    asked = [f"a={file}", f"b={file}", "--label", "label", "--probs", "p_*", "--prices", "a=1,b=3", "-q"]
    scored = CliRunner().invoke(main, ["score", *asked, "-o", str(tmp_path / "a")])
    assert scored.exit_code == 0, scored.output
    held = load_run(tmp_path / "a")
    outcomes = [
        [finding.outcome for finding in hold(held, [Limit("cost_ratio", amount, MOST)]).findings]
        for amount in (2.9, 3.1)
    ]
    assert outcomes == [[PASSED, FAILED], [PASSED, PASSED]]
