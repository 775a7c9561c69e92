"""Deep ensemble: the mean softmax of checkpoints that were trained independently of each other.

    p(y | x) = 1/M sum_m softmax(f_m(x)), with f_1 ... f_M trained from different seeds.

Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles" (NeurIPS 2017), without its adversarial training. The paper's disagreement, the summed divergence
of the members from their mean, is M times the score `mutual_information`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.types import Plan, Predictive
from calibench_methods.ensembles.members import load_networks, mean_of_models


class DeepEnsemble(Method):
    """One deterministic pass of each member; the seed has no effect.

    The members are those listed and no others. The run's own checkpoint counts only where it is listed, and
    is then recognised by its weights and shared, not loaded again. The others are loaded in the run's dtype,
    on its device and with its attention; a member may have another architecture, and its classes another
    order.

    The standard error takes the members for independent draws of the training procedure, which checkpoints of
    one training run are not: see `snapshot`.

    Args:
        checkpoint: whose tokenizer, labels, dtype and device the members are held to.
        members: two or more checkpoints, each a hub id or a folder.
        size: how many of them, from the first; 0 for all.

    Raises:
        UsageError: fewer than two members or than `size`, no such checkpoint, or two with the same weights.
        RefusedError: a member has other labels or another tokenizer; on `predict`, a text is too long for it.
        CalibenchError: a member's files cannot be read.
    """

    portable: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint, *, members: tuple[str, ...], size: int = 0) -> None:
        super().__init__(checkpoint)
        names = self.members({"members": members, "size": size})
        if len(names) < 2:
            raise UsageError(
                f"An ensemble of {len(names)} was asked for; list two or more members, the run's own "
                "checkpoint among them if it is to count: -a deep-ensemble.members=A,B."
            )
        self._networks = load_networks(names, checkpoint)
        self.passes = len(self._networks)
        self.modules = tuple(network.module for network in self._networks)

    @classmethod
    def members(cls, params: Mapping[str, Any]) -> Sequence[str]:
        given, size = [name for name in params["members"] if name], at_least(0, "size", params["size"])
        if size > len(given):
            raise UsageError(f"size is {size}, and {len(given)} members are given; list more, or lower size.")
        return given[:size] if size else given

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        for network in self._networks:
            network.check(plan)
        notes = tuple(note for network in self._networks for note in network.notes)
        with torch.inference_mode():
            forwards = [network.logits for network in self._networks]
            return mean_of_models(plan, forwards, independent=True, notes=notes)
