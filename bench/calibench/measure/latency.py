"""One sentence at a time, the same sentences for every method, methods in random order."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from calibench.measure.session import Session
from calibench.seeds import derived_seed


def time_single_texts(session: Session) -> None:
    """Time as many random texts as the suite says, each by itself."""
    plan, seed = session.setting.plan, session.setting.suite.seeds[0]
    count = min(session.setting.suite.timing.latency, len(plan))
    draw = np.random.default_rng(derived_seed(seed, "latency"))
    chosen = draw.permutation(len(plan))[:count]
    done = {entry["position"] for entry in session.journal.of_kind("latency")}
    left = [int(position) for position in chosen if int(position) not in done]
    session.progress.stage("Latency", len(left))
    for number, position in enumerate(left):
        if number == 0:
            for running in session.alive:
                session.predict_one(running, position)
        turn = session.alive
        random.Random(derived_seed(seed, "turn", position)).shuffle(turn)
        times: dict[str, Any] = {}
        for running in turn:
            result = session.predict_one(running, position)
            if result is not None:
                times[running.key] = result[1].end_to_end_s
        session.journal.append({"kind": "latency", "position": position, "cells": times})
        session.progress.step(f"{len(turn)} methods")
