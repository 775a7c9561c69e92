"""The phases of a measurement, in order: from a session to what it has found."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from calibench.measure.checks import described
from calibench.measure.clocks import frozen_heap
from calibench.measure.curve import time_curve
from calibench.measure.latency import time_single_texts
from calibench.measure.measured import DerivedCell, Measured, MeasuredCell
from calibench.measure.memory import Peak, give_back_freed_memory
from calibench.measure.peaks import measure_peaks
from calibench.measure.running import Running, self_check_key
from calibench.measure.session import Session
from calibench.measure.set_up import set_up, warm_up
from calibench.measure.throughput import stored_outputs, time_blocks
from calibench.measure.untimed import predict_calibration, predict_extra_data, predict_references


def measure(session: Session) -> Measured:
    """Set up, warm up, time blocks and single texts, predict what else there is, and measure memory.

    The session's methods are let go of: what comes after reads what they predicted.
    """
    set_up(session)
    with frozen_heap():
        warm_up(session)
        give_back_freed_memory()
        time_blocks(session)
        references = predict_references(session)
        time_curve(session)
        time_single_texts(session)
    predict_calibration(session)
    predict_extra_data(session)
    session.verify_weights()
    peaks = measure_peaks(session)
    cells = [_measured(session, running, peaks) for running in session.active if not running.self_check]
    derived = [
        DerivedCell(item.cell, item.key, item.base) for item in session.derived if item.base is not None
    ]
    for running in session.active:
        running.method = None
    return Measured(
        session.setting, tuple(cells), tuple(derived), session.journal, session.runtimes, references
    )


def _measured(session: Session, running: Running, peaks: Mapping[str, Peak]) -> MeasuredCell:
    said = None
    if running.method is not None:
        said, error = session.attempt(
            running.cell.name, partial(described, running.cell.name, running.method)
        )
        if error is not None:
            session.failed(running, error)
    return MeasuredCell(
        cell=running.cell,
        key=running.key,
        failure=running.failure,
        setup_s=running.setup_s,
        fit=running.fit,
        passes=1 if said is None else said.passes,
        coverage=None if said is None else said.coverage,
        conformal=None if said is None else said.conformal,
        tokenises=said is not None and said.tokenises,
        outputs=stored_outputs(session, running),
        peak=peaks.get(running.key),
        self_checked=self_check_key(running.key) in {item.key for item in session.alive},
    )
