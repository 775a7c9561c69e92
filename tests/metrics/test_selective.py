"""Selective prediction: known curves, ties, and scikit-learn and torch-uncertainty as peers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from calibench.errors import CalibenchError
from calibench.metrics import selective
from calibench.metrics.inputs import top_label
from calibench.metrics.scoring import ACCURACY
from calibench.score.quality import metric_values
from calibench.types import Evaluation, FloatArray, Metric
from simulated import simulated

WEIGHTED = (selective.AURC, selective.AUGRC, selective.ACCURACY_AT_80, selective.ERROR_AUROC)


def outcome(seed: int, n: int, distinct: int | None = None) -> tuple[FloatArray, FloatArray]:
    """A score, rounded to few distinct values if asked, and errors."""
    evaluation = simulated(seed, n, 3)
    uncertain = selective.uncertainty(evaluation)
    wrong = 1.0 - top_label(evaluation)[1]
    return (uncertain if distinct is None else np.round(uncertain * distinct) / distinct), wrong


def test_a_known_curve() -> None:
    """Right, wrong, right, wrong in the order of certainty."""
    uncertain, wrong = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 1.0, 0.0, 1.0])
    curve = selective.risk_coverage(uncertain, wrong)
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0.0, 1 / 2, 1 / 3, 1 / 2])
    assert selective.aurc(uncertain, wrong) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert selective.augrc(uncertain, wrong) == pytest.approx((0 + 1 + 1 + 2 - 1) / 16)
    assert selective.accuracy_at_coverage(uncertain, wrong, 0.75) == pytest.approx(2 / 3)
    assert selective.accuracy_at_coverage(uncertain, wrong, 0.375) == pytest.approx(1 - 0.5 / 1.5)
    assert selective.coverage_at_risk(uncertain, wrong, 0.4) == 0.75
    assert selective.coverage_at_risk(uncertain, wrong, 0.0) == 0.25
    assert selective.error_auroc(uncertain, wrong) == pytest.approx(3 / 4)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), distinct=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_ties_are_averaged_over_their_orders(seed: int, n: int, distinct: int) -> None:
    """No order of the data set changes a number, and a useless score keeps the error rate everywhere."""
    uncertain, wrong = outcome(seed, n, distinct)
    order = np.random.default_rng(seed).permutation(n)
    for kind in selective.KINDS:
        assert kind.compute(selective.Ranked(uncertain[order], wrong[order])) == pytest.approx(
            kind.compute(selective.Ranked(uncertain, wrong)), abs=1e-12, nan_ok=True
        )
    flat = selective.risk_coverage(np.zeros(n), wrong)
    assert flat.risk == pytest.approx(np.full(n, wrong.mean()))
    assert flat.threshold.tolist() == [False] * (n - 1) + [True]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 80), distinct=st.sampled_from([None, 4]))
@settings(max_examples=60, deadline=None)
def test_augrc_is_a_function_of_auroc_and_accuracy(seed: int, n: int, distinct: int | None) -> None:
    """Traub et al. (2024), equation 8, ties included."""
    uncertain, wrong = outcome(seed, n, distinct)
    accuracy = 1.0 - wrong.mean()
    auroc = selective.error_auroc(uncertain, wrong)
    expected = 0.5 * (1 - accuracy) ** 2
    if not np.isnan(auroc):
        expected += (1 - auroc) * accuracy * (1 - accuracy)
    assert selective.augrc(uncertain, wrong) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distinct", [None, 5])
def test_error_auroc_is_that_of_scikit_learn(distinct: int | None) -> None:
    """With and without ties."""
    from sklearn.metrics import roc_auc_score

    uncertain, wrong = outcome(1, 500, distinct)
    assert selective.error_auroc(uncertain, wrong) == pytest.approx(roc_auc_score(wrong, uncertain))


def test_areas_are_those_of_torch_uncertainty() -> None:
    """Its areas are trapezoids over [1 / N, 1], normalised by their length."""
    peer = pytest.importorskip("torch_uncertainty.metrics.classification")
    torch = pytest.importorskip("torch")
    evaluation = simulated(1, 500, 3)
    uncertain, wrong = selective.uncertainty(evaluation), 1.0 - top_label(evaluation)[1]
    curve = selective.risk_coverage(uncertain, wrong)
    ours = {
        "AURC": trapezoid(curve.risk, curve.coverage) / (1 - 1 / 500),
        "AUGRC": trapezoid(curve.errors / 500, curve.coverage) / (1 - 1 / 500),
        "CovAt5Risk": selective.coverage_at_risk(uncertain, wrong),
        "RiskAt80Cov": 1.0 - selective.accuracy_at_coverage(uncertain, wrong),
    }
    for name, value in ours.items():
        metric = getattr(peer, name)()
        metric.update(torch.tensor(evaluation.probs), torch.tensor(evaluation.labels))
        assert value == pytest.approx(float(metric.compute()), abs=1e-5)


def test_an_oracle_score_is_the_best_there_is() -> None:
    """Scoring errors above right answers, no score has a smaller area or a larger AUROC."""
    uncertain, wrong = outcome(2, 300)
    assert selective.error_auroc(wrong, wrong) == 1.0
    assert selective.aurc(wrong, wrong) < selective.aurc(uncertain, wrong)
    assert selective.augrc(wrong, wrong) == pytest.approx(0.5 * wrong.mean() ** 2)


def test_without_errors_there_is_nothing_to_tell_apart() -> None:
    """AUROC is undefined and says so with NaN; every threshold keeps risk 0."""
    uncertain, none = np.arange(5.0), np.zeros(5)
    assert np.isnan(selective.error_auroc(uncertain, none))
    assert selective.coverage_at_risk(uncertain, none) == 1.0
    assert selective.aurc(uncertain, none) == 0.0


def test_a_method_s_own_score_is_used_by_name() -> None:
    """Named scores come first; the default is the largest probability, and unknown names list the choices."""
    base = simulated(3, 200)
    wrong = 1.0 - top_label(base)[1]
    evaluation = Evaluation(base.probs, base.labels, None, {"mutual_information": wrong})
    assert selective.selective_metric("error_auroc", "mutual_information").evaluate(evaluation) == 1.0
    assert selective.ERROR_AUROC.evaluate(evaluation) < 1.0
    with pytest.raises(CalibenchError, match="entropy, max_probability, mutual_information"):
        selective.uncertainty(evaluation, "variance")
    broken = Evaluation(base.probs, base.labels, None, {"variance": np.full(200, np.nan)})
    with pytest.raises(CalibenchError, match="200 finite numbers"):
        selective.uncertainty(broken, "variance")


def test_entropy_orders_two_classes_as_the_largest_probability_does() -> None:
    """For two classes both are monotone in each other, so every selective number agrees."""
    evaluation = simulated(4, 300)
    for kind in selective.KINDS:
        by_entropy = selective.selective_metric(kind.name, selective.ENTROPY).evaluate(evaluation)
        assert by_entropy == pytest.approx(selective.selective_metric(kind.name).evaluate(evaluation))


def test_plain_names_go_by_the_score_of_the_method() -> None:
    """A score that knows every error ranks perfectly; without one the largest probability ranks."""
    base = simulated(5, 300, 3)
    wrong = 1.0 - top_label(base)[1]
    knowing = Evaluation(base.probs, base.labels, None, {"oracle": wrong}, "oracle")
    assert selective.ERROR_AUROC.evaluate(knowing) == 1.0
    assert selective.AUGRC.evaluate(knowing) == pytest.approx(0.5 * wrong.mean() ** 2)
    for kind in selective.KINDS:
        plain = selective.selective_metric(kind.name)
        assert plain.name == kind.name
        (other,) = selective.by_largest_probability(plain, knowing)
        assert other.name == f"{kind.name}.max_probability"
        assert other.evaluate(knowing) == plain.evaluate(base)
        assert selective.by_largest_probability(plain, base) == ()
    half = np.arange(0, 300, 2)
    assert selective.AURC.evaluate(knowing.take(half)) == selective.aurc(wrong[half], wrong[half])


def test_a_record_says_which_score_it_went_by() -> None:
    """The definition names it, and the largest probability stays beside it."""
    base = simulated(6, 200, 3)
    wrong = 1.0 - top_label(base)[1]
    knowing = Evaluation(base.probs, base.labels, None, {"oracle": wrong}, "oracle")
    values = metric_values([selective.ERROR_AUROC, ACCURACY], knowing, seed=0)
    assert list(values) == ["error_auroc", "error_auroc.max_probability", "accuracy"]
    assert [values[name]["definition"]["score"] for name in list(values)[:2]] == ["oracle", "max_probability"]
    plain = metric_values([selective.ERROR_AUROC], base, seed=0)
    assert plain["error_auroc"] == values["error_auroc.max_probability"]


@pytest.mark.parametrize("metric", WEIGHTED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("distinct", [None, 5])
def test_resamples_by_counts_are_resamples(metric: Metric, distinct: int | None) -> None:
    """How often each example was drawn gives what evaluating the drawn ones gives, with ties and without."""
    uncertain, wrong = outcome(31, 70, distinct)
    confidence = 1.0 - uncertain
    probs = np.stack([confidence, 1.0 - confidence], axis=1)
    probs = np.where(probs.argmax(axis=1)[:, None] == 0, probs, probs[:, ::-1])
    sample = Evaluation(probs, wrong.astype(np.int64), None, {"own": uncertain}, "own")
    drawn = np.random.default_rng(1).integers(0, 70, size=(20, 70))
    counts = np.stack([np.bincount(row, minlength=70) for row in drawn], axis=1).astype(np.float64)
    expected = [metric.evaluate(sample.take(row)) for row in drawn]
    assert metric.weighted is not None
    np.testing.assert_allclose(metric.weighted(sample).resampled(counts), expected, atol=1e-12)


@pytest.mark.parametrize("metric", WEIGHTED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("distinct", [None, 12])
def test_influence_is_the_derivative_in_an_examples_weight(metric: Metric, distinct: int | None) -> None:
    """Its spread over the root of n is the bootstrap's, within 6%: 3,000 examples, 2,000 resamples (1.6%)."""
    uncertain, wrong = outcome(32, 3000, distinct)
    n = len(wrong)
    sample = Evaluation(
        simulated(32, 3000, 3).probs, simulated(32, 3000, 3).labels, None, {"own": uncertain}, "own"
    )
    assert metric.weighted is not None
    form = metric.weighted(sample)
    drawn = np.random.default_rng(2).multinomial(n, np.full(n, 1.0 / n), size=2000).T.astype(np.float64)
    spread = form.resampled(drawn).std()
    influence = form.influence()
    assert influence.mean() == pytest.approx(0.0, abs=1e-9)
    assert influence.std() / np.sqrt(n) == pytest.approx(spread, rel=0.06)
