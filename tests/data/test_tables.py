"""Files are read as they were written: words stay words, and what does not fit names a line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibench.data.huggingface import load
from calibench.data.tables import Reading, read_table
from calibench.errors import CalibenchError, UsageError

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1, max_size=12)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with that content, its line ends as they are."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def columns(path: Path, reading: Reading | None = None) -> dict[str, list[Any]]:
    return read_table(path, reading).to_dict()


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """Every cell as it was, whatever it holds: quotes, delimiters, line ends, the words null and nan.

    Cells are numbered, so that none is among the few that a label column has.
    """
    numbered = [(f"{a}{i}a", f"{b}{i}b") for i, (a, b) in enumerate(rows)]
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([("text", "label"), *numbered])
    path = written(tmp_path_factory.mktemp("csv"), "x.csv", sink.getvalue())
    found = columns(path)
    assert list(zip(found["text"], found["label"], strict=True)) == numbered


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("word", ["None", "null", "NULL", "NA", "N/A", "nan", "NaN", "-", "inf", "True"])
def test_words_for_nothing_are_words(tmp_path: Path, suffix: str, word: str) -> None:
    """Only an empty cell is missing."""
    comma = "," if suffix == ".csv" else "\t"
    path = written(tmp_path, f"x{suffix}", f"text{comma}label\n{word}{comma}{word}\nb{comma}\n")
    assert columns(path) == {"text": [word, "b"], "label": [word, None]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_in_a_tab_separated_file_is_a_character(tmp_path: Path, end: str) -> None:
    """As GLUE ships them: a quotation that opens in one row and closes in another joins nothing."""
    rows = ["text\tlabel", '"a fine film\t1', 'a plot"\t0', '"both"\t1', "it's\t0"]
    path = written(tmp_path, "x.tsv", end.join(rows) + end)
    assert columns(path) == {
        "text": ['"a fine film', 'a plot"', '"both"', "it's"],
        "label": ["1", "0", "1", "0"],
    }
    quoted = written(tmp_path, "y.tsv", 'text\tlabel\n"a\tb"\t1\n')
    assert columns(quoted, Reading(quoting="double")) == {"text": ["a\tb"], "label": ["1"]}


def test_a_cell_may_run_over_lines_that_look_like_no_rows(tmp_path: Path) -> None:
    """A review of three lines, one of them with a comma, is one cell."""
    text = "It was long,\nand good, too.\nSee it!"
    path = written(tmp_path, "x.csv", f'text,label\nfine,1\n"{text}",1\ndull,0\npoor,0\nnice,1\n')
    assert columns(path)["text"][1] == text


@pytest.mark.parametrize("far", [1, 2, 20])
def test_a_quote_left_open_is_found_by_its_line(tmp_path: Path, far: int) -> None:
    """Whether it closes in the next row or twenty later: the rows between would be lost."""
    rows = [f"text {i},{i % 2}" for i in range(40)]
    rows[5] = f'"{rows[5]}'
    rows[5 + far] = rows[5 + far].replace(",", '",')
    path = written(tmp_path, "x.csv", "text,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(CalibenchError, match=r"quote that opens on line 7 of 'x.csv' runs over lines"):
        read_table(path)
    assert len(read_table(path, Reading(quoting="none"))) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\nb,c,0\n", "Line 3 of 'x.csv' has 3 cells and the first line 2: quote cells"),
        ("text,label\na,1\nb\n", "Line 3 of 'x.csv' has 1 cells and the first line 2"),
        ('text,label\n"a\nb",1\nc\n', "Line 4 of 'x.csv' has 1 cells"),
        ('text,label\na,1\n"b"c,0\n', "The row that begins on line 3 of 'x.csv' is not quoted"),
        ('text,label\na,1\n"b,0\n', "The row that begins on line 3 of 'x.csv' is not quoted"),
        ("text,text\na,1\n", "'x.csv' has two columns called 'text'"),
        ("", "'x.csv' is empty"),
        (b"text,label\na,1\nb\xff,0\n", "Line 3 of 'x.csv' is not utf-8 text; name another with --encoding"),
    ],
)
def test_what_does_not_fit_names_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    """Nothing is padded, cut or skipped."""
    with pytest.raises(CalibenchError) as caught:
        read_table(written(tmp_path, "x.csv", content))
    assert message in str(caught.value)


def test_a_file_is_read_as_asked(tmp_path: Path) -> None:
    """Another delimiter, another encoding, and a byte order mark that is no part of a name."""
    path = written(tmp_path, "x.csv", "text;label\ncafé;1\n".encode("latin-1"))
    assert columns(path, Reading(";", "latin-1")) == {"text": ["café"], "label": ["1"]}
    marked = written(tmp_path, "y.csv", "\ufefftext,label\na,1\n")
    assert list(columns(marked)) == ["text", "label"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"delimiter": ";;"}, "The delimiter is ';;'"),
        ({"delimiter": '"'}, "The delimiter is"),
        ({"encoding": "utf-9"}, "'utf-9' is no encoding"),
        ({"quoting": "single"}, "choose from double, none"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: dict[str, Any], message: str) -> None:
    """In one sentence, before any file is opened."""
    with pytest.raises(UsageError, match=message):
        Reading(**setting)


def test_a_setting_that_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    """A JSON file has no delimiter, and the hub's data are not read here."""
    path = written(tmp_path, "x.jsonl", '{"text": "a", "label": 1}\n')
    with pytest.raises(UsageError, match="has no delimiter and no quoting"):
        load(str(path), delimiter=";")
    with pytest.raises(UsageError, match="is read from the hub"):
        load("org/name", quoting="none")


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path: Path, name: str) -> None:
    """What else Unicode calls a line's end is part of a text."""
    rows = [{"text": "one\u2028two\u0085three", "label": "a"}, {"text": "b", "label": None}]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert columns(written(tmp_path, name, content)) == {
        "text": ["one\u2028two\u0085three", "b"],
        "label": ["a", None],
    }


@pytest.mark.parametrize(
    "content",
    [
        [{"text": "a", "label": 1}, {"text": "b", "label": 0}],
        {"text": ["a", "b"], "label": [1, 0]},
    ],
)
def test_json_is_a_list_of_objects_or_an_object_of_columns(tmp_path: Path, content: Any) -> None:
    """Both are one table."""
    path = written(tmp_path, "x.json", json.dumps(content, indent=1))
    assert columns(path) == {"text": ["a", "b"], "label": [1, 0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1}\n{"text": "b",\n', "Line 2 of 'x.jsonl' cannot be read"),
        ('{"text": "a", "label": 1}\n["b", 0]\n', "Line 2 of 'x.jsonl' is a list; expected an object"),
        (
            '{"text": "a", "label": 1}\n{"text": "b", "label": "1"}\n',
            "Line 2 of 'x.jsonl' has '1' as 'label', where others have 1; expected values of one kind",
        ),
    ],
)
def test_json_that_does_not_fit_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    """A torn line, another kind of value."""
    with pytest.raises(CalibenchError) as caught:
        read_table(written(tmp_path, "x.jsonl", content))
    assert message in str(caught.value)


def test_columns_that_nobody_asks_for_may_be_anything(tmp_path: Path) -> None:
    """Unlike structures beside text and label are left out."""
    path = written(
        tmp_path,
        "x.jsonl",
        '{"text": "a", "label": 1, "meta": {"k": [1]}}\n{"text": "b", "label": 0, "meta": [1]}\n',
    )
    assert load(str(path)).texts == ("a", "b")


def test_categories_are_words_whose_order_nobody_declared(tmp_path: Path) -> None:
    """A dictionary column of arrow, as pandas writes categories."""
    labels = pa.array(["joy", "anger", "joy"]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": labels}), tmp_path / "x.parquet")
    dataset = load(str(tmp_path / "x.parquet"))
    assert (dataset.label_names, dataset.order) == (("anger", "joy"), "none")


@pytest.mark.parametrize("open_sink", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_files_of_both_kinds_are_read(tmp_path: Path, open_sink: Any) -> None:
    """The stream that `datasets` writes and the file that others do."""
    table = pa.table({"text": ["a", "b"], "label": [1, 0]})
    with open_sink(str(tmp_path / "x.arrow"), table.schema) as sink:
        sink.write_table(table)
    assert columns(tmp_path / "x.arrow") == {"text": ["a", "b"], "label": [1, 0]}


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_file_that_changed_is_read_anew(
    tmp_path: Path, whole_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size and time, which is all that a cache by size and time sees."""
    import os

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    found = []
    for content in ("text,label\naaaa,1\nbbbb,0\n", "text,label\ncccc,0\ndddd,1\n"):
        path = written(tmp_path / "data", "train.csv", content)
        os.utime(path, (10**9, 10**9))
        found.append(load(str(path.parent if whole_folder else path)))
    assert [dataset.texts for dataset in found] == [("aaaa", "bbbb"), ("cccc", "dddd")]
    assert [dataset.labels.tolist() for dataset in found] == [[1, 0], [0, 1]]


def test_class_names_that_a_folder_declares_are_kept(tmp_path: Path) -> None:
    """The features in its README, as a copy of a data set from the hub has them."""
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': sad\n          '1': glad\n---\n"
    )
    written(tmp_path, "train.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    dataset = load(str(tmp_path))
    assert (dataset.label_names, dataset.order) == (("sad", "glad"), "declared")


def test_parts_of_a_split_are_put_together(tmp_path: Path) -> None:
    """Shards in the order of their names, whatever their kind."""
    written(tmp_path, "train-00000-of-00002.csv", "text,label\na,1\n")
    written(tmp_path, "train-00001-of-00002.csv", "text,label\nb,0\n")
    written(tmp_path, "notes.txt", "not data")
    assert load(str(tmp_path)).texts == ("a", "b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "text;label\na, b;1\n", r"one column, 'text;label'; pass --delimiter ';'"),
        ("x.csv", "text\tlabel\na\t1\n", r"pass --delimiter \$'\\t'"),
        ("x.tsv", "text,label\na,1\n", r"pass --delimiter ','"),
        ("x.tsv", '"text"\t"label"\n"a"\t"1"\n', r"stand in quotes .*pass --quoting double"),
        ("x.csv", "text,label\ra,1\rb,0\r", "end in carriage returns alone"),
        ("x.tsv", "text\tlabel\ra\t1\rb\t0\r", "end in carriage returns alone"),
        ("x.csv", "text,label\na,1\n".encode("utf-16"), "with --encoding, such as utf-16"),
        ("x.csv", "text,label\n\n", r"The split 'train' of 'x.csv' is empty: put rows into it\."),
        ("x.json", '{"data": [{"text": "a", "label": 1}]}', "holds its rows under 'data'"),
        ("x.json", '{"train": [["a", "x"]], "test": [["b", "y"]]}', "under 'train' and 'test'"),
        ("x.json", '{"version": 2, "data": [{"text": "a", "label": 1}]}', "holds its rows under 'data'"),
        ("x.json", '{"text": {"0": "a"}, "label": {"0": 1}}', "columns that are objects.*orient='records'"),
        ("x.json", "3", "holds 3; expected a list of objects"),
        ("x.csv.gz", b"\x1f\x8b", "is not a data file: unpack it, and pass"),
        ("x.parquet", "PAR", "'x.parquet' cannot be read: "),
    ],
)
def test_what_another_option_or_another_file_would_mend_is_said(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    """In place of a column that is not found, or a quote that nobody wrote; and no path is told."""
    with pytest.raises(CalibenchError, match=message) as caught:
        load(str(written(tmp_path, name, content)))
    assert str(tmp_path) not in str(caught.value)


def test_objects_within_columns_and_records_are_no_hindrance(tmp_path: Path) -> None:
    """Tokens beside texts, and what else there is of one text."""
    both = '{"text": ["a", "b"], "label": [1, 0], "tokens": [["a"], ["b"]]}'
    assert load(str(written(tmp_path, "x.json", both))).texts == ("a", "b")
    assert load(str(written(tmp_path, "y.json", '{"text": "a", "label": 1, "meta": {}}'))).texts == ("a",)
    tabs = written(tmp_path, "z.csv", "text\tlabel\na\t1\n")
    assert load(str(tabs), delimiter="\t").texts == ("a",)


def test_two_formats_of_one_file_are_not_chosen_between(tmp_path: Path) -> None:
    """One may be older; a file by its own name is read."""
    written(tmp_path, "test.csv", "text,label\na,1\nb,0\n")
    pq.write_table(pa.table({"text": ["c"], "label": [1]}), tmp_path / "test.parquet")
    with pytest.raises(
        UsageError, match=r"holds 'test.\w+' and 'test.\w+', which may or may not be the same"
    ):
        load(str(tmp_path))
    assert load(str(tmp_path / "test.csv")).texts == ("a", "b")


def test_parts_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    """Numbers in one and text in another, or a word that the README does not declare."""
    written(tmp_path, "test-0.jsonl", '{"text": "a", "label": 1}\n')
    written(tmp_path, "test-1.jsonl", '{"text": "b", "label": "x"}\n')
    with pytest.raises(CalibenchError, match=r"\(test-0.jsonl, test-1.jsonl\) do not fit together"):
        load(str(tmp_path))
    (tmp_path / "test-1.jsonl").unlink()
    written(tmp_path, "test-0.jsonl", '{"text": "a", "label": "glum"}\n')
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': sad\n          '1': glad\n---\n"
    )
    with pytest.raises(CalibenchError, match=r"features that its README declares: .*glum"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["gone.csv", "gone.csv.gz"])
def test_a_link_to_nothing_and_a_packed_file_are_no_hub_ids(tmp_path: Path, name: str) -> None:
    """The network has nothing to do with them."""
    with pytest.raises(UsageError, match="There is no file"):
        load(str(tmp_path / name))
    (tmp_path / name).symlink_to("nowhere.csv")
    with pytest.raises(UsageError, match=r"is a link to 'nowhere.csv', which is not there"):
        load(str(tmp_path / name))
