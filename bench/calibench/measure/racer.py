"""One of two processes that take turns at the same work: makes every method, then times what it is told to.

Run as a module, this file reads requests on one descriptor and answers on another, whose numbers it is
given, a line of JSON each: a method may print. `calibench.measure.race` is the other end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibench.errors import CalibenchError
from calibench.measure.clocks import frozen_heap
from calibench.measure.progress import Silent
from calibench.measure.running import Running
from calibench.measure.session import Session
from calibench.measure.set_up import set_up, warm_up
from calibench.measure.setting import load_setting
from calibench.seeds import derived_seed
from calibench.suites.cells import cells_of, identified
from calibench.suites.loader import suite_of

Answer = Callable[[Mapping[str, Any]], None]


def _serve(requests: int, answers: int) -> None:
    """Answer requests until they end: the first says what to load, each other one what to time."""
    for descriptor in (requests, answers):
        os.set_inheritable(descriptor, False)  # a process that a method starts would keep them open
    with os.fdopen(requests, encoding="utf-8") as lines, os.fdopen(answers, "w", encoding="utf-8") as out:

        def answer(content: Mapping[str, Any]) -> None:
            out.write(json.dumps(content) + "\n")
            out.flush()

        with tempfile.TemporaryDirectory() as folder:
            try:
                session = _session(json.loads(lines.readline()), Path(folder))
            except CalibenchError as error:
                answer({"refused": str(error)})
                return
            with frozen_heap():
                warm_up(session)
                answer(_described(session))
                for line in lines:
                    answer(_timed(session, json.loads(line)))


def _session(asked: Mapping[str, Any], folder: Path) -> Session:
    suite, device = suite_of(asked["suite"], "raced"), asked["device"]
    cells = identified(cells_of(suite, device))
    post_hoc = any(cell.fits for cell in cells)
    learning = any(cell.factory.needs_train for cell in cells)
    setting = load_setting(suite, device, Silent(), post_hoc=post_hoc, learning=learning)
    session = Session(setting, [Running(cell, cell.key(setting.context)) for cell in cells], folder, Silent())
    set_up(session)
    return session


def _described(session: Session) -> dict[str, Any]:
    """What was loaded: identities, and how much there is to time."""
    setting = session.setting
    count = min(setting.suite.timing.latency, len(setting.plan))
    draw = np.random.default_rng(derived_seed(setting.suite.seeds[0], "latency"))
    return {
        "cells": [
            {
                "key": running.key,
                "label": running.label,
                "name": running.cell.name,
                "failed": _failure(running),
            }
            for running in session.active
        ],
        **{name: setting.context[name] for name in ("data", "model", "plan")},
        "blocks": len(setting.blocks),
        "requests": [int(position) for position in draw.permutation(len(setting.plan))[:count]],
        "files": [file for module in list(sys.modules.values()) if (file := _file(module))],
    }


def _file(module: Any) -> str | None:
    file = getattr(module, "__file__", None)
    return os.path.realpath(file) if isinstance(file, str) else None


def _failure(running: Running) -> str | None:
    return None if running.failure is None else running.failure["message"]


def _timed(session: Session, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of a cell for a block or a single text, or why it failed."""
    running = session.active[asked["cell"]]
    if not running.alive:
        return {"failed": _failure(running)}
    if "block" in asked:
        found = session.predict_block(running, asked["block"])
    else:
        found = session.predict_one(running, asked["request"])
    return {"failed": _failure(running)} if found is None else {"seconds": found[1].end_to_end_s}


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
