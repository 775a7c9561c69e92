"""Selective prediction: what is gained by leaving the least certain examples to someone else.

Every number comes from a score, higher where the model is less certain, and the errors of the predicted
class. Examples with equal scores are kept in every order equally often: the curve is the mean over orders, so
that it does not depend on the order of the data set.

A metric under its plain name goes by the score by which the method ranks texts: its own, or the largest
probability where it names none. By any other score the name of the score is part of the metric's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import local
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibench.errors import CalibenchError
from calibench.metrics.decomposition import entropy
from calibench.metrics.inputs import checked, remembered, top_label
from calibench.types import Evaluation, FloatArray, IntArray, Metric, Weighted

#: The score of a method that names none: one minus the largest probability.
MAX_PROBABILITY = "max_probability"
ENTROPY = "entropy"
#: Examples this far from a threshold, as a share of all, tell the error rate there.
NEAR = 0.02


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Errors among the k most certain of N examples, for k = 1 ... N.

    Attributes:
        coverage: float64 [N], k / N.
        errors: float64 [N], expected number of errors among the k.
        threshold: bool [N], whether a threshold on the score keeps exactly these k.
    """

    coverage: FloatArray
    errors: FloatArray
    threshold: NDArray[np.bool_]

    @property
    def risk(self) -> FloatArray:
        """Error rate among the k, float64 [N]."""
        return self.errors / np.arange(1.0, len(self.errors) + 1.0)


def own_score(evaluation: Evaluation) -> str:
    """The name of the score by which the method ranks texts."""
    return evaluation.score or MAX_PROBABILITY


def uncertainty(evaluation: Evaluation, score: str | None = None) -> FloatArray:
    """A score by name, float64 [N]: one of the method's, the largest probability or the entropy.

    Args:
        score: None for the one by which the method ranks texts.

    Raises:
        CalibenchError: where the method gives no such score, naming those there are, or one that is not N
            finite numbers.
    """
    score = score or own_score(evaluation)
    if score in evaluation.scores:
        values = evaluation.scores[score]
        if values.shape != (len(evaluation),) or not np.isfinite(values).all():
            raise CalibenchError(
                f"The score {score!r} has shape {values.shape}; expected {len(evaluation)} finite numbers, "
                "one for each example."
            )
        return values
    if score == MAX_PROBABILITY:
        return 1.0 - top_label(checked(evaluation))[0]
    if score == ENTROPY:
        return entropy(evaluation)
    known = ", ".join(sorted({MAX_PROBABILITY, ENTROPY, *evaluation.scores}))
    raise CalibenchError(f"The score {score!r} is not among those of this method; choose from {known}.")


def risk_coverage(uncertain: FloatArray, wrong: FloatArray) -> RiskCoverage:
    """The risk-coverage curve (El-Yaniv and Wiener 2010).

    Args:
        uncertain: float64 [N], higher means less certain.
        wrong: float64 [N], 1 for an error and 0 otherwise.
    """
    return Ranked(uncertain, wrong).curve


def aurc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """Mean over k of the error rate among the k most certain (Geifman et al. 2019)."""
    return _aurc(Ranked(uncertain, wrong))


def augrc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """Area under errors among the kept over all examples, against coverage (Traub et al. 2024).

    The trapezoid from coverage 0: exactly (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 for an accuracy a.
    """
    return _augrc(Ranked(uncertain, wrong))


def accuracy_at_coverage(uncertain: FloatArray, wrong: FloatArray, coverage: float = 0.8) -> float:
    """Accuracy on the most certain share `coverage` of the examples, a fraction of one among them."""
    return _accuracy_at_coverage(Ranked(uncertain, wrong), coverage)


def coverage_at_risk(uncertain: FloatArray, wrong: FloatArray, risk: float = 0.05) -> float:
    """Largest share of examples a threshold can keep with an error rate of `risk` at most; 0 if none."""
    return _coverage_at_risk(Ranked(uncertain, wrong), risk)


def error_auroc(uncertain: FloatArray, wrong: FloatArray) -> float:
    """P(an error scores higher than a right answer) + P(they tie) / 2; NaN without one of the two."""
    return _error_auroc(Ranked(uncertain, wrong))


def midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1 on, equals at the mean of theirs; float64 [N] both."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(sizes) - (sizes - 1.0) / 2.0)[place]
    return ranks


class Ranked:
    """Examples in the order of a score, sorted once for all that is read off it.

    Args:
        uncertain: float64 [N], higher means less certain.
        wrong: float64 [N], 1 for an error and 0 otherwise.
    """

    def __init__(self, uncertain: FloatArray, wrong: FloatArray) -> None:
        self._order = np.argsort(uncertain, kind="stable")
        ordered = uncertain[self._order]
        self._starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0.0)
        self._drawn = local()
        self.ordered_wrong = wrong[self._order]
        self.wrong = wrong
        self.n = len(wrong)

    @property
    def sizes(self) -> IntArray:
        """Examples of each group of equal scores, int64 [G]."""
        return np.diff(np.append(self._starts, self.n))

    @property
    def wrong_by_group(self) -> FloatArray:
        """Errors of each group, float64 [G]."""
        found: FloatArray = np.add.reduceat(self.ordered_wrong, self._starts)
        return found

    @cached_property
    def curve(self) -> RiskCoverage:
        """Errors among the k most certain."""
        kept = np.arange(1.0, self.n + 1.0)
        threshold = np.zeros(self.n, dtype=np.bool_)
        threshold[np.append(self._starts[1:], self.n) - 1] = True
        if len(self._starts) == self.n:
            errors = np.cumsum(self.ordered_wrong)
        else:
            ends = np.concatenate([[0], np.cumsum(self.sizes)])
            errors = np.interp(kept, ends, np.concatenate([[0.0], np.cumsum(self.wrong_by_group)]))
        return RiskCoverage(kept / self.n, errors, threshold)

    def drawn(self, counts: FloatArray) -> Drawn:
        """The groups of equal scores in resamples, which are given by counts, float64 [N, R].

        Metrics ask for the same ones after each other, on each thread for its own.
        """
        if getattr(self._drawn, "counts", None) is not counts:
            # Sums along the order are several times faster where it lies together.
            held = np.ascontiguousarray(counts[self._order].T)
            errors = held * self.ordered_wrong
            if len(self._starts) < self.n:
                held, errors = (np.add.reduceat(part, self._starts, axis=1) for part in (held, errors))
            self._drawn.counts, self._drawn.found = counts, Drawn(held, errors)
        found: Drawn = self._drawn.found
        return found

    def averaged(self, at_position: FloatArray) -> FloatArray:
        """Means over each example's group of what belongs to a place in the order, both float64 [N]."""
        if len(self._starts) < self.n:
            at_position = np.repeat(np.add.reduceat(at_position, self._starts) / self.sizes, self.sizes)
        back = np.empty(self.n)
        back[self._order] = at_position
        return back


@remembered
def ranked(evaluation: Evaluation, score: str) -> Ranked:
    """The examples by a named score; see `uncertainty`."""
    _, correct = top_label(checked(evaluation))
    return Ranked(uncertainty(evaluation, score), 1.0 - correct)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Groups of equal scores in R resamples, from the most certain on.

    Attributes:
        held, errors: float64 [R, G], how many examples each group holds and how many errors.
    """

    held: FloatArray
    errors: FloatArray

    @property
    def n(self) -> int:
        """Examples in each resample."""
        return int(self.held[0].sum())

    @cached_property
    def last(self) -> FloatArray:
        """Examples up to the end of each group, float64 [R, G]."""
        ends: FloatArray = np.cumsum(self.held, axis=1)
        return ends

    @cached_property
    def total(self) -> FloatArray:
        """Errors up to the end of each group, float64 [R, G]."""
        errors: FloatArray = np.cumsum(self.errors, axis=1)
        return errors

    @cached_property
    def kept(self) -> FloatArray:
        """Expected errors among the k most certain, added up over k, float64 [R]."""
        kept: FloatArray = np.einsum("rg,rg->r", self.held, self.total)
        kept -= np.einsum("rg,rg->r", self.errors, self.held - 1.0) / 2.0
        return kept


def _aurc(order: Ranked) -> float:
    return float(order.curve.risk.mean())


def _augrc(order: Ranked) -> float:
    errors = order.curve.errors
    return float((errors.sum() - errors[-1] / 2.0) / order.n**2)


def _accuracy_at_coverage(order: Ranked, coverage: float = 0.8) -> float:
    kept = coverage * order.n
    below = int(kept)
    errors = np.concatenate([[0.0], order.curve.errors])[below : below + 2]
    return float(1.0 - np.interp(kept - below, np.arange(len(errors)), errors) / kept)


def _coverage_at_risk(order: Ranked, risk: float = 0.05) -> float:
    allowed = order.curve.threshold & (order.curve.risk <= risk)
    return float(order.curve.coverage[allowed].max(initial=0.0))


def _error_auroc(order: Ranked) -> float:
    errors = order.ordered_wrong.sum()
    right = order.n - errors
    if not errors or not right:
        return float("nan")
    sizes = order.sizes
    middle_rank = np.cumsum(sizes) - (sizes - 1.0) / 2.0
    return float((middle_rank @ order.wrong_by_group - errors * (errors + 1.0) / 2.0) / (errors * right))


# Of the functions of `Drawn`: in a group of m equals after k examples with E errors, e of its own, the
# expected errors rise by e / m per example.


def _drawn_aurc(drawn: Drawn) -> FloatArray:
    # An error at the place p counts in the risks of p and all after it: H(n) - H(p - 1) in all. Summed over
    # the m places after k that is m H(n) - (g(k + m) - g(k)), with g(x) = x H(x) - x; groups without errors
    # add nothing.
    n = drawn.n
    places = np.arange(n + 1.0)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / places[1:])])
    summed = places * harmonic - places
    wrong = np.flatnonzero(drawn.errors.any(axis=0))
    held, errors, last = (part[:, wrong] for part in (drawn.held, drawn.errors, drawn.last))
    ends = last.astype(np.intp)
    risks = held * harmonic[-1] - (summed.take(ends) - summed.take(ends - held.astype(np.intp)))
    mean: FloatArray = np.einsum("rg,rg->r", errors / np.maximum(held, 1.0), risks) / n
    return mean


def _drawn_augrc(drawn: Drawn) -> FloatArray:
    return (drawn.kept - drawn.total[:, -1] / 2.0) / drawn.n**2


def _drawn_error_auroc(drawn: Drawn) -> FloatArray:
    # Right answers that are kept before errors are counted by what the errors kept leave.
    kept, errors, n = drawn.kept, drawn.total[:, -1], drawn.n
    right = n - errors
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = (kept - errors / 2.0 - errors**2 / 2.0) / (errors * right)
    found: FloatArray = np.where((errors > 0.0) & (right > 0.0), 1.0 - lost, np.nan)
    return found


def _drawn_accuracy(drawn: Drawn, coverage: float = 0.8) -> FloatArray:
    kept = coverage * drawn.n
    last, total = drawn.last, drawn.total
    group = (last < kept - 1e-9).sum(axis=1)
    at = np.arange(len(group)), group
    held, errors = drawn.held[at], drawn.errors[at]
    inside = total[at] - errors + errors * (kept - last[at] + held) / held
    share: FloatArray = 1.0 - inside / kept
    return share


@dataclass(frozen=True, eq=False)
class Places:
    """Every place in the order of a score, k = 1 ... N.

    Attributes:
        coverage: float64 [N], of the middle of each place.
        errors: float64 [N], expected errors up to there as a share of all examples.
    """

    coverage: FloatArray
    errors: FloatArray


# Of what each example adds (Hampel 1974): one with error e at the place u moves the errors kept by e above u
# and the coverage by 1 above u; the own errors count where the curve is read at its place.


def _aurc_influence(places: Places, e: FloatArray, mean: Callable[[FloatArray], FloatArray]) -> FloatArray:
    u, kept = places.coverage, places.errors
    above = np.cumsum((kept / u**2)[::-1])[::-1] / len(u)
    return mean(kept / u - above) - e * mean(np.log(u))


def _augrc_influence(places: Places, e: FloatArray, mean: Callable[[FloatArray], FloatArray]) -> FloatArray:
    return e * (1.0 - mean(places.coverage)) + mean(places.errors)


def _auroc_influence(places: Places, e: FloatArray, mean: Callable[[FloatArray], FloatArray]) -> FloatArray:
    # A mean over errors of the right answers before them, and over right answers of the errors after them.
    rate = float(e.mean())
    right = mean(places.coverage - places.errors) / (1.0 - rate)
    after = (rate - mean(places.errors)) / rate
    middle = float(right[e > 0.0].mean())
    values: FloatArray = np.where(e > 0.0, (right - middle) / rate, (after - middle) / (1.0 - rate))
    return values


def _accuracy_influence(
    places: Places, e: FloatArray, mean: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    # What moves the threshold trades in examples of the error rate near it.
    coverage = 0.8
    n = len(e)
    near = np.abs(places.coverage - coverage) <= max(NEAR, 2.0 / n)
    steps = np.diff(places.errors, prepend=0.0) * n
    local = float(steps[near].mean())
    inside = mean((places.coverage <= coverage).astype(np.float64))
    return -(e * inside + local * (coverage - inside)) / coverage


@dataclass(frozen=True)
class _Kind:
    name: str
    title: str
    better: Literal["lower", "higher"]
    compute: Callable[[Ranked], float]
    drawn: Callable[[Drawn], FloatArray] | None = None
    influence: Callable[[Places, FloatArray, Callable[[FloatArray], FloatArray]], FloatArray] | None = None
    no_interval: str | None = None


KINDS = (
    _Kind("aurc", "AURC", "lower", _aurc, _drawn_aurc, _aurc_influence),
    _Kind("augrc", "AUGRC", "lower", _augrc, _drawn_augrc, _augrc_influence),
    _Kind(
        "accuracy_at_80",
        "accuracy at 80% coverage",
        "higher",
        _accuracy_at_coverage,
        _drawn_accuracy,
        _accuracy_influence,
    ),
    _Kind(
        "coverage_at_5_risk",
        "coverage at 5% risk",
        "higher",
        _coverage_at_risk,
        no_interval="it jumps where the curve crosses 5% more than once: no bootstrap of it covers",
    ),
    _Kind("error_auroc", "AUROC of errors", "higher", _error_auroc, _drawn_error_auroc, _auroc_influence),
)


def selective_metric(kind: str, score: str | None = None) -> Metric:
    """One of `KINDS` by the score by which the method ranks texts, or by the one named, as `KIND.SCORE`."""
    chosen = next(item for item in KINDS if item.name == kind)

    def order_of(evaluation: Evaluation) -> Ranked:
        return ranked(evaluation, score or own_score(evaluation))

    def weighted(evaluation: Evaluation) -> Weighted:
        order = order_of(evaluation)
        assert chosen.drawn is not None
        assert chosen.influence is not None
        drawn, influence = chosen.drawn, chosen.influence

        def each() -> FloatArray:
            n = order.n
            errors = order.curve.errors
            middle = (errors - np.diff(errors, prepend=0.0) / 2.0) / n
            places = Places((np.arange(n) + 0.5) / n, middle)
            values: FloatArray = influence(places, order.wrong, order.averaged)
            return values - float(values.mean())

        return Weighted(lambda counts: drawn(order.drawn(counts)), each)

    return Metric(
        name=chosen.name if score is None else f"{chosen.name}.{score}",
        title=chosen.title if score is None else f"{chosen.title} ({score.replace('_', ' ')})",
        better=chosen.better,
        evaluate=lambda evaluation: chosen.compute(order_of(evaluation)),
        weighted=None if chosen.drawn is None else weighted,
        definition={"score": score, "ties": "mean over their orders"},
        no_interval=chosen.no_interval,
    )


def by_largest_probability(metric: Metric, evaluation: Evaluation) -> tuple[Metric, ...]:
    """A metric of `KINDS` by the largest probability, where the method ranks texts by another score."""
    if own_score(evaluation) == MAX_PROBABILITY or metric.name not in {kind.name for kind in KINDS}:
        return ()
    return (selective_metric(metric.name, MAX_PROBABILITY),)


AURC = selective_metric("aurc")
AUGRC = selective_metric("augrc")
ACCURACY_AT_80 = selective_metric("accuracy_at_80")
COVERAGE_AT_5_RISK = selective_metric("coverage_at_5_risk")
ERROR_AUROC = selective_metric("error_auroc")
