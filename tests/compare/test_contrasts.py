"""Pairs of evaluations: what they share is one, and what is not about the same examples is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibench.compare.contrasts import contrasts
from calibench.compare.verdicts import Pair, compare_pairs, evaluations_of
from calibench.errors import CalibenchError
from calibench.metrics.scoring import NLL
from calibench.types import Evaluation, Metric
from simulated import simulated


def test_what_pairs_share_is_evaluated_once() -> None:
    """A reference of three pairs, one of which holds it against itself."""
    reference, other = simulated(1, 60), simulated(2, 60)
    new = Evaluation(other.probs, reference.labels)
    pairs = [Pair(name, reference, evaluation) for name, evaluation in (("a", new), ("b", reference))]
    pairs.append(Pair("c", new, reference))
    assert evaluations_of(pairs) == [reference, new]
    seen: list[Evaluation] = []

    def evaluate(evaluation: Evaluation) -> float:
        seen.append(evaluation)
        return NLL.evaluate(evaluation)

    counted: Metric = replace(NLL, evaluate=evaluate)
    rows = contrasts(pairs, [counted])
    assert seen == [reference, new]
    assert rows[0].base == rows[1].base == rows[1].value == rows[2].value


def test_other_labels_are_refused() -> None:
    """The same examples in another order are other examples."""
    reference = simulated(3, 60)
    with pytest.raises(CalibenchError, match="turned has other labels than the reference"):
        compare_pairs([Pair("turned", reference, reference.take(np.arange(60)[::-1]))], seed=1)


def test_of_nothing_there_are_no_contrasts() -> None:
    """Nor verdicts."""
    assert contrasts([], [NLL]) == []
    assert compare_pairs([], seed=1) == ()
