"""TensorBoard: an event file per row in the run folder, with scalars, and hyperparameters to compare by."""

from __future__ import annotations

import io
import re
from typing import Any

from calibench.sinks.logged import LoggedRow, LoggedRun
from calibench.store.files import write_whole

#: Below the run folder.
FOLDER = "tensorboard"
#: One name for all, so that a row that is logged again replaces itself; TensorBoard asks for these letters.
_FILE = "events.out.tfevents.calibench"


def log(run: LoggedRun) -> str:
    """Write `tensorboard/ROW/` in the run folder; a row that is there is replaced.

    Rows are runs of their own because TensorBoard has no other thing to compare: a colour each in Time
    Series, a line each in the table of HParams.

    Raises:
        WriteError: there is no room, or no right to write there.
    """
    target = run.folder / FOLDER
    for row in run.rows:
        write_whole(target / re.sub(r"[^\w.,=+()/ -]", "-", row.name) / _FILE, _events(row))
    return f"tensorboard --logdir {target}"


def _events(row: LoggedRow) -> bytes:
    """What TensorBoard's own writer would write, in memory."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary as hparams
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
    from tensorboard.summary.writer.record_writer import RecordWriter

    time = row.created.timestamp()
    scalars = [Summary.Value(tag=name, simple_value=value) for name, value in (row.values | row.ends).items()]
    status = STATUS_SUCCESS if row.failure is None else STATUS_FAILURE
    written: list[Any] = [
        Event(wall_time=time, file_version="brain.Event:2"),
        Event(wall_time=time, step=0, summary=hparams.session_start_pb(dict(row.config), start_time_secs=time)),
        Event(wall_time=time, step=0, summary=Summary(value=scalars)),
        Event(wall_time=time, step=0, summary=hparams.session_end_pb(status, end_time_secs=time)),
    ]
    content = io.BytesIO()
    records = RecordWriter(content)
    for event in written:
        records.write(event.SerializeToString())
    return content.getvalue()
