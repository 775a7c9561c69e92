"""The gate: what passes, what fails, what cannot be told, and what would tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from calibench.cli import main
from calibench.compare.gate import FAILED, FINE, NOISY, PASSED, REGRESSION, UNDECIDED, check, hold
from calibench.compare.limits import parse_limits
from calibench.compare.runs import load_run, match
from calibench.errors import UsageError
from calibench.stats.ratios import ratio_interval
from calibench.store.records import Record
from calibench.types import Raced
from run_pairs import METHOD, REFERENCE, run

BLUNT = replace(METHOD, sharpness=0.2)


def calibench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def gate(new: Path, base: Path, *limits: str) -> Result:
    """`calibench check` with these limits."""
    given = [part for limit in limits for part in ("--max-regression", limit)]
    return calibench("check", new, "--against", base, *given)


def test_limits_are_read_from_lists_and_repeats() -> None:
    """Percentages for speed, the metric's own units for quality."""
    limits = parse_limits(["ece=0.01, throughput=5%", "latency=10%"])
    assert [str(limit) for limit in limits] == ["ece=0.01", "throughput=5%", "latency=10%"]
    assert [limit.amount for limit in limits] == [0.01, 0.05, 0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The limit '' is none; expected NAME=AMOUNT, such as ece=0.01 or throughput=5%"),
        ("ece", "The limit 'ece' is none"),
        ("ece=much", "The limit 'ece=much' is none"),
        ("ece=-0.1", "The limit 'ece=-0.1' is none"),
        ("ece=nan", "The limit 'ece=nan' is none"),
        ("ece=1%", "The limit 'ece=1%' should be a number in its own units"),
        ("throughput=0.05", "The limit 'throughput=0.05' should be a percentage"),
        ("ece=1,ece=2", "There are two limits for ece"),
        ("ecc=1", "Unknown metric 'ecc'; did you mean"),
        ("posterior_error=1", "'posterior_error' needs the true probability"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, message: str) -> None:
    """In one sentence that says what is expected."""
    with pytest.raises(UsageError) as caught:
        parse_limits([text])
    assert message in str(caught.value)


def test_no_change_is_fine(tmp_path: Path) -> None:
    """Exit code 0, also at a limit of zero."""
    base = run(tmp_path / "a")
    result = gate(base, base, "ece=0,nll=0.001,accuracy=0", "throughput=0%,latency=0%")
    assert result.exit_code == 0, result.output
    assert result.output.count(FINE) == 10


def test_a_regression_that_is_shown_fails(tmp_path: Path) -> None:
    """Exit code 1, named for the cell and the limit; getting better is no regression."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", REFERENCE, BLUNT)
    result = gate(new, base, "nll=0.05", "brier=0.01")
    assert result.exit_code == 1, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("mc-dropout")]
    assert [line.split()[-1] for line in lines] == [REGRESSION] * 2, result.output
    assert gate(base, new, "nll=0.05", "brier=0.01").exit_code == 0


def test_what_a_run_cannot_tell_says_what_would(tmp_path: Path) -> None:
    """Exit code 3, and about how many more examples are needed."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", REFERENCE, BLUNT)
    found = match(load_run(base), load_run(new))
    seen = check(found, parse_limits(["ece=0"]))[1].seen.value
    limit = f"ece={0.97 * seen:.4f}"  # type: ignore[operator]
    finding = check(found, parse_limits([limit]))[1]
    assert finding.outcome == UNDECIDED
    result = gate(new, base, limit)
    assert result.exit_code == 3, result.output
    text = " ".join(result.output.split())
    assert f"too noisy to tell: 872 examples; about {finding.needed:,} more would tell" in text


def test_a_regression_outweighs_what_cannot_be_told(tmp_path: Path) -> None:
    """One cell is enough to fail."""
    base = run(tmp_path / "a")
    new = run(tmp_path / "b", replace(REFERENCE, sharpness=1.3), BLUNT)
    found = match(load_run(base), load_run(new))
    seen = check(found, parse_limits(["nll=0"]))[0].seen.value
    limits = parse_limits([f"nll={1.03 * abs(seen):.5f}"])  # type: ignore[arg-type]
    findings = check(found, limits)
    assert [finding.judgement for finding in findings] == [NOISY, REGRESSION]
    assert hold(found.new, limits, found).exit_code == 1


def test_a_method_that_got_slower_fails_and_a_slower_machine_does_not(tmp_path: Path) -> None:
    """Whatever the machine did between the runs: what is judged of a method is its cost ratio."""
    base = run(tmp_path / "a")
    slow = gate(run(tmp_path / "b", method_slower=1.5, slower=0.8), base, "throughput=5%,latency=5%")
    assert slow.exit_code == 1
    assert slow.output.count(REGRESSION) == 2
    assert slow.output.count("in cost ratio") == 2
    drifted = gate(run(tmp_path / "c", slower=1.3), base, "throughput=15%,latency=45%")
    assert drifted.exit_code == 3, drifted.output
    assert [line.split()[0] for line in drifted.output.splitlines() if FINE in line] == ["mc-dropout"] * 2


def test_seconds_of_the_reference_say_that_two_runs_cannot_tell(tmp_path: Path) -> None:
    """And what would; where the difference is beyond what two runs differ by, they can."""
    base = run(tmp_path / "a")
    unclear = gate(run(tmp_path / "b", slower=1.2), base, "throughput=10%")
    assert unclear.exit_code == 3
    row = next(line for line in unclear.output.splitlines() if line.startswith("frequentist"))
    assert "in seconds" in row
    assert "too noisy to tell: two runs cannot tell; --rerun-base would" in " ".join(unclear.output.split())
    assert gate(run(tmp_path / "c", slower=6.0), base, "throughput=10%").exit_code == 1
    assert gate(run(tmp_path / "d", slower=0.1), base, "throughput=10%").exit_code == 0


def test_what_a_race_found_stands_above_the_two_runs(tmp_path: Path) -> None:
    """A race tells what two runs cannot, and how many more turns would where it cannot either."""
    base = run(tmp_path / "a")
    found = match(load_run(base), load_run(run(tmp_path / "b")))
    keys = [pair.new["cell"] for pair in found.pairs]
    rng = np.random.default_rng(0)

    def turns(slower: float, jitter: float) -> Raced:
        drawn = np.exp(rng.normal(0.0, jitter, (4, 96)))
        drawn[1::2] *= slower
        return Raced(*(tuple(times) for times in drawn))

    limits = parse_limits(["throughput=10%", "latency=10%"])
    told = check(found, limits, {keys[0]: turns(1.2, 0.05), keys[1]: turns(1.0, 0.05)})
    assert [finding.outcome for finding in told] == [FAILED] * 2 + [PASSED] * 2
    assert {finding.unit for finding in told} == {"turns"}
    unclear, also = check(found, limits, {keys[0]: turns(1.11, 0.3)})  # and nothing of what was not raced
    assert (unclear.judgement, also.judgement) == (NOISY, NOISY)
    assert unclear.needed is not None


@pytest.mark.parametrize(("slower", "least", "most"), [(1.0, 0.0, 0.05), (1.2, 0.8, 1.0)])
def test_identical_runs_rarely_fail_and_a_fifth_is_found(
    tmp_path: Path, slower: float, least: float, most: float
) -> None:
    """200 pairs whose machine is 15% another (standard deviation) and whose cost ratio is 2% another.

    At a limit of 5% at most 5% of identical pairs fail, and of those with a fifth more time at least 80%.
    """
    base, rng = run(tmp_path / "a"), np.random.default_rng(5)
    found = match(load_run(base), load_run(base))
    pair, limits, failed = found.pairs[1], parse_limits(["throughput=5%"]), 0
    for _ in range(200):
        runs = [_drawn(pair.base, rng, 1.0), _drawn(pair.base, rng, slower)]
        cells, references = zip(*runs, strict=True)
        drawn = replace(pair, base=cells[0], new=cells[1], references=references)
        (finding,) = check(replace(found, pairs=(drawn,)), limits)
        failed += finding.outcome == FAILED
    assert least <= failed / 200 <= most


def _drawn(record: Record, rng: np.random.Generator, slower: float) -> tuple[Record, Record]:
    """A method's record and its reference's, of one more run on a machine in another state."""
    state, ratio = np.exp(rng.normal(0.0, [0.15, 0.02]))
    reference = state * np.exp(rng.normal(0.0, 0.03, 12))
    own = slower * ratio * reference * np.exp(rng.normal(0.0, 0.03, 12))
    records = []
    for times in (own, reference):
        blocks = [
            entry | {"end_to_end_s": float(seconds)}
            for entry, seconds in zip(record["timing"]["blocks"], times, strict=True)
        ]
        made = record | {"timing": record["timing"] | {"blocks": blocks}}
        records.append(made | {"cost_ratio": ratio_interval(times, reference).as_dict()})
    return records[0], records[1]


def test_lower_accuracy_is_a_regression(tmp_path: Path) -> None:
    """For a metric of which more is better the sign turns."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", REFERENCE, replace(METHOD, sharpness=0.1))
    assert gate(new, base, "accuracy=0.02").exit_code == 1
    assert gate(base, new, "accuracy=0.02").exit_code == 0


def test_a_cell_that_fails_now_fails_the_gate(tmp_path: Path) -> None:
    """Whatever the others do."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", REFERENCE, replace(METHOD, error="no dropout"))
    result = gate(new, base, "ece=1")
    assert result.exit_code == 1
    assert "mc-dropout failed in" in result.output
    assert "no dropout" in " ".join(result.output.split())  # lines break at the width of a terminal


def test_speed_of_two_machines_cannot_be_gated(tmp_path: Path) -> None:
    """Exit code 2; quality still can, and so it can between batch plans."""
    base = run(tmp_path / "a")

    def moved(record: dict[str, dict[str, str]]) -> None:
        record["environment"]["fingerprint"] = "another"
        record["plan"]["sha256"] = "a" * 64

    new = run(tmp_path / "b", change=moved)
    assert gate(new, base, "ece=0.01").exit_code == 0
    refused = gate(new, base, "ece=0.01,throughput=5%")
    assert refused.exit_code == 2
    assert "plan.sha256" in refused.output
    elsewhere = run(tmp_path / "c", change=lambda r: r["environment"].update(fingerprint="another"))
    refused = gate(elsewhere, base, "throughput=5%")
    assert refused.exit_code == 2
    assert "measure the base on this machine" in " ".join(refused.output.split())


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    """A missing option, a bad limit, no records, nothing in common."""
    base = run(tmp_path / "a", REFERENCE)
    assert calibench("check", base, "--against", base).exit_code == 2
    assert gate(base, base, "ece").exit_code == 2
    assert gate(tmp_path / "none", base, "ece=1").exit_code == 2
    assert gate(run(tmp_path / "b", METHOD), base, "ece=1").exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--max-regression ece=1", "is on a change, and there is no base; add --against"),
        ("--max ece=1 --against {base}", "A base is about changes, which have no limit"),
        ("--max ece=1 --rerun-base {base}", "--rerun-base is about speed, which has no limit"),
        ("", "There is no limit to check"),
        ("--against {base} --max-regression mc-dropuot:ece=1", "did you mean 'mc-dropout'?"),
    ],
)
def test_what_checks_nothing_is_refused(options: str, message: str, tmp_path: Path) -> None:
    """An option that would be left alone could be taken for a check that passed."""
    base = run(tmp_path / "a")
    result = calibench("check", base, *options.format(base=base).split())
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_change_may_be_limited_for_one_row(tmp_path: Path) -> None:
    """The others are left alone; one that only the run has is refused."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", REFERENCE, BLUNT)
    assert gate(new, base, "frequentist:nll=0.05").exit_code == 0
    assert gate(new, base, "mc-dropout:nll=0.05").exit_code == 1
    assert gate(new, base, "nll=0.05", "mc-dropout:nll=9").exit_code == 0
    alone = gate(new, run(tmp_path / "c", REFERENCE), "mc-dropout:nll=0.05")
    assert alone.exit_code == 2
    assert "did not finish in both" in " ".join(alone.output.split())


def test_a_race_that_leaves_a_limited_row_out_is_no_pass(tmp_path: Path) -> None:
    """Nothing was held to the limit, and it says so."""
    held = load_run(run(tmp_path / "a"))
    found = match(held, held)
    with pytest.raises(UsageError, match="No row was held to mc-dropout:throughput=5%"):
        hold(held, parse_limits(["mc-dropout:throughput=5%"]), found, {})


@given(scale=st.floats(1.1, 8.0))
def test_what_is_needed_grows_with_the_square_of_the_width(scale: float) -> None:
    """An interval that must halve takes four times the examples, three times as many more."""
    from calibench.compare.gate import judge
    from calibench.compare.limits import Limit
    from calibench.types import Interval

    worse = Interval(0.01, 0.01 - 0.01 * scale, 0.01 + 0.01 * scale)
    finding = judge("a", Limit("ece", 0.02), worse, 1000)
    assert finding.judgement == NOISY
    assert finding.needed == pytest.approx(1000 * (scale**2 - 1.0), abs=1.001)
