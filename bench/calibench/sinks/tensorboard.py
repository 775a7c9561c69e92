"""TensorBoard: an event file per row in the run folder, with scalars, and hyperparameters to compare by."""

from __future__ import annotations

import io
import re
from typing import Any

from calibench.sinks.logged import LoggedRow, LoggedRun
from calibench.store.files import write_whole

#: Below the run folder.
FOLDER = "tensorboard"
#: One name for all, so that a row that is logged again replaces itself; TensorBoard looks for its first part.
_FILE = "events.out.tfevents.calibench"


def log(run: LoggedRun) -> str:
    """Write `tensorboard/ROW/` in the run folder; a row that is there is replaced.

    Rows are runs of their own because TensorBoard compares nothing else: a colour each in Time Series, a line
    each in the table of HParams.

    Raises:
        WriteError: there is no room, or no right to write there.
    """
    target = run.folder / FOLDER
    for row in run.rows:
        write_whole(target / re.sub(r"[^\w.,=+()/ -]", "-", row.name) / _FILE, _events(row))
    return f"tensorboard --logdir {target}"


def _events(row: LoggedRow) -> bytes:
    """What TensorBoard's own writers would write, in memory; that for HParams would import TensorFlow."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo
    from tensorboard.summary.writer.record_writer import RecordWriter

    time = row.created.timestamp()
    start = SessionStartInfo(start_time_secs=time)
    for name, value in row.config.items():
        setattr(start.hparams[name], _kind(value), value)
    status = api_pb2.STATUS_SUCCESS if row.failure is None else api_pb2.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time)
    values = [
        _hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start),
        *(
            Summary.Value(tag=name, simple_value=value)
            for name, value in (*row.values.items(), *row.ends.items())
        ),
        _hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end),
    ]
    content = io.BytesIO()
    records = RecordWriter(content)
    for event in (
        Event(wall_time=time, file_version="brain.Event:2"),
        Event(wall_time=time, summary=Summary(value=values)),
    ):
        records.write(event.SerializeToString())
    return content.getvalue()


def _kind(value: str | int | float | bool) -> str:
    """The field of a protobuf value that holds it."""
    if isinstance(value, bool):
        return "bool_value"
    return "string_value" if isinstance(value, str) else "number_value"


def _hparams(tag: str, **data: Any) -> Any:
    """A value that only the HParams dashboard reads."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    about = metadata.create_summary_metadata(HParamsPluginData(**data))
    return Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
