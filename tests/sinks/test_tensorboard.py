"""Event files are read back by TensorBoard's own reader as the records have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logged_runs
import report_example as example
from calibench.flows.logging import logged
from calibench.sinks.logged import LoggedRow

pytest.importorskip(
    "tensorboard", reason="tensorboard is not installed: pip install 'calibench[tensorboard]'"
)


def read(folder: Path) -> Any:
    """What TensorBoard finds in a folder, and in none below it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def session(found: Any) -> tuple[dict[str, Any], int]:
    """The hyperparameters of a row, and how it ended, as the HParams dashboard reads them."""
    from tensorboard.plugins.hparams import metadata

    content = found.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    return {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }, end.status


def scalars(found: Any) -> dict[str, list[float]]:
    return {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def as_stored(row: LoggedRow) -> dict[str, list[float]]:
    """Once each, in the 32 bits that TensorBoard has for a number."""
    return {name: [float(np.float32(value))] for name, value in logged_runs.numbers(row).items()}


def test_each_row_is_a_run_with_its_numbers(tmp_path: Path) -> None:
    """Also what it is compared by, and that it failed."""
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS

    from calibench.sinks.tensorboard import log

    run = logged_runs.make(tmp_path / "first")
    assert log(run) == f"tensorboard --logdir {tmp_path / 'first' / 'tensorboard'}"
    for row in run.rows:
        found = read(tmp_path / "first" / "tensorboard" / row.name)
        assert scalars(found) == as_stored(row)
        config, status = session(found)
        assert config == row.config
        assert status == (STATUS_SUCCESS if row.failure is None else STATUS_FAILURE)


def test_a_row_that_is_logged_again_replaces_itself(tmp_path: Path) -> None:
    """No number is there twice, and the same records give the same bytes."""
    from calibench.sinks.tensorboard import log

    run = logged_runs.make(tmp_path)
    log(run)
    before = {path: path.read_bytes() for path in (tmp_path / "tensorboard").rglob("events*")}
    log(run)
    assert {path: path.read_bytes() for path in (tmp_path / "tensorboard").rglob("events*")} == before
    assert len(before) == len(run.rows)


def test_rows_of_sections_and_odd_names_lie_apart(tmp_path: Path) -> None:
    """A section's rows lie in its folder; what a file system may refuse is replaced."""
    from calibench.sinks.tensorboard import log

    example.build(tmp_path, example.METHODS[:2], seeds=(0, 1), n=40)
    run = logged(tmp_path)
    log(run)
    folders = {
        path.parent.relative_to(tmp_path / "tensorboard").as_posix() for path in tmp_path.rglob("events*")
    }
    assert folders == {row.name for row in run.rows}
