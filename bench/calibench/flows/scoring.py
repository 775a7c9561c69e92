"""Files of predictions -> a run folder: which rows are there already, and the records of all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from calibench.errors import UsageError
from calibench.measure.progress import Progress, Silent
from calibench.readers.scored import Scored
from calibench.score.groups import refuse_small
from calibench.score.scored import Row, Wanted, lacks_sets, metrics_of, refuse_mapped, rows_of, score_rows
from calibench.store.lock import sole_writer
from calibench.store.merging import add_records
from calibench.store.predictions import has_its_predictions
from calibench.store.records import RECORDS, Record, dig, is_scored, load_records

Overwrite = Literal["always", "never", "only-missing"]


def score(
    tables: Sequence[Scored],
    folder: Path,
    wanted: Wanted,
    *,
    overwrite: Overwrite = "only-missing",
    progress: Progress | None = None,
) -> list[Record]:
    """Score every row that `folder` does not hold yet, and write the records.

    A row of the same name about the same data, whose predictions are others, is replaced.

    Args:
        tables: about the same rows; see `calibench.readers.joining`.
        folder: the run folder; made where it does not exist.
        overwrite: what to do about records that are there already.

    Returns:
        The records of all rows, in table order, also those that were there.

    Raises:
        UsageError: records are there and may not be, another run writes to the folder, or a step or sets were
            metrics were asked for that need classes where there are none, or no group is large enough.
        CalibenchError: the folder cannot be written.
    """
    if tables[0].by_confidence and (wanted.posthoc or wanted.recipes):
        option = "--posthoc" if wanted.posthoc else "--conformal"
        raise UsageError(
            f"{option} needs the probability of every class, and these are confidences of answers; leave it "
            "out."
        )
    metrics_of(tables[0], wanted)
    refuse_mapped(tables, wanted)
    for table in tables:
        if table.group is not None:
            refuse_small(table.groups()[0], str(table.said.get("group")))
    with sole_writer(folder):
        existing = load_records(folder) if os.path.lexists(folder / RECORDS) else []
        if existing and overwrite == "never":
            raise UsageError(
                f"{folder} holds records already; choose another folder with -o, or --overwrite-strategy "
                "only-missing."
            )
        wanted = _with_reference(wanted, existing, tables)
        rows = rows_of(tables, wanted)
        found = {} if overwrite == "always" else _done(existing, rows, folder, wanted)
        missing = [row for row in rows if row.key not in found]
        fresh = score_rows(missing, tables, wanted, folder, progress or Silent())
        order = {row.key: position for position, row in enumerate(rows)}
        add_records(folder, fresh, order, _replaced(existing, fresh))
        found |= {record["cell"]: record for record in fresh}
        return [found[row.key] for row in rows]


def _with_reference(wanted: Wanted, existing: Sequence[Record], tables: Sequence[Scored]) -> Wanted:
    """The reference that was asked for, else that of the same rows in the folder, else the first table."""
    data, names = tables[0].data_sha256(), [table.name for table in tables]
    there = {
        str(record["method"]["name"]): record
        for record in existing
        if is_scored(record)
        and (record["suite"], record["seed"]) == (wanted.suite, wanted.seed)
        and dig(record, "data", "sha256") == data
        and record["method"]["posthoc"] is None
    }
    marked = next((name for name, record in there.items() if record["reference"]), names[0])
    chosen = wanted.reference or marked
    if chosen in names:
        return replace(wanted, reference=chosen)
    if chosen not in there:
        known = ", ".join(dict.fromkeys([*names, *there]))
        raise UsageError(f"--reference {chosen!r} is no method; choose from {known}.")
    price = dig(there[chosen], "scored", "price_per_row")
    prices = dict(wanted.prices) if price is None else {**wanted.prices, chosen: price}
    return replace(wanted, reference=chosen, prices=prices)


def _done(existing: Sequence[Record], rows: Sequence[Row], folder: Path, wanted: Wanted) -> dict[str, Record]:
    """The records that are as asked for, and whose predictions are there."""
    tables = {row.key: row.table for row in rows}
    return {
        record["cell"]: record
        for record in existing
        if record["cell"] in tables
        and record["status"] == "ok"
        and not lacks_sets(record, tables[record["cell"]], wanted)
        and has_its_predictions(folder, record)
    }


def _replaced(existing: Sequence[Record], fresh: Sequence[Record]) -> set[str]:
    """Cells of the same rows whose predictions were others."""
    new = {_row(record) for record in fresh}
    return {record["cell"] for record in existing if is_scored(record) and _row(record) in new}


def _row(record: Record) -> tuple[object, ...]:
    method = record["method"]
    data = dig(record, "data", "sha256")
    return record["suite"], method["name"], method["posthoc"], record["seed"], data
