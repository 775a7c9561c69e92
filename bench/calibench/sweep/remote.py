"""Output anywhere fsspec writes: the sweep works in a folder of this machine, and sends finished pairs there.

Predictions are sent first, records after them and the manifest last, so that what is there can be read at any
time. What is there at the start and not here is fetched, so that the same command goes on from any machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from calibench.errors import UsageError, WriteError
from calibench.store.lock import LOCK
from calibench.store.merging import add_records
from calibench.store.records import RECORDS, Record, load_records
from calibench.sweep.manifest import MANIFEST
from calibench.sweep.spec import Pair

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: What to install for a protocol.
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
}


class Here:
    """A folder of this machine: nothing is sent anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def send(self, pair: Pair) -> None:
        """Nothing to do."""

    def send_manifest(self) -> None:
        """Nothing to do."""


class There:
    """A URL, and the folder of this machine in which the sweep works.

    Args:
        url: as fsspec has it.
        folder: kept between commands, with the journals of what is unfinished.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self._url = url.rstrip("/")
        self._system, self._root = _open(self._url)

    def fetch(self) -> None:
        """Take what is there and not here: records of other cells, and their predictions.

        Raises:
            WriteError: it cannot be read.
        """
        with _sending(self._url):
            self._system.invalidate_cache()
            if not self._system.exists(self._at(MANIFEST)):
                return
            content = self._system.cat_file(self._at(MANIFEST))
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / MANIFEST).exists():
                (self.folder / MANIFEST).write_bytes(content)
            for entry in json.loads(content)["pairs"]:
                if self._system.exists(self._at(entry["folder"], RECORDS)):
                    self._fetch_pair(self.folder / entry["folder"])

    def _fetch_pair(self, run: Path) -> None:
        there = self.folder / f".{run.name}.{RECORDS}"
        self._system.get_file(self._at(run.name, RECORDS), str(there))
        try:
            records = load_records(there)
        finally:
            there.unlink()
        here = load_records(run) if (run / RECORDS).exists() else []
        known = {record["cell"] for record in here if record["status"] == "ok"}
        fresh = [record for record in records if record["cell"] not in known]
        for record in fresh:
            for name in _files(record):
                (run / name).parent.mkdir(parents=True, exist_ok=True)
                self._system.get_file(self._at(run.name, name), str(run / name))
        if fresh:
            add_records(run, fresh, {record["cell"]: place for place, record in enumerate(records)})

    def send(self, pair: Pair) -> None:
        """Send a finished pair, and then the manifest.

        Raises:
            WriteError: it cannot be written there.
        """
        run = self.folder / pair.folder
        if not (run / RECORDS).exists():
            return
        with _sending(self._url):
            self._make(pair.folder, "predictions")
            for record in load_records(run):
                for name in _files(record):
                    self._put(pair.folder, name)
            self._put(pair.folder, RECORDS, always=True)
        self.send_manifest()

    def send_manifest(self) -> None:
        """Send the manifest alone.

        Raises:
            WriteError: it cannot be written there.
        """
        with _sending(self._url):
            self._make()
            self._put(MANIFEST, always=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other machines out, as far as a file that says so can.

        Raises:
            UsageError: another sweep writes there.
        """
        own = {"pid": os.getpid(), "host": platform.node()}
        with _sending(self._url):
            self._make()
            self._system.invalidate_cache()
            held = (
                json.loads(self._system.cat_file(self._at(LOCK)))
                if self._system.exists(self._at(LOCK))
                else None
            )
        if held is not None and held["host"] != own["host"]:
            raise UsageError(
                f"Another sweep (process {held['pid']} on {held['host']}) writes to {self._url}; wait for "
                f"it, remove {self._url}/{LOCK} if it is gone, or choose another place with -o."
            )
        with _sending(self._url):
            self._system.pipe_file(self._at(LOCK), json.dumps(own).encode())
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                self._system.rm_file(self._at(LOCK))

    def _at(self, *names: str) -> str:
        return "/".join((self._root, *names))

    def _make(self, *names: str) -> None:
        self._system.makedirs(self._at(*names), exist_ok=True)

    def _put(self, *names: str, always: bool = False) -> None:
        """Send a file; predictions of one name are the same, since other ones get another."""
        here = self.folder.joinpath(*names)
        if always or not self._there(self._at(*names), here.stat().st_size):
            self._system.put_file(str(here), self._at(*names))

    def _there(self, path: str, size: int) -> bool:
        try:
            return bool(self._system.info(path)["size"] == size)
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def place(where: str) -> Iterator[Here | There]:
    """Where a sweep works, of a path or a URL; what is at a URL is fetched.

    Raises:
        UsageError: the URL cannot be opened, or another sweep writes there.
        WriteError: it cannot be read.
    """
    if not _URL.match(where):
        yield Here(Path(where))
        return
    digest = hashlib.sha256(where.rstrip("/").encode()).hexdigest()[:16]
    folder = Path(os.environ.get("CALIBENCH_CACHE") or platformdirs.user_cache_dir("calibench")) / "sweeps"
    found = There(where, folder / digest)
    with found.alone():
        found.fetch()
        yield found


def _files(record: Record) -> list[str]:
    return [str(record["predictions"])] if record.get("predictions") else []


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0].lower()
    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol, "the package that fsspec names for it")
        raise UsageError(
            f"Output to {protocol}:// needs a package that is not installed; run: pip install {package}"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{url} is no place that fsspec knows ({error}); expected a folder, or a URL such as s3://BUCKET/NAME."
        ) from error
    return system, str(root).rstrip("/")


@contextlib.contextmanager
def _sending(url: str) -> Iterator[None]:
    """What goes wrong inside as one sentence about the URL."""
    try:
        yield
    except (UsageError, WriteError):
        raise
    except Exception as error:  # every file system raises its own
        message = " ".join(str(error).split()) or type(error).__name__
        raise WriteError(
            f"Could not read or write {url} ({message}); check name and credentials, and run the same "
            "command to go on: what is finished is kept on this machine."
        ) from error
