"""One writer for a run folder: `lock` in it names the process, and is gone with it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from calibench.errors import UsageError
from calibench.store.files import put, sweep, write_whole, writing

LOCK = "lock"
#: Folders in a run folder that a run writes to.
_INSIDE = ("predictions", "journal")


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make `folder` where it is not there, show that it can be written, and keep other runs out.

    What was made and stayed empty is removed again.

    Raises:
        UsageError: another run writes there.
        WriteError: the folder cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = folder / LOCK
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        own = _acquire(lock)
        try:
            _prove_writable(folder)
            yield
        finally:
            if _read(lock) == own:
                lock.unlink()
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


def _prove_writable(folder: Path) -> None:
    """Write something wherever a run will, and clear what a kill left of such writing."""
    for place in (folder, *(folder / name for name in _INSIDE if os.path.lexists(folder / name))):
        probe = place / "probe"
        write_whole(probe, b"calibench\n")
        probe.unlink()
        sweep(place, probe.name)
    sweep(folder, LOCK)


def _acquire(lock: Path) -> bytes:
    """Take the lock, that of a process which is gone too; returns what it then holds."""
    own = json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.time()}).encode() + b"\n"
    while not _create(lock, own):
        held = _read(lock)
        if held is None:
            continue  # released in between
        owner = _owner(held)
        if not _gone(owner):
            raise UsageError(_taken(lock, owner))
        _clear(lock, held)
    return own


def _create(lock: Path, content: bytes) -> bool:
    """Make the lock with its content at once; False where there is one."""
    with writing(lock):
        handle, temporary = tempfile.mkstemp(dir=lock.parent, prefix=f".{LOCK}.", suffix=".partial")
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                put(file.fileno(), content)
            _link(temporary, lock, content)
        except (FileExistsError, FileNotFoundError):  # held, or swept away by who holds it
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
    return True


def _link(temporary: str, lock: Path, content: bytes) -> None:
    """Give a file the lock's name too; where a disk has no such links, make the lock anew."""
    try:
        os.link(temporary, lock)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        with lock.open("xb", buffering=0) as file:
            put(file.fileno(), content)


def _clear(lock: Path, stale: bytes) -> None:
    """Remove a stale lock, and no other that another run may have put in its place meanwhile."""
    aside = lock.with_name(f".{LOCK}.{os.getpid()}.partial")
    with contextlib.suppress(FileNotFoundError):
        lock.rename(aside)
        if aside.read_bytes() != stale:
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink()


def _read(lock: Path) -> bytes | None:
    try:
        return lock.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"{lock} cannot be read ({error.strerror}); choose another folder with -o."
        ) from error


def _owner(content: bytes) -> dict[str, Any]:
    """Who holds the lock; empty where it does not say."""
    try:
        found = json.loads(content)
        return {"pid": int(found["pid"]), "host": str(found["host"]), "since": float(found["since"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _gone(owner: dict[str, Any]) -> bool:
    """Whether a process of this machine has ended; its number may be another's by now."""
    if not owner or owner["host"] != platform.node():
        return False
    try:
        process = psutil.Process(owner["pid"])
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > owner["since"] + 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _taken(lock: Path, owner: dict[str, Any]) -> str:
    if not owner:
        return f"{lock} is not the lock of a run; remove it, or choose another folder with -o."
    who = f"process {owner['pid']} on {owner['host']}"
    where = "" if owner["host"] == platform.node() else f", remove {lock} if that run is gone"
    return (
        f"Another run ({who}) writes to {lock.parent}; wait for it{where}, or choose another folder with -o."
    )
