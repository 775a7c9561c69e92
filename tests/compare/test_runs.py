"""Which cells are the same, and which may be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from calibench.cli import main
from calibench.compare.contrasts import contrasts
from calibench.compare.runs import (
    examples,
    grouped,
    load_run,
    match,
    match_reference,
    match_rows,
    same_cells,
    split_row,
)
from calibench.errors import UsageError
from calibench.metrics.select import select_metrics
from calibench.store.predictions import load_predictions
from calibench.store.records import Record
from run_pairs import METHOD, REFERENCE, Change, put, run


def both(*changes: Change) -> Change:
    """All of these changes."""
    return lambda record: [change(record) for change in changes]


def test_cells_are_found_again_by_method_parameters_and_seed(tmp_path: Path) -> None:
    """Whatever their keys and order; what only one run has is named."""
    other = replace(METHOD, passes=50)
    base = load_run(run(tmp_path / "a", REFERENCE, METHOD, seeds=(0, 1)))
    new = load_run(run(tmp_path / "b", METHOD, other, REFERENCE, seeds=(1,), change=put("calibench", "9")))
    found = match(base, new)
    assert [pair.label for pair in found.pairs] == ["frequentist (seed 1)", "mc-dropout (seed 1)"]
    assert found.missing == ("frequentist (seed 0)", "mc-dropout (seed 0)")
    assert found.added == ("mc-dropout (passes=50)",)
    assert found.pairs[0].notes == (f"calibench is 0.1.0 in {tmp_path / 'a'} and 9 in {tmp_path / 'b'}",)


def test_a_post_hoc_step_makes_another_cell(tmp_path: Path) -> None:
    """A method with temperature scaling is not the method without."""
    plain = load_run(run(tmp_path / "a", REFERENCE))
    scaled = load_run(run(tmp_path / "b", REFERENCE, change=put("method.posthoc", "temperature")))
    assert not same_cells(plain, scaled)
    with pytest.raises(
        UsageError, match=r"has frequentist, and the other frequentist \+ temperature|one has"
    ):
        match(plain, scaled)


def test_a_cell_that_fails_now_is_a_failure_and_not_left_out(tmp_path: Path) -> None:
    """With its message."""
    base = load_run(run(tmp_path / "a"))
    new = load_run(run(tmp_path / "b", REFERENCE, replace(METHOD, error="no dropout here")))
    assert match(base, new).failed == (("mc-dropout", "no dropout here"),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("data.split", "test"), "data.split is validation in .* and test in "),
        (put("data.labels", ["positive", "negative"]), r'data.labels is \["negative", "positive"\] in '),
        (put("data.n", 871), "data.n is 872 in .* and 871 in "),
        (put("data.sha256", "a" * 64), "data.sha256 is dddddddddddd... in .* and aaaaaaaaaaaa... in "),
        (
            both(put("data.sha256", "a" * 64), put("data.name", "imdb")),
            "data.name is sst2 in .* and imdb in ",
        ),
        (
            put("plan.sha256", "a" * 64),
            "plan.sha256 is ffffffffffff... .*; --quality-only leaves timings out",
        ),
    ],
)
def test_what_is_not_comparable_is_refused_by_the_field_that_differs(
    change: Change, message: str, tmp_path: Path
) -> None:
    """Named with both values."""
    base, new = load_run(run(tmp_path / "a")), load_run(run(tmp_path / "b", change=change))
    with pytest.raises(UsageError, match=f"frequentist cannot be compared: {message}"):
        match(base, new)


def test_other_revisions_are_refused_unless_one_is_unknown(tmp_path: Path) -> None:
    """A folder has none."""
    base = load_run(run(tmp_path / "a", change=put("data.revision", "abc")))
    with pytest.raises(UsageError, match=r"data.revision is abc in .* and def in "):
        match(base, load_run(run(tmp_path / "b", change=put("data.revision", "def"))))
    assert len(match(base, load_run(run(tmp_path / "c"))).pairs) == 2


def test_quality_alone_can_be_compared_between_batch_plans(tmp_path: Path) -> None:
    """Where asked for."""
    base = load_run(run(tmp_path / "a"))
    new = load_run(run(tmp_path / "b", change=put("plan.sha256", "a" * 64)))
    assert len(match(base, new, quality_only=True).pairs) == 2


def test_a_cell_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Two models in one folder leave open which is meant."""

    def second(record: Record) -> None:
        if record["method"]["params"]:
            record["method"]["params"] = {"passes": 20}
            record["model"]["sha256"] = record["cell"] * 5

    base = load_run(run(tmp_path / "a"))
    new = load_run(run(tmp_path / "b", METHOD, replace(METHOD, passes=50), change=second))
    with pytest.raises(UsageError, match=r"holds mc-dropout twice, with model.sha256"):
        match(base, new)


def test_examples_are_matched_by_row_whatever_their_order(tmp_path: Path) -> None:
    """A file in another order holds the same predictions."""
    base, new = load_run(run(tmp_path / "a")), load_run(run(tmp_path / "b"))
    pair = match(base, new).pairs[1]
    file = tmp_path / "b" / pair.new["predictions"]
    table = pq.read_table(file)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), file)
    found = examples(base, new, pair)
    assert (found.reference.probs == found.evaluation.probs).all()
    assert (found.reference.probs == load_predictions(tmp_path / "a", pair.base).probs).all()


def test_predictions_about_other_examples_are_refused(tmp_path: Path) -> None:
    """Even where the records agree."""
    base, new = load_run(run(tmp_path / "a")), load_run(run(tmp_path / "b"))
    pair = match(base, new).pairs[1]
    file = tmp_path / "b" / pair.new["predictions"]
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 871), file)
    with pytest.raises(UsageError, match="different examples \\(their number differs\\)"):
        examples(base, new, pair)
    labels = table.column("label").to_numpy().copy()
    labels[5] = 1 - labels[5]
    at = table.column_names.index("label")
    pq.write_table(table.set_column(at, "label", [labels]), file)
    with pytest.raises(UsageError, match="different examples \\(row 5 differs\\)"):
        examples(base, new, pair)


def calibench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_runs_that_share_no_cell_are_held_against_the_base_s_reference(tmp_path: Path) -> None:
    """One method per folder can still be compared."""
    base, new = run(tmp_path / "a", REFERENCE), run(tmp_path / "b", METHOD)
    result = calibench("compare", base, new)
    assert result.exit_code == 0, result.output
    assert "mc-dropout against frequentist" in result.output
    failed = run(tmp_path / "c", replace(REFERENCE, error="out of memory"))
    with pytest.raises(UsageError, match=r"The reference of .*, frequentist, failed"):
        match_reference(load_run(failed), load_run(new))
    with pytest.raises(UsageError, match="nothing to compare"):
        match_reference(load_run(base), load_run(failed))


def test_any_row_is_held_against_any_other(tmp_path: Path) -> None:
    """Across folders and within one; a row against itself differs in nothing."""
    base, new = run(tmp_path / "a"), run(tmp_path / "b", seeds=(0,))
    other = calibench("compare", f"{base}::frequentist", f"{new}::mc-dropout")
    assert other.exit_code == 0, other.output
    assert "mc-dropout against frequentist" in other.output
    within = calibench("compare", f"{base}::frequentist", base)
    assert "mc-dropout against frequentist" in within.output
    assert "frequentist against frequentist" not in within.output
    assert "mc-dropout against mc-dropout" in calibench("compare", base, f"{new}::mc-dropout").output


def test_a_row_s_difference_turns_its_sign_with_the_sides(tmp_path: Path) -> None:
    """What one row gains on another, the other loses on it."""
    held = load_run(run(tmp_path / "a"))
    metrics = select_metrics(["nll"], posterior_known=False)
    seen = []
    for rows in (("frequentist", "mc-dropout"), ("mc-dropout", "frequentist")):
        ((_, pairs),) = grouped(match_rows(held, rows[0], held, rows[1]))
        seen.append(contrasts(pairs, metrics)[0].difference.value)
    assert seen[0] == pytest.approx(-seen[1])
    assert seen[0] != 0.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mc-dropuot", "has no row 'mc-dropuot'; did you mean 'mc-dropout'?"),
        ("mc-dropout", r"has 2 rows 'mc-dropout' \(mc-dropout \(seed 0\), mc-dropout \(seed 1\)\)"),
    ],
)
def test_a_row_that_is_not_one_is_refused(row: str, message: str, tmp_path: Path) -> None:
    """None says the nearest, and several name themselves."""
    held = load_run(run(tmp_path / "a", seeds=(0, 1)))
    with pytest.raises(UsageError, match=message):
        match_rows(held, row, held, None)


def test_rows_of_other_examples_are_refused(tmp_path: Path) -> None:
    """With the field that differs."""
    base = load_run(run(tmp_path / "a"))
    new = load_run(run(tmp_path / "b", n=500))
    with pytest.raises(UsageError, match=r"data\.n is 872 in .* and 500 in"):
        match_rows(base, "frequentist", new, "mc-dropout")


def test_a_folder_and_a_row_are_parted_by_colons(tmp_path: Path) -> None:
    """Unless the folder's own name has them; and a row that is empty is none."""
    assert split_row("a/b::m + temperature (seed 1)") == (Path("a/b"), "m + temperature (seed 1)")
    assert split_row("a/b") == (Path("a/b"), None)
    odd = tmp_path / "a::b"
    odd.mkdir()
    assert split_row(str(odd)) == (odd, None)
    with pytest.raises(UsageError, match="names no row"):
        split_row("a::")
