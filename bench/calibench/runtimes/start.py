"""A checkpoint on a runtime: made, started, and compared with PyTorch on the run's own texts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibench.data.hub import one_line
from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.engine import Answer, Engine, Made
from calibench.models.plan import Planner
from calibench.registry import RUNTIMES
from calibench.types import Batch, Plan

#: Batches on which a runtime is compared with PyTorch, from the shortest texts to the longest.
_BATCHES = 4


@dataclass(frozen=True)
class Facts:
    """What a record says of the runtime that ran it.

    Attributes:
        name: registered name.
        versions, threads, made_s, bytes, options: see `calibench.models.engine.Made`.
        start_s: seconds from what was made to the first answer, loading included.
        difference: the largest difference of a logit from PyTorch's, on `compared` of the scored texts.
        beside: the largest difference of a text's logits by itself from those in its batch, on the same
            texts; of PyTorch `beside_torch`.
    """

    name: str
    versions: Mapping[str, str]
    threads: int
    made_s: float | None
    start_s: float
    bytes: int | None
    options: Mapping[str, Any]
    compared: int
    difference: float
    beside: float
    beside_torch: float

    def note(self) -> str:
        """A sentence for the record."""
        exact = f"on {self.compared} texts its logits differ from PyTorch's by up to {self.difference:.2g}"
        if self.beside <= 10 * max(self.beside_torch, 1e-6):
            return f"Run by {self.name}: {exact}."
        return (
            f"Run by {self.name}: {exact}, and a text's by itself from those in its batch by up to "
            f"{self.beside:.2g}."
        )


def start(checkpoint: Checkpoint, name: str) -> tuple[Checkpoint, float]:
    """The checkpoint on the runtime `name`, and the seconds from what was made to the first answer.

    Raises:
        RefusedError: the runtime cannot run this model, or gives other logits than PyTorch on a short text.
        UsageError: no such runtime, or its packages are absent.
    """
    made: Made = RUNTIMES.load(name)(checkpoint)
    module = Engine(made, checkpoint.module.config)
    inputs = example_inputs(checkpoint)
    with torch.inference_mode():
        ours = checkpoint.module(**inputs).logits
        begin = time.perf_counter()
        theirs = _answer(module, inputs, name, checkpoint).logits
        took = made.load_s + time.perf_counter() - begin
        _check_logits(made, name, theirs, ours)
    return dataclasses.replace(checkpoint, module=module.eval(), runtime=name), took


def start_checked(
    checkpoint: Checkpoint, name: str, plan: Plan, planner: Planner
) -> tuple[Checkpoint, Facts]:
    """The same, compared with PyTorch on texts of the plan.

    Args:
        planner: by which the plan was made.

    Raises:
        RefusedError: the runtime cannot run this model, or gives other logits than PyTorch does and is not
            meant to.
        UsageError: no such runtime, or its packages are absent.
    """
    found, start_s = start(checkpoint, name)
    module = found.module
    assert isinstance(module, Engine)
    made = module.made
    difference = beside = beside_torch = 0.0
    compared = 0
    with torch.inference_mode():
        for batch, alone in _chosen(plan, planner):
            theirs = _answer(module, batch.inputs, name, checkpoint)
            ours = checkpoint.module(**batch.inputs)
            difference = max(difference, _check_logits(made, name, theirs.logits, ours.logits))
            by_itself = _answer(module, alone.inputs, name, checkpoint)
            beside = max(beside, _apart(theirs.logits[:1], by_itself.logits))
            by_itself_torch = checkpoint.module(**alone.inputs).logits
            beside_torch = max(beside_torch, _apart(ours.logits[:1], by_itself_torch))
            compared += len(batch.index)
            _check_head(made, theirs, name)
    facts = Facts(
        name=name,
        versions=made.versions,
        threads=made.threads,
        made_s=made.made_s,
        start_s=start_s,
        bytes=made.bytes,
        options=made.options,
        compared=compared,
        difference=difference,
        beside=beside,
        beside_torch=beside_torch,
    )
    return found, facts


def _chosen(plan: Plan, planner: Planner) -> Iterator[tuple[Batch, Batch]]:
    """Batches from those of the shortest texts to those of the longest, each with its first text alone."""
    ordered = sorted(plan.batches, key=lambda batch: next(iter(batch.inputs.values())).shape[1])
    places = np.unique(np.linspace(0, len(ordered) - 1, _BATCHES).round().astype(int))
    for place in places:
        batch = ordered[place]
        yield batch, planner.assemble(plan.texts, plan.rows, [batch.index[:1]]).batches[0]


def _answer(module: Engine, inputs: Mapping[str, Tensor], name: str, checkpoint: Checkpoint) -> Answer:
    """What the runtime says.

    Raises:
        RefusedError: a graph was made that cannot be run, or not on every text.
    """
    try:
        answer: Answer = module(**inputs)
    except Exception as error:  # whatever its library raises
        raise RefusedError(
            f"The runtime {name!r} cannot run {checkpoint.name} ({type(error).__name__}: "
            f"{one_line(error)[:200]}); use another runtime."
        ) from error
    return answer


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, or NaN where one of them is not finite."""
    return float((one.double() - other.double()).abs().max())


def _check_logits(made: Made, name: str, theirs: Tensor, ours: Tensor) -> float:
    """The largest difference of logits from PyTorch's.

    Raises:
        RefusedError: it is more than the runtime is meant to have.
    """
    found = _apart(theirs, ours)
    if made.tolerance is not None:
        allowed = made.tolerance * max(1.0, float(ours.abs().max()))
        if not found <= allowed:
            raise RefusedError(
                f"The runtime {name!r} gives other logits than PyTorch: they differ by {found:.2g}, and at "
                f"most {allowed:.2g} was expected; use another runtime for this checkpoint."
            )
    return found


def _check_head(made: Made, answer: Answer, name: str) -> None:
    """The features are those that the last layer makes the logits of.

    Raises:
        RefusedError: they are not, so that methods which read them would read something else.
    """
    if made.head is None:
        return
    assert answer.features is not None
    again = made.head.linear(answer.features)
    allowed = (1e-4 if answer.logits.dtype != torch.bfloat16 else 0.1) * max(1.0, float(again.abs().max()))
    if not _apart(again, answer.logits) <= allowed:
        raise RefusedError(
            f"The runtime {name!r} gives features from which the last layer does not make its logits; leave "
            "it out for this checkpoint."
        )
