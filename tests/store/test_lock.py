"""One writer at a time: whoever comes second is told who is first, and a dead owner holds nobody up."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calibench.errors import UsageError, WriteError
from calibench.store import lock
from calibench.store.lock import LOCK, sole_writer


def held_by(folder: Path, **changes: Any) -> Path:
    """A lock in the folder, of this process and host unless told otherwise."""
    owner = {"pid": os.getpid(), "host": platform.node(), "since": time.time()} | changes
    (folder / LOCK).write_text(json.dumps(owner))
    return folder / LOCK


def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    """By process and host, in one sentence; afterwards the folder is free and holds nothing of the lock."""
    with sole_writer(tmp_path):
        with (
            pytest.raises(UsageError, match=rf"process {os.getpid()} on .*wait for it"),
            sole_writer(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    with sole_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reused", [False, True])
def test_a_dead_owner_s_lock_is_taken_over(tmp_path: Path, reused: bool) -> None:
    """Also where another process bears its number by now: it began after the lock."""
    held_by(tmp_path, **({"since": 1.0} if reused else {"pid": ended()}))
    with sole_writer(tmp_path):
        assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_of_another_host_stands(tmp_path: Path) -> None:
    """Nobody here can tell whether that process lives; the sentence says what to remove if not."""
    lock = held_by(tmp_path, pid=ended(), host="elsewhere")
    with pytest.raises(UsageError, match=r"on elsewhere\) .*remove .*lock if that run is gone"):
        sole_writer(tmp_path).__enter__()
    assert lock.exists()


def test_what_is_no_lock_is_left_alone(tmp_path: Path) -> None:
    """A file of the user's that happens to be called so."""
    (tmp_path / LOCK).write_text("my locks")
    with pytest.raises(UsageError, match="is not the lock of a run"):
        sole_writer(tmp_path).__enter__()
    assert (tmp_path / LOCK).read_text() == "my locks"


def test_a_folder_that_stays_empty_is_removed_again(tmp_path: Path) -> None:
    """With the folders above it that were made for it, also after an error; one that was there stays."""
    with pytest.raises(ZeroDivisionError), sole_writer(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with sole_writer(tmp_path / "c"):
        (tmp_path / "c" / "kept").write_text("")
    assert (tmp_path / "c" / "kept").exists()


@pytest.mark.parametrize("place", ["predictions", "journal", "."])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str) -> None:
    """Before anything else happens: a file in the place of a folder, also of one inside."""
    (tmp_path / "run").mkdir()
    target = tmp_path / "run" / place
    if place == ".":
        target.rmdir()
    target.write_text("mine")
    with pytest.raises(WriteError, match="Could not write"):
        sole_writer(tmp_path / "run").__enter__()
    assert target.read_text() == "mine"
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_lock_that_was_taken_meanwhile_is_not_cleared(tmp_path: Path) -> None:
    """Two find the same stale lock; the slower of them leaves the lock of the faster one where it is."""
    (tmp_path / LOCK).write_text("of the faster one")
    lock._clear(tmp_path / LOCK, b"stale")
    assert (tmp_path / LOCK).read_text() == "of the faster one"
    lock._clear(tmp_path / LOCK, b"of the faster one")
    assert list(tmp_path.iterdir()) == []
