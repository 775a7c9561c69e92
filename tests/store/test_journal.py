"""The journal: what was written is there after a kill, and the line that was being written is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibench.errors import CalibenchError
from calibench.store.journal import Journal, remove_finished
from calibench.types import Predictive


def journal(folder: Path, session: str = "one", *, keep_samples: bool = False) -> Journal:
    return Journal(folder, session, keep_samples=keep_samples)


def predictive(count: int, **more: object) -> Predictive:
    """Two classes, a probability of its own for each example."""
    first = np.linspace(0.1, 0.9, count)
    probs = np.stack([first, 1.0 - first], axis=1)
    return Predictive(probs=probs, passes=np.arange(1, count + 1), **more)  # type: ignore[arg-type]


def test_entries_read_back_by_kind_and_in_order(tmp_path: Path) -> None:
    """By whoever opens the same session next, and by nobody else."""
    first = journal(tmp_path)
    assert first.entries == []
    entries = [
        {"kind": "block", "block": 1, "cells": {"a": {"end_to_end_s": 0.1 + 0.2}}},
        {"kind": "latency", "position": 3},
        {"kind": "block", "block": 0, "name": "Łódź"},
    ]
    for entry in entries:
        first.append(entry)
    again = journal(tmp_path)
    assert first.entries == again.entries == entries
    assert first.of_kind("block") == again.of_kind("block") == [entries[0], entries[2]]
    assert again.of_kind("curve") == []
    assert journal(tmp_path, "two").entries == []


@pytest.mark.parametrize("left", [1, 9, 25])
def test_a_torn_last_line_is_not_there(tmp_path: Path, left: int) -> None:
    """A kill while a line was written costs that line alone, wherever it was cut."""
    written = journal(tmp_path)
    for block in range(3):
        written.append({"kind": "block", "block": block})
    (file,) = (tmp_path / "journal").iterdir()
    *whole, last = file.read_text().splitlines(keepends=True)
    assert left < len(last)
    file.write_text("".join([*whole, last[:left]]))
    assert journal(tmp_path).entries == [{"kind": "block", "block": 0}, {"kind": "block", "block": 1}]


@pytest.mark.parametrize("keep_samples", [True, False])
def test_outputs_read_back_exactly(tmp_path: Path, keep_samples: bool) -> None:
    """Bit by bit, under their cells; samples only where they are kept, the rest where there is any."""
    samples = np.random.default_rng(0).random((3, 4, 2)).astype(np.float32)
    full = predictive(
        4,
        samples=samples,
        standard_error=np.array([0.0, 0.1, 0.2, 0.3]),
        scores={"entropy": np.arange(4.0), "a/b": np.ones(4)},
        sets=np.eye(4, 2, dtype=bool),
        notes=("One sentence.", "Łódź is another."),
    )
    journal(tmp_path, keep_samples=keep_samples).save_outputs(0, {"full": full, "bare": predictive(2)})
    journal(tmp_path).save_outputs("calibration", {"full": predictive(5)})
    back = journal(tmp_path).load_outputs(0, "full")
    for name in ("probs", "passes", "standard_error", "sets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(full, name))
        assert getattr(back, name).dtype == getattr(full, name).dtype
    assert back.scores.keys() == full.scores.keys()
    for name, values in full.scores.items():
        np.testing.assert_array_equal(back.scores[name], values)
    assert back.notes == full.notes
    if keep_samples:
        np.testing.assert_array_equal(back.samples, samples)
        assert back.samples is not None
        assert back.samples.dtype == np.float32
    else:
        assert back.samples is None
    bare = journal(tmp_path).load_outputs(0, "bare")
    assert (bare.samples, bare.standard_error, bare.sets, dict(bare.scores), bare.notes) == (
        None,
        None,
        None,
        {},
        (),
    )
    assert len(journal(tmp_path).load_outputs("calibration", "full").probs) == 5


def test_a_removed_session_leaves_others_alone(tmp_path: Path) -> None:
    """Lines and outputs go, and the folder with the last of them; removing nothing is no error."""
    one, two = journal(tmp_path, "one"), journal(tmp_path, "two")
    for session in (one, two):
        session.append({"kind": "block"})
        session.save_outputs(0, {"a": predictive(2)})
    one.remove()
    assert sorted(path.name for path in (tmp_path / "journal").iterdir()) == ["two-0.npz", "two.jsonl"]
    assert journal(tmp_path, "one").entries == []
    two.remove()
    assert list(tmp_path.iterdir()) == []
    two.remove()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to go on; what did not reach the disk is not among the entries."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    kept = journal(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CalibenchError, match=r"No space left on device.*the same -o to go on") as caught:
        kept.append({"kind": "block"})
    assert "\n" not in str(caught.value)
    assert kept.entries == []


def stored(folder: Path) -> Path:
    """A journal of three blocks with outputs; returns its file of lines."""
    written = journal(folder, "0123456789ab")
    for block in range(3):
        written.save_outputs(block, {"a": predictive(2 + block)})
        written.append({"kind": "block", "block": block, "order": ["a"], "name": "Ł\u2028ó\x85dź"})
    return folder / "journal" / "0123456789ab.jsonl"


def blocks(folder: Path) -> list[int]:
    return [entry["block"] for entry in journal(folder, "0123456789ab").of_kind("block")]


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_what_follows_a_torn_line_is_there(tmp_path: Path, left: int) -> None:
    """The rest of the line is cut before anything is written behind it, inside a character too."""
    file = stored(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:-left])
    again = journal(tmp_path, "0123456789ab")
    assert [entry["block"] for entry in again.entries] == [0, 1]
    again.append({"kind": "block", "block": 7})
    again.append({"kind": "block", "block": 8})
    assert blocks(tmp_path) == [0, 1, 7, 8]


def test_other_line_ends_are_characters(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in a name; only a newline ends a line."""
    stored(tmp_path)
    assert {entry["name"] for entry in journal(tmp_path, "0123456789ab").entries} == {"Ł\u2028ó\x85dź"}
    assert blocks(tmp_path) == [0, 1, 2]


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """As after a copy that was put together again."""
    file = stored(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, lines[1]]))
    assert blocks(tmp_path) == [0, 1, 2]


def test_outputs_that_are_others_were_not_measured(tmp_path: Path) -> None:
    """One that is gone, one with a bit flipped; measured anew, each counts once."""
    file = stored(tmp_path)
    first, second, _ = sorted(tmp_path.glob("journal/*.npz"))
    whole = second.read_bytes()
    first.unlink()
    second.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    again = journal(tmp_path, "0123456789ab")
    assert [entry["block"] for entry in again.entries] == [2]
    for block in range(2):
        again.save_outputs(block, {"a": predictive(2 + block)})
        again.append({"kind": "block", "block": block})
    assert blocks(tmp_path) == [2, 0, 1]
    assert len(file.read_bytes().splitlines()) == 3


def test_sessions_that_nobody_goes_on_with_are_removed(tmp_path: Path) -> None:
    """Those whose cells all have records, and outputs without a line; not others, nor files of the user's."""
    inside = stored(tmp_path).parent
    for name in ("notes.jsonl", "ba9876543210-0.npz", ".0123456789ab.jsonl.x.partial"):
        (inside / name).write_bytes(b"")
    remove_finished(tmp_path, {"b"})
    assert {path.name.partition("-")[0] for path in inside.iterdir()} == {
        "notes.jsonl",
        "0123456789ab.jsonl",
        "0123456789ab",
    }
    remove_finished(tmp_path, {"a", "b"})
    assert [path.name for path in inside.iterdir()] == ["notes.jsonl"]
