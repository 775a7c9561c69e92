"""A file is replaced whole or stays what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calibench.errors import WriteError
from calibench.store.files import append, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the file stays what it was and nothing is left lying about."""
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_found_no_room_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it does not stay behind the lines before it."""
    path = tmp_path / "file"
    append(path, b"old\n")
    write = os.write
    full = iter((lambda fd, data: write(fd, data[:2]), None))

    def half(descriptor: int, data: bytes) -> int:
        room = next(full)
        if room is None:
            raise OSError(28, "No space left on device")
        return room(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr("os.write", half)
        with pytest.raises(WriteError, match="No space left on device"):
            append(path, b"new\n")
    assert path.read_bytes() == b"old\n"
    append(path, b"new\n")
    assert path.read_bytes() == b"old\nnew\n"
