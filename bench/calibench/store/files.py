"""Files of a run folder are replaced whole, so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from calibench.errors import CalibenchError


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, or leave it as it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise CalibenchError(
            f"Could not write {path} ({error.strerror}); choose a folder with room and write access with -o."
        ) from error
