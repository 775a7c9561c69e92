"""One deterministic pass, then Dirichlet calibration: a full matrix on the log-probabilities.

    p(y | x) = softmax(W log softmax(f(x)) + b).

Kull et al., "Beyond Temperature Scaling" (NeurIPS 2019). The harness cross-fits the step on the scored
examples, or fits it on a calibration split; see `calibench.posthoc.dirichlet`.
"""

from __future__ import annotations

from typing import ClassVar

from calibench_methods.one_pass.frequentist import Frequentist


class Dirichlet(Frequentist):
    """`predict` returns the probabilities that the step is applied to."""

    posthoc: ClassVar[str | None] = "dirichlet"
