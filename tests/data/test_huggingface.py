"""Data sets read with `datasets`: from where, which split, which columns, and what is refused."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, DatasetDict, Features, Value
from datasets import Dataset as Table

from calibench.data.huggingface import load
from calibench.data.labels import align
from calibench.data.subset import in_scope
from calibench.errors import CalibenchError, UsageError

TEXTS = ["a fine film", "a dull plot", "not bad at all"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` prepares goes to the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(label: Sequence[Any] = (1, 0, 1), *, names: list[str] | None = None, **columns: Any) -> Table:
    """Three texts and their labels; `names` makes them a ClassLabel."""
    columns = columns or {"text": TEXTS}
    features = None
    if names:
        kinds = {name: Value("string") for name in columns}
        features = Features({**kinds, "label": ClassLabel(names=names)})
    return Table.from_dict({**columns, "label": list(label)}, features=features)


def write(folder: Path, **splits: Table) -> str:
    """A folder of parquet files, one per split."""
    folder.mkdir()
    for name, content in splits.items():
        content.to_parquet(folder / f"{name}.parquet")
    return str(folder)


def writers() -> dict[str, Any]:
    """How each kind of local data set is written; each returns what a user would pass."""

    def save_to_disk(folder: Path) -> Path:
        DatasetDict(validation=table(names=["neg", "pos"])).save_to_disk(folder / "saved")
        return folder / "saved"

    def file(suffix: str, method: str, **options: Any) -> Any:
        def make(folder: Path) -> Path:
            path = folder / f"validation{suffix}"
            getattr(table(names=["neg", "pos"]), method)(path, **options)
            return path

        return make

    return {
        "csv": file(".csv", "to_csv"),
        "tsv": file(".tsv", "to_csv", sep="\t"),
        "jsonl": file(".jsonl", "to_json"),
        "parquet": file(".parquet", "to_parquet"),
        "save_to_disk": save_to_disk,
    }


@pytest.mark.parametrize("kind", writers())
@pytest.mark.parametrize("whole_folder", [False, True])
def test_local_data_of_every_kind_is_read_alike(
    tmp_path: Path, kind: str, whole_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts and labels from a file, its folder, or a saved data set, without a connection."""
    folder = tmp_path / "reviews"
    folder.mkdir()
    path = writers()[kind](folder)
    if whole_folder and kind != "save_to_disk":
        path = folder
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was tried"))
    dataset = load(str(path))
    assert dataset.texts == tuple(TEXTS)
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1])
    np.testing.assert_array_equal(dataset.rows, [0, 1, 2])
    assert dataset.labels.dtype == dataset.rows.dtype == np.int64
    named = kind in {"parquet", "save_to_disk"}
    assert dataset.label_names == (("neg", "pos") if named else ("LABEL_0", "LABEL_1"))
    assert (dataset.name, dataset.source, dataset.revision) == (path.name, "folder", None)
    assert str(tmp_path) not in repr(dataset)


def test_one_saved_split_keeps_its_name(tmp_path: Path) -> None:
    """`Dataset.save_to_disk` without a dictionary is a data set of one split."""
    table(names=["neg", "pos"]).save_to_disk(tmp_path / "one")
    assert load(str(tmp_path / "one")).split == "train"


@pytest.mark.parametrize(
    ("splits", "chosen"),
    [
        ({"train": 1, "validation": 1, "test": 1}, "validation"),
        ({"train": 1, "test": 1}, "test"),
        ({"train": 1}, "train"),
        ({"test": 1}, "test"),
    ],
)
def test_the_split_is_validation_else_a_labelled_test_else_the_only_one(
    tmp_path: Path, splits: dict[str, int], chosen: str
) -> None:
    """The rule, over folders that have these splits."""
    assert load(write(tmp_path / "data", **dict.fromkeys(splits, table()))).split == chosen


def test_a_test_split_without_labels_is_not_taken(tmp_path: Path) -> None:
    """GLUE's hidden labels are -1; the choice is then the user's."""
    hidden = table(label=(-1, -1, -1))
    folder = write(tmp_path / "data", train=table(), test=hidden)
    with pytest.raises(UsageError, match=r"choose from train, test"):
        load(folder)
    assert load(folder, split="train").split == "train"
    with pytest.raises(UsageError, match=r"'test' is not labelled \(column 'label' holds -1 or nothing\)"):
        load(folder, split="test")


@pytest.mark.parametrize(
    ("label", "rows"), [((0, None, 1), [0, 2]), (("a", None, "b"), [0, 2]), ((1.0, 0.0, None), [0, 1])]
)
def test_rows_whose_label_is_missing_are_left_out_and_counted(
    tmp_path: Path, label: tuple[Any, ...], rows: list[int]
) -> None:
    """The others keep their rows and texts."""
    dataset = load(write(tmp_path / "data", validation=table(label=label)))
    assert dataset.rows.tolist() == rows
    assert dataset.texts == tuple(TEXTS[row] for row in rows)
    assert dataset.unlabelled == 1


@pytest.mark.parametrize(
    "columns",
    [
        ("sentence",),
        ("text",),
        ("premise", "hypothesis"),
        ("sentence1", "sentence2"),
        ("question", "sentence"),
    ],
)
def test_usual_text_columns_are_recognised(tmp_path: Path, columns: tuple[str, ...]) -> None:
    """One usual column, or the two of a pair in their order, beside another column of text."""
    content = {name: [f"{name} {i}" for i in range(3)] for name in ("comment", *reversed(columns))}
    dataset = load(write(tmp_path / "data", validation=table(**content)))
    expected = zip(*(content[name] for name in columns), strict=True)
    assert dataset.texts == tuple(row if len(columns) == 2 else row[0] for row in expected)


def test_columns_are_chosen_by_name_or_because_they_are_the_only_ones(tmp_path: Path) -> None:
    """The only string column is the text; given names win over usual ones."""
    only = Table.from_dict({"phrase": TEXTS, "number": [1, 2, 3], "intent": ["b", "a", "b"]})
    dataset = load(write(tmp_path / "only", train=only))
    assert (dataset.texts, dataset.label_names) == (tuple(TEXTS), ("a", "b"))
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1])
    both = Table.from_dict(
        {"text": TEXTS, "other": ["x", "y", "z"], "label": [0, 0, 0], "mood": ["m", "n", "m"]}
    )
    folder = write(tmp_path / "both", train=both)
    dataset = load(folder, text_columns=["other", "text"], label_column="mood")
    assert dataset.texts[0] == ("x", "a fine film")
    assert dataset.label_names == ("m", "n")


def test_the_only_class_label_is_the_label(tmp_path: Path) -> None:
    """TREC calls its column coarse_label: the type says what it is."""
    content = table(names=["neg", "pos"]).rename_column("label", "coarse_label")
    assert load(write(tmp_path / "data", train=content)).label_names == ("neg", "pos")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, r"no split 'tset': choose from train\."),
        ({"text_columns": ["tex"]}, r"no text column 'tex': choose one or two of text, topic\."),
        ({"text_columns": ["score"]}, r"no text column 'score'"),
        ({"text_columns": ["text", "topic", "text"]}, r"at most two columns"),
        (
            {"label_column": "lable"},
            r"no column 'lable' to take labels from: choose from text, topic, score, label",
        ),
        ({"label_column": "score"}, r"'score' does not hold class labels"),
        ({"config": "nope"}, r"cannot be opened: .*nope"),
    ],
)
def test_wrong_choices_are_answered_with_the_right_ones(tmp_path: Path, options: Any, message: str) -> None:
    """The sentence names what was asked for and lists what there is."""
    columns = {"text": TEXTS, "topic": ["x", "y", "z"], "score": [0.1, 0.2, 0.3]}
    folder = write(tmp_path / "data", train=table(**columns))
    with pytest.raises(UsageError, match=message):
        load(folder, **options)


def test_columns_that_cannot_be_guessed_are_asked_for(tmp_path: Path) -> None:
    """Two unknown string columns, no label column, a missing text, a class id out of all proportion."""
    two = table(a=TEXTS, b=TEXTS)
    with pytest.raises(UsageError, match=r"--text-column from a, b"):
        load(write(tmp_path / "two", train=two))
    bare = Table.from_dict({"text": TEXTS, "n": [1, 2, 3]})
    with pytest.raises(UsageError, match=r"--label-column from text, n"):
        load(write(tmp_path / "bare", train=bare))
    with pytest.raises(UsageError, match=r"Row 1 of column 'text' has no text"):
        load(write(tmp_path / "gap", train=table(text=["a", None, "b"])))
    with pytest.raises(UsageError, match=r"holds 1000000000000, which is no class"):
        load(write(tmp_path / "big", train=table(label=(0, 1, 10**12))))


def test_nothing_to_load_is_said_in_a_sentence(tmp_path: Path) -> None:
    """No name, no such path, no data in the folder, no data in the file, a file of another kind."""
    with pytest.raises(UsageError, match=r"pass --dataset"):
        load(None)
    with pytest.raises(UsageError, match=r"no dataset at './nowhere'"):
        load("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"'empty' holds no data files"):
        load(str(tmp_path / "empty"))
    (tmp_path / "notes.docx").write_text("")
    with pytest.raises(UsageError, match=r"'notes.docx' is not a data file: .*\.csv"):
        load(str(tmp_path / "notes.docx"))
    half_empty = write(tmp_path / "rows", train=table().select([]), test=table())
    with pytest.raises(UsageError, match=r"'train' of 'rows' is empty"):
        load(half_empty, split="train")
    assert load(half_empty).split == "test"
    with pytest.raises(UsageError, match=r"choose from train, test"):
        load(write(tmp_path / "no test", train=table(), test=table().select([])))


@pytest.mark.parametrize(
    ("file", "content"),
    [("x.json", '{"text": '), ("x.parquet", "PAR"), ("x.csv", "text,label\na,1,2\n")],
)
def test_files_that_cannot_be_parsed_are_reported_in_a_sentence(
    tmp_path: Path, file: str, content: str
) -> None:
    """A broken file is a failure of the data, told in one line."""
    (tmp_path / file).write_text(content)
    with pytest.raises(CalibenchError, match=f"'{file}' (cannot be read|has 3 cells)") as caught:
        load(str(tmp_path / file))
    assert "\n" not in str(caught.value)


def test_loading_prints_nothing_and_leaves_settings_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No progress bar, no log line; bars are afterwards as they were."""
    datasets.enable_progress_bars()
    load(write(tmp_path / "data", train=table()))
    assert not datasets.are_progress_bars_disabled()
    out, err = capfd.readouterr()
    # `write` itself shows a bar.
    assert out == ""
    assert "Generating" not in err


@pytest.mark.shared
def test_the_real_data_sets_load(shared: Path) -> None:
    """SST-2's 872 sentences and CLINC's out-of-scope class, offline."""
    sst2 = load(str(shared / "data" / "sst2"))
    assert (len(sst2), sst2.split, sst2.label_names) == (872, "validation", ("negative", "positive"))
    assert sst2.labels.mean() == pytest.approx(0.509, abs=5e-4)
    clinc = load(str(shared / "data" / "clinc_oos"), split="test")
    model = [name for name in clinc.label_names if name != "oos"][::-1]
    assert len(in_scope(align(clinc, model, out_of_scope=["oos"]))) == 4500
