"""Run folders kept under a name, to hold later runs to: records and predictions, where a cache finds them."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from calibench.errors import UsageError, WriteError, unknown
from calibench.store.predictions import checked_file, predictions_file
from calibench.store.records import RECORDS, load_records, records_file, write_records

#: Where they lie unless told otherwise.
BASELINES = Path(".calibench") / "baselines"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def find_baseline(name: str, folder: Path) -> Path:
    """The run folder of a name.

    Raises:
        UsageError: there is none; names those there are.
    """
    if _NAME.fullmatch(name) and (folder / name / RECORDS).is_file():
        return folder / name
    there = sorted(path.parent.name for path in folder.glob(f"[!.]*/{RECORDS}"))
    if not there:
        raise UsageError(f"There is no baseline {name!r} in {folder}; save one with --save-baseline {name}.")
    raise unknown(f"There is no baseline {name!r} in {folder}", name, there)


def save_baseline(run: Path, name: str, folder: Path) -> Path:
    """Copy a run folder's records and predictions to a name, in place of what was there; returns the copy.

    Args:
        run: a run folder or records file.

    Raises:
        UsageError: no name for a folder, no records, or predictions that are missing or others.
        WriteError: there is no room, or no right to write there; what was there is there still.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a baseline; expected letters, digits, dots, hyphens and underscores, "
            "such as main."
        )
    records, source, target = load_records(run), records_file(run).parent, folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as temporary:
            made, before = Path(temporary) / "new", Path(temporary) / "old"
            for record in records:
                if record.get("predictions"):
                    copy = predictions_file(made, record)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(checked_file(source, record), copy)
            write_records(made, records)
            if target.exists():
                target.rename(before)
            made.rename(target)
    except OSError as error:
        raise WriteError(
            f"The baseline {name!r} could not be saved in {folder} ({error.strerror or error}); make room, "
            "or name another folder with --baselines."
        ) from error
    return target
