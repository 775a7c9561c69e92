"""What a run has measured so far, written down block by block, so that a kill loses one block at most.

`journal/SESSION.jsonl` in the run folder has a line per finished piece of work; the outputs of the first
repetition are in `journal/SESSION-BLOCK.npz`, written before the line that says so. A session is one set of
cells measured side by side; the journal goes once their records are written.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from calibench.errors import CalibenchError
from calibench.store.records import to_json
from calibench.types import Predictive


class Entries(Protocol):
    """What was measured, by kind: a journal, or one with rows added that share another's measurement."""

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""


class Journal:
    """The journal of one session.

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
        self.entries: list[dict[str, Any]] = []
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                try:
                    self.entries.append(json.loads(line))
                except json.JSONDecodeError:  # the line that was being written when the run was killed
                    break

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind, in the order in which they were written."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line and make sure that it is on disk."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(to_json(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._no_room(error) from error
        self.entries.append(entry)

    def save_outputs(self, part: int | str, outputs: dict[str, Predictive]) -> None:
        """Store what each cell predicted for a block, or for another named part."""
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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            np.savez(self._outputs(part), allow_pickle=False, **arrays)
        except OSError as error:
            raise self._no_room(error) from error

    def load_outputs(self, part: int | str) -> dict[str, Predictive]:
        """What `save_outputs` stored."""
        with np.load(self._outputs(part)) as stored:
            arrays = dict(stored)
        found: dict[str, dict[str, Any]] = {}
        for name, array in arrays.items():
            key, _, rest = name.partition("/")
            found.setdefault(key, {})[rest] = array
        return {
            key: Predictive(
                probs=parts["probs"],
                passes=parts["passes"],
                samples=parts.get("samples"),
                standard_error=parts.get("standard_error"),
                scores={name[6:]: array for name, array in parts.items() if name.startswith("score/")},
                sets=parts.get("sets"),
                notes=tuple(str(note) for note in parts["notes"]),
            )
            for key, parts in found.items()
        }

    def remove(self) -> None:
        """Forget the session: its records are written."""
        for path in self._folder.glob(f"{self._session}*"):
            path.unlink()
        if self._folder.exists() and not any(self._folder.iterdir()):
            shutil.rmtree(self._folder)

    def _outputs(self, part: int | str) -> Path:
        return self._folder / f"{self._session}-{part}.npz"

    def _no_room(self, error: OSError) -> CalibenchError:
        return CalibenchError(
            f"Could not write to {self._folder} ({error.strerror}); make room and run the same command with "
            "the same -o to go on from the last finished block."
        )
