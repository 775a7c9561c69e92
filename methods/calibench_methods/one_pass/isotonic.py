"""One deterministic pass, then isotonic regression of its probability; for two classes.

    p(1 | x) = g(softmax(f(x))(1)), with g a rising step function.

Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates" (KDD
2002). The harness cross-fits the step on the scored examples, or fits it on a calibration split; see
`calibench.posthoc.isotonic`.
"""

from __future__ import annotations

from typing import ClassVar

from calibench_methods.one_pass.frequentist import Frequentist


class Isotonic(Frequentist):
    """`predict` returns the probabilities that the step is applied to."""

    posthoc: ClassVar[str | None] = "isotonic"
