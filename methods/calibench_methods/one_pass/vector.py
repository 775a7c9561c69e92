"""One deterministic pass, then a sharpness and a bias for each class.

    p(y | x) = softmax(w * log softmax(f(x)) + b).

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017). The harness cross-fits the step on the
scored examples, or fits it on a calibration split; see `calibench.posthoc.vector`.
"""

from __future__ import annotations

from typing import ClassVar

from calibench_methods.one_pass.frequentist import Frequentist


class Vector(Frequentist):
    """`predict` returns the probabilities that the step is applied to."""

    posthoc: ClassVar[str | None] = "vector"
