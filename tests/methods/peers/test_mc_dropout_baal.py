"""BaaL's patch: which sites it reaches."""

from __future__ import annotations

import pytest

from calibench_methods.peers.mc_dropout_baal import baal_coverage
from tiny_models import tiny_checkpoint


@pytest.mark.parametrize(
    ("architecture", "layers", "expected", "baal"), [("distilbert", 6, 14, 8), ("bert", 12, 38, 26)]
)
def test_baal_misses_attention(architecture: str, layers: int, expected: int, baal: int) -> None:
    """BaaL's patch reaches 8 of the 14 sites of a 6-layer DistilBERT and 26 of the 38 of a 12-layer BERT."""
    checkpoint = tiny_checkpoint(architecture, num_hidden_layers=layers)
    coverage = baal_coverage(checkpoint)
    assert (coverage.active, coverage.expected) == (baal, expected)
    assert {site.kind for site in coverage.sites if not site.active} == {"attention"}
