"""What errors that the sample does not hold may do to a paired difference.

On nearly perfect models a sample may hold no error at all, and then the sharper of two methods looks better
on every example, with next to no spread: Student's interval, the bootstrap and Hall's correction see only
what is there. How many errors there may be is bounded by Clopper and Pearson (1934), and what one would cost
is known, as the probabilities are. So the labels of random examples are turned to the class that comes
second, as many as the bound allows for beyond what the interval of a mean allows for already, and the
interval is widened by what that does to the difference. Taking errors to be as likely on confident answers as
on others errs on the side of caution: most models err where they are unsure.

From `ENOUGH` errors on, less than one more is left to allow for, and nothing is widened.
results/few-errors.md shows what this changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from calibench.stats.intervals import Ends, cautious_mean
from calibench.types import Evaluation, FloatArray, IntArray, Metric

#: Errors from which on a sample tells what errors cost.
ENOUGH = 30
#: Numbers of labels that are turned; between them the effect is interpolated.
TURNED = (1, 2, 4, 8, 16, 32)
#: Random choices of labels, whose effects are averaged.
DRAWS = 8


@dataclass(frozen=True, eq=False)
class Unseen:
    """What errors more would do to one difference.

    Attributes:
        errors: how many there are.
        n: examples.
        effect: float64 [len(TURNED)], what so many errors more add to the difference.
    """

    errors: int
    n: int
    effect: FloatArray

    def widened(self, ends: Ends, level: float) -> Ends:
        """The interval with room for the errors that may be missing at this level."""
        missing = unseen_errors(self.errors, self.n, level)
        within = [count for count in TURNED if count < missing]
        reached = np.interp([*within, missing], (0, *TURNED), (0.0, *self.effect))
        return ends[0] + min(0.0, float(reached.min())), ends[1] + max(0.0, float(reached.max()))


def unseen_errors(errors: int, n: int, level: float) -> float:
    """How many errors more a sample may stand for than the interval of a mean allows for.

    Args:
        errors: seen among n examples.
        level: two-sided.
    """
    tail = (1.0 - level) / 2.0
    most = n * (1.0 if errors >= n else float(special.betaincinv(errors + 1, n - errors, 1.0 - tail)))
    allowed = n * cautious_mean(np.full(3, float(errors)), n, level)[1]
    return max(0.0, most - allowed)


def errors_of(evaluation: Evaluation) -> int:
    """How many examples are not in the class that has the largest probability."""
    return int(np.count_nonzero(evaluation.probs.argmax(axis=1) != evaluation.labels))


def _turned(evaluation: Evaluation, rows: IntArray, second: IntArray) -> Evaluation:
    labels = evaluation.labels.copy()
    labels[rows] = second[rows]
    return Evaluation(evaluation.probs, labels)


def unseen(metric: Metric, reference: Evaluation, new: Evaluation) -> Unseen | None:
    """What errors more would do to `new` less `reference`; None where the sample holds enough of them.

    Args:
        reference, new: about the same N examples, all in scope.
    """
    errors, n = min(errors_of(reference), errors_of(new)), len(reference)
    if errors >= ENOUGH:
        return None
    right = np.flatnonzero(reference.probs.argmax(axis=1) == reference.labels)
    if reference.by_confidence:  # each gave an answer of its own: the errors there may be are those of both
        right = right[new.labels[right] == reference.labels[right]]
        second = np.ones(n, dtype=np.int64)
    else:
        second = np.argsort(-reference.probs, axis=1, kind="stable")[:, 1]
    seen = metric.evaluate(new) - metric.evaluate(reference)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(right) for _ in range(DRAWS)]
    effect = np.empty(len(TURNED))
    for position, count in enumerate(TURNED):
        found = []
        for order in orders:
            turned = [_turned(one, order[:count], second) for one in (new, reference)]
            found.append(metric.evaluate(turned[0]) - metric.evaluate(turned[1]))
        effect[position] = np.mean(found) - seen
    return Unseen(errors, n, effect)
