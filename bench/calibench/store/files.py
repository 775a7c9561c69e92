"""Files of a run folder are replaced whole, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from calibench.errors import WriteError

#: What a file is called while it is written: hidden, and its own name with a random part behind.
_PARTIAL = ".partial"
#: Bytes that go to the disk at once.
_TOGETHER = 2**23


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, on disk when this returns, or leave it as it was.

    Raises:
        WriteError: there is no room, or no right to write there.
    """
    pour(path, lambda file: file.write(data), lambda _: path)


def pour(path: Path, fill: Callable[[BinaryIO], Any], named: Callable[[str], Path]) -> tuple[Path, str]:
    """Write a file that is never whole in memory, on disk when this returns, or leave all as it was.

    Args:
        path: beside which it is made.
        fill: writes it.
        named: maps the SHA-256 of what was written to the file whose place it takes.

    Returns:
        That file, and the SHA-256.

    Raises:
        WriteError: there is no room, or no right to write there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL)
        try:
            with _Hashed(handle) as raw:
                buffered = io.BufferedWriter(raw, _TOGETHER)
                fill(buffered)
                buffered.flush()
                digest = raw.digest.hexdigest()
            target = named(digest)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(path.parent)
    return target, digest


class _Hashed(io.RawIOBase):
    """An open file that is written from its start to its end, and the hash of what was."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor, self.digest = descriptor, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        put(self._descriptor, data)
        self.digest.update(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def append(path: Path, data: bytes) -> None:
    """Add `data` to the end of a file, on disk when this returns, or leave the file as it was.

    Raises:
        WriteError: as of `write_whole`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                put(file.fileno(), data)
            except BaseException:
                file.truncate(end)
                raise
        if new:
            _sync_folder(path.parent)


def put(descriptor: int, data: bytes) -> None:
    """All of `data` into an open file and on to the disk: everything in a run folder is written here."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong inside as one sentence about `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"Could not write {path} ({error.strerror or error}); make room and run the same command with "
            "the same -o to go on, or choose a folder with room and write access."
        ) from error


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what a kill left of files of a name, in a folder where nobody else writes such files."""
    for path in folder.glob(f".{name}.*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(file: Path) -> str:
    """The same of a file, which need not fit into memory; raises OSError where it cannot be read."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Put a new name on disk too, where folders can be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
