"""Snapshot ensemble: the mean softmax of checkpoints along one training run.

    p(y | x) = 1/M sum_m softmax(f(x; theta_m)), with theta_1 ... theta_M the last M checkpoints.

Huang et al., "Snapshot Ensembles: Train 1, Get M for Free" (ICLR 2017). The paper takes a checkpoint at the
end of each cycle of a cyclic learning rate, which `scripts/train_trajectory.py --schedule cyclic` does; of a
run with another schedule the checkpoints resemble each other more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.types import Plan, Predictive
from calibench_methods.ensembles.members import load_networks, mean_of_models
from calibench_methods.ensembles.trajectory import checkpoints_in


class Snapshot(Method):
    """One deterministic pass of each checkpoint; the seed has no effect.

    The run's own checkpoint counts only where it is among them. Successive checkpoints are no independent
    draws, so that there is no standard error.

    Args:
        checkpoint: whose labels, dtype and device the checkpoints are held to, and whose tokenizer stands in
            where a checkpoint was saved without one.
        folder: holds the checkpoints: every subfolder with a `config.json`, in the order of the last number
            in its name, such as checkpoint-500.
        last: how many of the last to use, at least 2; all where there are fewer, and `notes` say so.

    Raises:
        UsageError: `last` is below 2, no such folder, fewer than two checkpoints in it, a name without a
            step, or two with the same weights.
        RefusedError: a checkpoint has other labels or another tokenizer; on `predict`, a text is too long.
        CalibenchError: a checkpoint's files cannot be read.
    """

    portable: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint, *, folder: str, last: int = 5) -> None:
        super().__init__(checkpoint)
        names = self.members({"folder": folder, "last": last})
        self._networks = load_networks(names, checkpoint, tokenizer=checkpoint.tokenizer)
        self._notes = tuple(note for network in self._networks for note in network.notes)
        if len(names) < last:
            self._notes += (
                f"The folder holds {len(names)} checkpoints, and the last {last} were asked for.",
            )
        self.passes = len(self._networks)
        self.modules = tuple(network.module for network in self._networks)

    @classmethod
    def members(cls, params: Mapping[str, Any]) -> Sequence[str]:
        return checkpoints_in(params["folder"], at_least(2, "last", params["last"]))

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        for network in self._networks:
            network.check(plan)
        with torch.inference_mode():
            forwards = [network.logits for network in self._networks]
            return mean_of_models(plan, forwards, independent=False, notes=self._notes)
