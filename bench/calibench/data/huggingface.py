"""Data sets from the Hugging Face hub, a local folder or file, or `Dataset.save_to_disk`."""

from __future__ import annotations

import csv
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibench.data.classes import classes_of, is_text
from calibench.data.hub import (
    DATA_SUFFIXES,
    UnreachableError,
    find_commit,
    hub_errors,
    local_path,
    one_line,
    quiet,
)
from calibench.data.labels import shorten
from calibench.data.subset import limit
from calibench.data.tables import Quoting, Reading, read_table
from calibench.errors import CalibenchError, UsageError
from calibench.hashing import dataset_sha256
from calibench.types import Dataset, Text

__all__ = ["limit", "load"]

VALIDATION_NAMES = ("validation", "valid", "val", "dev")
# Pairs come first: QNLI has both question and sentence.
TEXT_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("sentence",),
    ("text",),
    ("content",),
    ("review",),
    ("utterance",),
)
LABEL_NAMES = ("label", "labels", "intent", "class", "category", "target", "sentiment")


def load(
    name: str | None,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
) -> Dataset:
    """Load one labelled split; what exists on disk is loaded without touching the network.

    Args:
        name: hub id, or a folder or file (csv, tsv, json, jsonl, parquet, arrow).
        config: which configuration, where there is more than one.
        split: None for validation, else test where it is labelled, else the only one.
        revision: branch, tag or commit on the hub; of no meaning for a folder.
        text_columns: one or two columns; None for the first of `TEXT_NAMES`, else the only column of text.
        label_column: of integers or strings; None for the first of `LABEL_NAMES`, else the only `ClassLabel`.
        delimiter, encoding, quoting: of a local file of text; see `calibench.data.tables.Reading`.

    Returns:
        The split as it is stored, without the rows whose label is missing; see `calibench.data.classes`.

    Raises:
        UsageError: nothing of that name, split or column, or the split is empty or not labelled.
        CalibenchError: the hub could not be reached, or the files cannot be read.
    """
    if not name:
        raise UsageError("No data set was named: pass --dataset with a hub id, a folder or a file.")
    reading = Reading(delimiter, encoding, quoting)
    path = local_path(name, "dataset")
    if path is not None:
        name = path.name
    elif reading != Reading():
        raise UsageError(f"{name!r} is read from the hub: leave --delimiter, --encoding and --quoting out.")
    with quiet("datasets"):
        splits, commit = (
            _read_hub(name, config, revision) if path is None else (_read_local(path, config, reading), None)
        )
        split = _choose_split(splits, split, label_column)
        table = splits[split]
        if not len(table):
            advice = "choose another with --split" if len(splits) > 1 else "put rows into it"
            raise UsageError(f"The split {split!r} of {name!r} is empty: {advice}.")
        label = _choose_label(table, label_column)
        texts = _texts(table, _choose_texts(table, text_columns, label))
        found = classes_of(table.features[label], _values(table, label), label)
    if not found.is_labelled:
        raise UsageError(_unlabelled(splits, split, label, label_column))
    texts = tuple(texts[row] for row in found.rows)
    return Dataset(
        texts=texts,
        labels=found.labels,
        label_names=found.names,
        order=found.order,
        rows=found.rows,
        name=name,
        config=config,
        split=split,
        revision=commit,
        source="hub" if path is None else "folder",
        sha256=dataset_sha256(texts, found.labels, found.names, split),
        unlabelled=len(table) - len(found.rows),
    )


def _unlabelled(splits: dict[str, Any], split: str, label: str, label_column: str | None) -> str:
    others = [name for name in splits if name != split and _is_labelled(splits[name], label_column)]
    advice = f"choose {' or '.join(others)} with --split" if others else "label some of its rows"
    return f"The split {split!r} is not labelled (column {label!r} holds -1 or nothing): {advice}."


def _read_hub(name: str, config: str | None, revision: str | None) -> tuple[dict[str, Any], str]:
    """The splits by name, and the commit they are from."""
    from datasets.packaged_modules.csv.csv import CsvConfig

    try:
        commit = find_commit(name, revision, "dataset")
    except UnreachableError as unreachable:
        return _read_cache(name, config, revision, unreachable)
    with hub_errors(name, revision, "dataset"):
        builder = _builder(name, name, config, revision=commit)
        if isinstance(builder.config, CsvConfig):
            # Words such as None and NA are words; only an empty cell is missing. A tsv has no quoting.
            options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
            if builder.config.sep == "\t":
                options |= {"quoting": csv.QUOTE_NONE, "sep": "\t"}
            builder = _builder(name, name, config, revision=commit, **options)
        return _splits(name, builder), commit


def _read_cache(
    name: str, config: str | None, revision: str | None, unreachable: UnreachableError
) -> tuple[dict[str, Any], str]:
    """As `_read_hub`, from what was loaded before; `load_dataset_builder` would retry the network first."""
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(
            dataset_name=name.split("/")[-1], repo_id=name, config_name=config, version="auto", hash="auto"
        )
    except (ValueError, OSError):
        raise unreachable from None
    if revision not in {None, builder.hash}:
        # `datasets` takes whichever commit was cached last.
        raise unreachable
    return _splits(name, builder), builder.hash


def _read_local(path: Path, config: str | None, reading: Reading) -> dict[str, Any]:
    import datasets

    if path.is_dir() and any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):
        try:
            saved = datasets.load_from_disk(str(path))
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            raise CalibenchError(f"The dataset {path.name!r} cannot be read: {one_line(error)}.") from error
        return dict(saved) if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    if path.is_file():
        if config is not None:
            raise UsageError(
                f"{path.name!r} is one file, which has no configuration {config!r}: leave it out."
            )
        return {"train": read_table(path, reading)}
    return _read_folder(path, config, reading)


def _read_folder(path: Path, config: str | None, reading: Reading) -> dict[str, Any]:
    """The splits of a folder, found as `datasets` finds them, and read file by file without its cache."""
    import datasets

    builder = _builder(path.name, str(path), config)
    splits = {}
    for split, found in (builder.config.data_files or {}).items():
        files = [Path(file) for file in found if Path(file).suffix.lower() in DATA_SUFFIXES]
        _refuse_doubled(files)
        parts = [read_table(file, reading) for file in files]
        if parts:
            try:
                whole = datasets.concatenate_datasets(parts)
                declared = builder.info.features
                splits[str(split)] = whole if declared is None else whole.cast(declared)
            except (ValueError, TypeError) as error:
                names = shorten([file.name for file in files])
                raise CalibenchError(
                    f"The files of the split {str(split)!r} of {path.name!r} ({names}) do not fit together, "
                    f"or not the features that its README declares: {one_line(error)}."
                ) from error
    if not splits:
        raise UsageError(f"{path.name!r} holds no data files: pass a folder of csv, json or parquet files.")
    return splits


def _refuse_doubled(files: Sequence[Path]) -> None:
    """Refuse a file beside which another of its name, in another format, is left unread."""
    for file in files:
        for other in sorted(file.parent.glob(f"{glob.escape(file.stem)}.*")):
            if other.suffix.lower() in DATA_SUFFIXES and other not in files:
                raise UsageError(
                    f"{file.parent.name!r} holds {file.name!r} and {other.name!r}, which may or may not be "
                    "the same: remove one, or pass a file."
                )


def _builder(name: str, source: str, config: str | None, **options: Any) -> Any:
    import datasets

    try:
        return datasets.load_dataset_builder(source, config, **options)
    except (datasets.exceptions.DataFilesNotFoundError, datasets.data_files.EmptyDatasetError) as error:
        raise UsageError(
            f"{name!r} holds no data files: pass a folder of csv, json or parquet files."
        ) from error
    except (datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        # `datasets` lists the configs to choose from over several lines, and ends with advice on code.
        reason = " ".join(str(error).split("Example of usage")[0].split())
        raise UsageError(f"The dataset {name!r} cannot be opened: {reason}") from error


def _splits(name: str, builder: Any) -> dict[str, Any]:
    from datasets import Dataset as Table
    from datasets.exceptions import DatasetsError

    try:
        builder.download_and_prepare()
    except (DatasetsError, ValueError) as error:
        cause = error.__cause__ or error
        raise CalibenchError(f"The dataset {name!r} cannot be read: {one_line(cause)}.") from error
    # `as_dataset` fails for a split without rows, and with it for the others.
    features = builder.info.features
    return {
        split: builder.as_dataset(split=split)
        if info.num_examples
        else Table.from_dict({column: [] for column in features}, features=features)
        for split, info in builder.info.splits.items()
    }


def _choose_split(splits: dict[str, Any], wanted: str | None, label_column: str | None) -> str:
    there = ", ".join(splits)
    if wanted is not None:
        if wanted not in splits:
            raise UsageError(f"There is no split {wanted!r}: choose from {there}.")
        return wanted
    for name in VALIDATION_NAMES:
        if name in splits:
            return name
    if "test" in splits and _is_labelled(splits["test"], label_column):
        return "test"
    if len(splits) == 1:
        return next(iter(splits))
    raise UsageError(f"No split is called validation, nor is there a labelled test: choose from {there}.")


def _is_labelled(table: Any, column: str | None) -> bool:
    try:
        label = _choose_label(table, column)
        return classes_of(table.features[label], _values(table, label), label).is_labelled
    except UsageError:
        return False


def _choose_label(table: Any, wanted: str | None) -> str:
    from datasets import ClassLabel

    there = ", ".join(table.column_names)
    if wanted is not None:
        if wanted not in table.column_names:
            raise UsageError(f"There is no column {wanted!r} to take labels from: choose from {there}.")
        return wanted
    classes = [name for name, feature in table.features.items() if isinstance(feature, ClassLabel)]
    usual = [name for name in LABEL_NAMES if name in table.column_names]
    if usual or len(classes) == 1:
        return str((usual or classes)[0])
    raise UsageError(f"No column is known to hold labels: choose one with --label-column from {there}.")


def _choose_texts(table: Any, wanted: Sequence[str] | None, label: str) -> tuple[str, ...]:
    strings = [name for name, feature in table.features.items() if is_text(feature) and name != label]
    if wanted:
        absent = [name for name in wanted if name not in strings]
        if absent or len(wanted) > 2:
            problem = f"There is no text column {absent[0]!r}" if absent else "A text has at most two columns"
            raise UsageError(f"{problem}: choose one or two of {', '.join(strings) or 'none'}.")
        return tuple(wanted)
    for names in TEXT_NAMES:
        if set(names) <= set(strings):
            return names
    if len(strings) == 1:
        return (strings[0],)
    raise UsageError(
        f"No column is known to hold the text: choose one or two with --text-column from"
        f" {', '.join(strings) or ', '.join(table.column_names)}."
    )


def _values(table: Any, column: str) -> list[Any]:
    return list(table.with_format(None)[column][:])


def _texts(table: Any, columns: tuple[str, ...]) -> tuple[Text, ...]:
    sides = [_values(table, column) for column in columns]
    for column, side in zip(columns, sides, strict=True):
        if None in side:
            raise UsageError(
                f"Row {side.index(None)} of column {column!r} has no text: remove it, or fill it in."
            )
    return tuple(sides[0] if len(sides) == 1 else zip(*sides, strict=True))
