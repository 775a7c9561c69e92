"""What the study that calibench grew out of published, to be drawn beside our own measurements.

DistilBERT fine-tuned on SST-2, GLUE validation (872 sentences), softmax against MC-Dropout through BaaL's
`patch_module`: the abstract gives ECE .0802 -> .063 and accuracy .910 -> .903 at 20 passes, the figure gives
ECE over the number of passes, read off to three decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calibench.report.sections import Section

_MODEL = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
_EXAMPLES = 872


@dataclass(frozen=True)
class Published:
    """One metric as published: the softmax baseline, and (passes, value) pairs for MC-Dropout."""

    softmax: float
    dropout: tuple[tuple[int, float], ...]


STUDY: Mapping[str, Published] = {
    "ece": Published(0.0802, ((1, 0.080), (20, 0.062), (80, 0.058))),
    "accuracy": Published(0.910, ((20, 0.903),)),
}


def published(section: Section, metric: str) -> Published | None:
    """The study's values, where the section's model and examples are the study's; else None."""
    model, data = section.common("model"), section.common("data")
    same = model.get("name") == _MODEL and data.get("n") == _EXAMPLES and data.get("split") == "validation"
    return STUDY.get(metric) if same else None
