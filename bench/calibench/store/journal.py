"""What a run has measured so far, written down block by block, so that a kill loses one block at most.

`journal/SESSION.jsonl` in the run folder has a line per finished piece of work; the outputs of the first
repetition are in `journal/SESSION-BLOCK.npz`, written before the line that says so, which holds their hash. A
session is one set of cells measured side by side; the journal goes once their records are written.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from calibench.store.files import append, sha256, sweep, write_whole
from calibench.store.records import to_json
from calibench.types import Predictive

#: Where an entry holds the hashes of the outputs written before it, by part.
_OUTPUTS = "outputs"
#: How the name of a journal's file begins.
_SESSION = re.compile(r"[0-9a-f]{12}(?=[-.])")


class Entries(Protocol):
    """What was measured, by kind: a journal, or one with rows added that share another's measurement."""

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""


class Journal:
    """The journal of one session.

    An entry counts if its line can be read and its outputs are those that were written; any other is of work
    that was not done.

    Args:
        folder: the run folder.
        session: names the set of cells, so that only the same set resumes.
        keep_samples: store per-pass samples too, for suites with a curve over passes.
    """

    def __init__(self, folder: Path, session: str, *, keep_samples: bool) -> None:
        self._folder = folder / "journal"
        self._session = session
        self._keep_samples = keep_samples
        self._file = self._folder / f"{session}.jsonl"
        self._saved: dict[str, str] = {}
        self.entries, self._whole = _load(self._file)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, with the hashes of the outputs saved since the last one, and see it on disk.

        Raises:
            WriteError: there is no room; the journal is what it was.
        """
        entry = entry | {_OUTPUTS: self._saved} if self._saved else entry
        if self._whole:
            append(self._file, _line(entry))
        else:  # what a kill or damage left must not run into what follows it
            write_whole(self._file, b"".join(map(_line, [*self.entries, entry])))
        self._whole, self._saved = True, {}
        self.entries.append(entry)

    def save_outputs(self, part: int | str, outputs: dict[str, Predictive]) -> None:
        """Store what each cell predicted for a block, or for another named part.

        Raises:
            WriteError: there is no room.
        """
        arrays: dict[str, Any] = {}
        for key, predictive in outputs.items():
            arrays[f"{key}/probs"] = predictive.probs
            arrays[f"{key}/passes"] = predictive.passes
            arrays[f"{key}/notes"] = np.array(predictive.notes, dtype=np.str_)
            if self._keep_samples and predictive.samples is not None:
                arrays[f"{key}/samples"] = predictive.samples
            if predictive.standard_error is not None:
                arrays[f"{key}/standard_error"] = predictive.standard_error
            if predictive.sets is not None:
                arrays[f"{key}/sets"] = predictive.sets
            arrays |= {f"{key}/score/{name}": score for name, score in predictive.scores.items()}
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        data = content.getvalue()
        write_whole(_outputs(self._file, part), data)
        self._saved[str(part)] = sha256(data)

    def load_outputs(self, part: int | str, key: str) -> Predictive:
        """What `save_outputs` stored of one cell; nothing else is read."""
        with np.load(_outputs(self._file, part)) as stored:
            names = [name for name in stored.files if name.startswith(f"{key}/")]
            arrays = {name.removeprefix(f"{key}/"): stored[name] for name in names}
        return Predictive(
            probs=arrays["probs"],
            passes=arrays["passes"],
            samples=arrays.get("samples"),
            standard_error=arrays.get("standard_error"),
            scores={name[6:]: array for name, array in arrays.items() if name.startswith("score/")},
            sets=arrays.get("sets"),
            notes=tuple(str(note) for note in arrays["notes"]),
        )

    def remove(self) -> None:
        """Forget the session: its records are written."""
        _remove(self._folder, self._session)


class Outputs(Mapping[int, Predictive]):
    """What one cell predicted, by block, read from its journal when it is asked for and not held.

    Args:
        parts: by block, what the journal calls its outputs.
    """

    def __init__(self, journal: Journal, key: str, parts: Mapping[int, int | str]) -> None:
        self._journal, self._key, self._parts = journal, key, parts

    def __getitem__(self, block: int) -> Predictive:
        return self._journal.load_outputs(self._parts[block], self._key)

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def remove_finished(folder: Path, finished: Collection[str]) -> None:
    """Forget sessions that nobody will go on with, in a folder that nobody else writes.

    Those are sessions of cells that all have their records, and those without a single finished block.

    Args:
        folder: the run folder.
        finished: keys of the cells that have a record.
    """
    inside = folder / "journal"
    sweep(inside)
    for session in {found[0] for path in inside.glob("*") if (found := _SESSION.match(path.name))}:
        entries, _ = _load(inside / f"{session}.jsonl")
        # A reference that is raced against itself has its own key and a word behind.
        cells = {key.partition("-")[0] for entry in entries for key in _cells(entry)}
        if cells <= set(finished):
            _remove(inside, session)
    _remove_empty(inside)


def _cells(entry: dict[str, Any]) -> list[str]:
    """The cells of a block, those that failed before it included."""
    return [*entry.get("order", ()), *entry.get("failures", ())]


def _remove(inside: Path, session: str) -> None:
    for path in (inside / f"{session}.jsonl", *inside.glob(f"{session}-*.npz")):
        path.unlink(missing_ok=True)
    _remove_empty(inside)


def _remove_empty(inside: Path) -> None:
    if inside.is_dir() and not any(inside.iterdir()):
        inside.rmdir()


def _load(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """The entries that count, each once, and whether the file holds nothing else."""
    if not file.exists():
        return [], True
    lines = file.read_bytes().split(b"\n")
    found: dict[bytes, dict[str, Any]] = {}
    for line in lines[:-1]:
        entry = _entry(line)
        if entry is not None and _fits(file, entry):
            found.setdefault(line, entry)
    # Only a newline ends a line: what stands behind the last one was being written when the run was killed.
    return list(found.values()), lines[-1] == b"" and len(found) == len(lines) - 1


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it cannot be read."""
    try:
        entry = json.loads(line)
    except ValueError:  # half a character too
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None


def _fits(file: Path, entry: dict[str, Any]) -> bool:
    """Whether the outputs that an entry names are there as they were written."""
    try:
        return all(
            sha256(_outputs(file, part).read_bytes()) == digest
            for part, digest in entry.get(_OUTPUTS, {}).items()
        )
    except OSError:
        return False


def _line(entry: dict[str, Any]) -> bytes:
    return to_json(entry).encode() + b"\n"


def _outputs(file: Path, part: int | str) -> Path:
    return file.with_name(f"{file.stem}-{part}.npz")
