"""Prediction sets over another method: classes that hold the label with a stated probability.

    C(x) = {y : s(x, y) <= q}, with q the ceil((n + 1) level)-th smallest s(x_i, y_i) of n labelled examples.

Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005). The score s is one of LAC, APS
and RAPS; see `calibench.posthoc.conformal`. The harness finds q on the scored examples, for each fold by the
others, or on a calibration split, and counts the time of making the sets as the method's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from calibench.errors import UsageError
from calibench.method import Method, bind
from calibench.models.checkpoint import Checkpoint
from calibench.posthoc.conformal import Recipe
from calibench.registry import METHODS
from calibench.suites.spec import TORCH
from calibench.types import Plan, Predictive


class Conformal(Method):
    """The probabilities of `over`, to which the harness adds the sets.

    Args:
        checkpoint: the model.
        over: a registered method, with its default parameters.
        kind, level, class_conditional, raps_lambda, raps_k_reg: see `calibench.posthoc.conformal.Recipe`.

    Raises:
        UsageError: a parameter out of range, or no method that sets can be made over.
        RefusedError: the method below does not apply.
    """

    makes_sets: ClassVar[bool] = True
    portable: ClassVar[bool] = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        over: str = "frequentist",
        kind: str = "lac",
        level: float = 0.9,
        class_conditional: bool = False,
        raps_lambda: float = Recipe.raps_lambda,
        raps_k_reg: int = Recipe.raps_k_reg,
    ) -> None:
        super().__init__(checkpoint)
        self.conformal = Recipe(kind, level, class_conditional, raps_lambda, raps_k_reg)
        factory: type[Method] = METHODS.load(over)
        if factory.makes_sets:
            raise UsageError(
                f"over is {over!r}, which makes sets itself; expected a method of probabilities."
            )
        if factory.posthoc is not None:
            raise UsageError(
                f"over is {over!r}, whose post-hoc step the harness adds; run -m conformal with --posthoc "
                f"{factory.posthoc} instead."
            )
        if checkpoint.runtime != TORCH and not factory.portable:
            raise UsageError(
                f"over is {over!r}, which asks for more of a model than its forward pass and cannot run on "
                f"{checkpoint.runtime}; leave the runtime out."
            )
        if factory.needs_train:
            raise UsageError(
                f"over is {over!r}, which learns from training data; run it with --conformal {kind} instead, "
                "which gives every method sets."
            )
        self._over = factory(checkpoint, **bind(over, factory, {}))
        self.modules = self._over.modules
        self.passes = self._over.passes
        self.coverage = self._over.coverage
        self.encoder = self._over.encoder
        self.tokenises = self._over.tokenises

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        # The sets are of all passes together: what fewer would do is a matter of the method below.
        return replace(self._over.predict(plan, seed=seed), samples=None)
