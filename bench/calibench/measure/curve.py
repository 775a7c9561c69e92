"""Each number of passes of the curve timed by itself, beside the reference."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from calibench.measure.session import Session


def time_curve(session: Session) -> None:
    """Time them on a few blocks; nothing where the suite has no curve."""
    setting = session.setting
    counts = setting.suite.curve
    if not counts:
        return
    blocks = range(min(3, len(setting.blocks)))
    done = {(entry["block"], entry["passes"]) for entry in session.journal.of_kind("curve")}
    left = [(block, k) for block in blocks for k in counts if (block, k) not in done]
    curved = [running for running in session.measured if "passes" in running.cell.params]
    reference = [running for running in session.alive if running.cell.reference]
    session.progress.stage("Timing the curve", len(left))
    for block, k in left:
        times: dict[str, Any] = {}
        for running in [*reference, *curved]:
            cell = running.cell
            if not running.alive:
                continue
            if "passes" not in cell.params:
                method = running.method
            elif k <= cell.params["passes"]:
                make = partial(cell.factory, setting.checkpoint, **{**cell.params, "passes": k})
                method, error = session.attempt(cell.name, make)
                if error is not None:
                    session.failed(running, error)
                    continue
                if cell.factory.draws_once:  # before the clock starts, as for every other prediction
                    session.predict(running, [np.array([0])], "block", block, method=method)
            else:
                continue
            result = session.predict_block(running, block, method=method)
            if result is not None:
                times[running.key] = asdict(result[1])
        sentences = sum(len(group) for group in setting.blocks[block])
        session.journal.append(
            {"kind": "curve", "block": block, "passes": k, "sentences": sentences, "cells": times}
        )
        session.progress.step(f"{k} passes")
