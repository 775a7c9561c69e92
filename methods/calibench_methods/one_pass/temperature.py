"""One deterministic pass, its softmax sharpened or flattened by one temperature.

    p(y | x) = softmax(f(x) / T).

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017). The harness cross-fits the step on the
scored examples, or fits it on a calibration split; see `calibench.posthoc.temperature`.
"""

from __future__ import annotations

from typing import ClassVar

from calibench_methods.one_pass.frequentist import Frequentist


class Temperature(Frequentist):
    """`predict` returns the probabilities that the step is applied to."""

    posthoc: ClassVar[str | None] = "temperature"
