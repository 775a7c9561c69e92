"""Blocks of the plan, run by every method in random order, until the reference has run long enough.

Blocks in which the machine stalled are timed once more in the end; see `calibench.measure.stalls`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from calibench.measure.clocks import Timed
from calibench.measure.running import Running
from calibench.measure.session import Session
from calibench.measure.stalls import AGAIN, place_of, to_time_again
from calibench.models.sharing import alone, sharing
from calibench.seeds import derived_seed
from calibench.store.journal import Outputs
from calibench.types import Predictive


def time_blocks(session: Session) -> None:
    """Run the blocks that the journal does not hold yet; the first repetition's outputs are those scored."""
    finished = _resume(session)
    timing, setting = session.setting.suite.timing, session.setting
    repetition = 0
    runs = max(timing.runs, session.replicates)
    while repetition < runs or _reference_seconds(session) < timing.min_time:
        order = list(range(len(setting.blocks)))
        draw = random.Random(derived_seed(setting.suite.seeds[0], "order", repetition))
        draw.shuffle(order)
        left = [block for block in order if (repetition, block) not in finished]
        session.progress.stage(f"Repetition {repetition + 1}", len(left) * len(_in_turn(session, repetition)))
        for block in left:
            _one_block(session, repetition, block, draw)
        if not session.alive:
            return
        repetition += 1
    _time_again(session)


def _resume(session: Session) -> set[tuple[int, int]]:
    """Take up what the journal holds: outputs, and failures; returns the finished (repetition, block)s."""
    finished = {place_of(entry): entry for entry in session.journal.of_kind("block")}
    for running in session.active:
        if outputs := stored_outputs(session, running).get(0):
            running.gave(next(iter(outputs.values())))  # those of other blocks hold the same
    for entry in [*finished.values(), *session.journal.of_kind(AGAIN)]:
        for running in session.active:
            if running.key in entry["failures"] and running.alive:
                running.method = None
                running.failure = entry["failures"][running.key]
    return set(finished)


def _time_again(session: Session) -> None:
    """Time the blocks once more in which the machine stalled; which ones, the journal says."""
    done = {place_of(entry) for entry in session.journal.of_kind(AGAIN)}
    left = [place for place in to_time_again(session.journal) if place not in done]
    if left:
        session.progress.stage("Stalled blocks again", sum(len(_in_turn(session, r)) for r, _ in left))
    for repetition, block in left:
        seed = derived_seed(session.setting.suite.seeds[0], "order again", repetition, block)
        entry, _ = _timed_block(session, repetition, block, random.Random(seed))
        session.journal.append({"kind": AGAIN} | entry)


def _one_block(session: Session, repetition: int, block: int, draw: random.Random) -> None:
    entry, outputs = _timed_block(session, repetition, block, draw)
    if _counts(session, repetition):
        session.journal.save_outputs(_part(repetition, block), outputs)
    session.journal.append({"kind": "block"} | entry)


def _timed_block(
    session: Session, repetition: int, block: int, draw: random.Random
) -> tuple[dict[str, Any], dict[str, Predictive]]:
    """Every method's times of a block, as the journal has them, and what each predicted."""
    setting = session.setting
    turn = _in_turn(session, repetition)
    draw.shuffle(turn)
    times: dict[str, Any] = {}
    outputs: dict[str, Predictive] = {}
    with sharing():
        made = False
        for running in turn:
            made = made or _make_shared_pass(session, running, block)
            result = _predict_in_turn(session, running, block, repetition)
            if result is not None:
                predictive, timed = result
                times[running.key] = asdict(timed)
                if not running.self_check:
                    outputs[running.key] = predictive
            session.progress.step(running.label)
    positions = np.concatenate(setting.blocks[block])
    entry = {
        "repetition": repetition,
        "block": block,
        "sentences": len(positions),
        "tokens": sum(len(setting.plan.token_ids[position]) for position in positions),
        "order": [running.key for running in turn],
        "cells": times,
        "failures": {r.key: r.failure for r in session.active if r.failure is not None},
    }
    return entry, outputs


def _make_shared_pass(session: Session, running: Running, block: int) -> bool:
    """Make the pass that methods share, before the first of them: its own work would slow it for all.

    Returns:
        Whether the cell's method reads such a pass.
    """
    setting, method = session.setting, running.method
    plan, groups = setting.plan, setting.blocks[block]

    def make() -> bool:
        encoder = None if method is None else method.encoder
        if encoder is None:
            return False
        for batch in setting.planner.assemble(plan.texts, plan.rows, groups).batches:
            encoder(batch)
        return True

    made, error = session.attempt(running.cell.name, make)
    if error is not None:  # each method then makes the pass for itself, and fails for itself
        session.progress.say(f"The pass that methods share failed: {error}")
    return error is not None or bool(made)


def _predict_in_turn(
    session: Session, running: Running, block: int, repetition: int
) -> tuple[Predictive, Timed] | None:
    """A method's prediction of a block, with passes that it shares unless others are compared with it."""
    own = running.cell.reference or running.self_check
    with alone() if own else nullcontext():
        return session.predict_block(running, block, repetition)


def _in_turn(session: Session, repetition: int) -> list[Running]:
    return [
        running
        for running in session.alive
        if running.cell.replicates is None or repetition < running.cell.replicates
    ]


def stored_outputs(session: Session, running: Running) -> dict[int, Mapping[int, Predictive]]:
    """By repetition and block, what a cell predicted in those that count: in the journal, not in memory."""
    parts: dict[int, dict[int, int | str]] = {}
    for entry in session.journal.of_kind("block"):
        repetition, block = place_of(entry)
        if _counts(session, repetition) and running.key in entry["cells"] and not running.self_check:
            parts.setdefault(repetition, {})[block] = _part(repetition, block)
    return {key: Outputs(session.journal, running.key, found) for key, found in parts.items()}


def _counts(session: Session, repetition: int) -> bool:
    """Whether its outputs are kept: those that are scored, and replicates."""
    return repetition == 0 or repetition < session.replicates


def _part(repetition: int, block: int) -> str:
    """What the journal calls the outputs of a block, and of its later repetitions."""
    return f"{block}-{repetition}" if repetition else str(block)


def _reference_seconds(session: Session) -> float:
    keys = [running.key for running in session.alive if running.cell.reference]
    if not keys:
        return float("inf")
    blocks = session.journal.of_kind("block")
    return float(
        sum(entry["cells"][keys[0]]["end_to_end_s"] for entry in blocks if keys[0] in entry["cells"])
    )
