"""What well-known packages read under the names that calibench uses -> docs/conventions.md.

Ten texts, two classes. Each row runs a package as its own documentation calls it, calibench on the same
input, and their convention written out in NumPy, which must give their number again: that is what differs.

    python scripts/conventions.py [--measure]

Without a flag the page is made again from results/conventions.json and needs none of the packages. With it,
the rows of those that can be imported are measured and the others kept as they were.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from calibench.errors import CalibenchError
from calibench.metrics.calibration import ECE, ECE_DEBIASED, MCE
from calibench.metrics.detection import OOS_AUROC, OOS_FPR95
from calibench.metrics.scoring import BRIER, NLL
from calibench.metrics.selective import AUGRC, AURC
from calibench.metrics.smooth import SMOOTH_ECE
from calibench.posthoc.base import log_of
from calibench.posthoc.conformal import quantile
from calibench.posthoc.temperature import Temperature
from calibench.types import Evaluation, FloatArray, IntArray, Metric

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "results" / "conventions.json"
PAGE = ROOT / "docs" / "conventions.md"

#: The input: P(class 1) and labels of ten texts, which of them are out of scope where that is asked, and a
#: score that is higher for what is out of scope, such as an energy.
SECOND = np.array([1.0, 1.0, 0.95, 0.95, 0.95, 0.85, 0.85, 0.75, 0.22, 0.05])
LABELS = np.array([1, 0, 1, 1, 1, 0, 1, 0, 0, 0])
BEYOND = np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 0], dtype=np.bool_)
ENERGY = np.array([20.0, 18.0, 19.0, 21.0, 22.0, 25.0, 27.0, 30.0, 26.0, 24.0])

Value = float | list[float] | str


@dataclass(frozen=True)
class Row:
    """One name in one package.

    Attributes:
        key: of the record.
        name: what both call it.
        package: the distribution.
        call: their call, as one would write it.
        theirs: their number, or what they say instead of one.
        ours: calibench's.
        again: their number from their convention, without the package; None where they give none.
        why: one sentence.
        how: how to get from the one to the other.
    """

    key: str
    name: str
    package: str
    call: str
    theirs: Callable[[], Value]
    ours: Callable[[], Value]
    again: Callable[[], Value] | None
    why: str
    how: str


def probs() -> FloatArray:
    """The ten distributions, float64 [10, 2]."""
    return np.stack([1.0 - SECOND, SECOND], axis=1)


def finite() -> FloatArray:
    """The same with .99 for 1, so that logits are finite."""
    second = np.minimum(SECOND, 0.99)
    return np.stack([1.0 - second, second], axis=1)


def top() -> tuple[FloatArray, FloatArray]:
    """Confidence in the predicted class, and whether it is the label."""
    return probs().max(axis=1), (probs().argmax(axis=1) == LABELS).astype(np.float64)


def ours(metric: Metric) -> Callable[[], Value]:
    """A metric of calibench on the input."""
    return lambda: metric.evaluate(Evaluation(probs(), LABELS))


def beyond(metric: Metric) -> Callable[[], Value]:
    """The same, of what is out of scope, by the energy."""
    labels = np.where(BEYOND, -1, LABELS)
    return lambda: metric.evaluate(Evaluation(probs(), labels, None, {"energy": ENERGY}, score="energy"))


def refusal(call: Callable[[], object]) -> str:
    """What a call says when it refuses, which it must."""
    try:
        call()
    except (ValueError, CalibenchError) as error:
        return " ".join(str(error).split())
    raise SystemExit("A package that refused now answers: its row has to be written anew.")


def gaps(confidence: FloatArray, came: FloatArray, place: IntArray) -> tuple[FloatArray, FloatArray]:
    """For each bin that holds a text, how far mean confidence and mean outcome lie apart, and its share."""
    bins = [place == bin_ for bin_ in np.unique(place)]
    apart = [abs(float((confidence - came)[held].mean())) for held in bins]
    return np.array(apart), np.array([float(held.mean()) for held in bins])


def binned(confidence: FloatArray, came: FloatArray, place: IntArray) -> float:
    """The expected calibration error of any bins."""
    apart, share = gaps(confidence, came, place)
    return float(apart @ share)


def extra(confidence: FloatArray, bins: int = 10) -> IntArray:
    """Left-closed bins of equal width, and one more for confidence 1."""
    return np.floor(confidence * bins + 1e-9).astype(np.int64)


# The packages. Each function imports what it runs.


def torchmetrics_ece() -> Value:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    read = multiclass_calibration_error(torch.tensor(probs()), torch.tensor(LABELS), num_classes=2, n_bins=10)
    return float(read)


def torchmetrics_binary_ece() -> Value:
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    return float(binary_calibration_error(torch.tensor(SECOND), torch.tensor(LABELS), n_bins=10))


def torchmetrics_mce() -> Value:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    read = multiclass_calibration_error(
        torch.tensor(probs()), torch.tensor(LABELS), num_classes=2, n_bins=15, norm="max"
    )
    return float(read)


def torchmetrics_auroc() -> Value:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    return float(binary_auroc(torch.tensor(ENERGY, dtype=torch.float32), torch.tensor(BEYOND.astype(int))))


def auroc(scores: FloatArray) -> float:
    """P(a text out of scope scores higher) + P(tie) / 2."""
    ranks = stats.rankdata(scores)[BEYOND]
    m, n = len(ranks), len(scores) - len(ranks)
    return float((ranks.sum() - m * (m + 1) / 2) / (m * n))


def baal_ece(given: FloatArray) -> Value:
    import torch
    from baal.utils.metrics import ECE as BaalECE  # noqa: N811 - two metrics of one name

    metric = BaalECE(n_bins=10)
    metric.update(torch.tensor(given), torch.tensor(LABELS))
    return float(metric.value)


def softmax_of(given: FloatArray) -> FloatArray:
    weights = np.exp(given)
    return weights / weights.sum(axis=1, keepdims=True)


def baal_again(given: FloatArray) -> float:
    confidence = np.minimum(given.max(axis=1), 0.9999)
    return binned(confidence, (given.argmax(axis=1) == LABELS) * 1.0, extra(confidence))


def torch_uncertainty(name: str) -> Value:
    """With the rows as they are, and from the last to the first."""
    import torch
    from torch_uncertainty.metrics import classification

    read = []
    for order in (np.arange(10), np.arange(10)[::-1]):
        metric = getattr(classification, name)()
        metric.update(torch.tensor(probs()[order]), torch.tensor(LABELS[order]))
        read.append(float(metric.compute()))
    return read


def areas(*, generalised: bool) -> list[float]:
    """The trapezoid over coverages 1 / N to 1, over their length, ties in the order of the rows."""
    confidence, right = top()
    read = []
    for order in (np.arange(10), np.arange(10)[::-1]):
        ranked = order[np.argsort(-confidence[order], kind="stable")]
        errors, kept = np.cumsum(1.0 - right[ranked]), np.arange(1.0, 11.0)
        risk = errors / 10.0 if generalised else errors / kept
        read.append(float(np.trapezoid(risk, kept / 10.0) / (1.0 - 1.0 / 10.0)))
    return read


def torch_uncertainty_fpr95(positive: int) -> Value:
    import torch
    from torch_uncertainty.metrics.classification import FPR95

    metric = FPR95(pos_label=positive)
    scores = ENERGY if positive else -ENERGY
    metric.update(torch.tensor(scores), torch.tensor(BEYOND.astype(np.int64)))
    return float(metric.compute())


def fpr95_in_scope() -> float:
    """The share of texts out of scope that are taken for in scope where 95% of those in scope are kept."""
    scores = -ENERGY
    threshold = np.sort(scores[~BEYOND])[::-1][int(np.ceil(0.95 * (~BEYOND).sum())) - 1]
    return float((scores[BEYOND] >= threshold).mean())


def nonconformity() -> FloatArray:
    """1 - p(label), float64 [10]."""
    return 1.0 - probs()[np.arange(10), LABELS]


def torch_uncertainty_threshold() -> Value:
    import torch
    from torch_uncertainty.post_processing import ConformalClsTHR

    method = ConformalClsTHR(alpha=0.2, model=torch.nn.Identity(), enable_ts=False)
    with np.errstate(divide="ignore"):
        logits = torch.tensor(np.log(probs()))
    method.fit([(logits, torch.tensor(LABELS))])
    return float(method.q_hat)


def sklearn_log_loss(dtype: str) -> Value:
    from sklearn.metrics import log_loss

    return float(log_loss(LABELS, probs().astype(dtype)))


def log_loss_again(dtype: str) -> float:
    given = probs().astype(dtype)
    floor = np.finfo(dtype).eps
    return float(-np.log(np.clip(given, floor, 1 - floor)[np.arange(10), LABELS]).mean(dtype=np.float64))


def sklearn_brier() -> Value:
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(LABELS, SECOND))


def sklearn_temperature() -> Value:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Logit(ClassifierMixin, BaseEstimator):
        """Its one feature is the log-odds."""

        def fit(self, *_: Any) -> Logit:
            self.classes_ = np.array([0, 1])
            return self

        def decision_function(self, features: FloatArray) -> FloatArray:
            return features[:, 0]

        def predict(self, features: FloatArray) -> IntArray:
            return (features[:, 0] > 0).astype(np.int64)

    features = log_odds()[:, None]
    fitted = FrozenEstimator(Logit().fit(features, LABELS))
    scaled = CalibratedClassifierCV(fitted, method="temperature").fit(features, LABELS)
    return float(1.0 / scaled.calibrated_classifiers_[0].calibrators[0].beta_)


def log_odds() -> FloatArray:
    return np.log(finite()[:, 1]) - np.log(finite()[:, 0])


def temperature() -> float:
    calibrator = Temperature()
    calibrator.fit(log_of(finite()), LABELS)
    return calibrator.temperature


def best_multiplier(logits: FloatArray) -> float:
    """What the log-odds are multiplied by where the log loss is least."""

    def loss(log_factor: float) -> float:
        signed = np.where(LABELS == 1, logits, -logits) * np.exp(log_factor)
        return float(np.logaddexp(0.0, -signed).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-5, 5), options={"xatol": 1e-10}).x))


def netcal_temperature() -> Value:
    from netcal.scaling import TemperatureScaling

    method = TemperatureScaling()
    method.fit(finite(), LABELS)
    return float(np.ravel(method.temperature)[0])


def netcal_ece() -> Value:
    from netcal.metrics import ECE as NetcalECE  # noqa: N811 - two metrics of one name

    return float(NetcalECE(10).measure(probs(), LABELS))


def uncertainty_calibration() -> Value:
    import calibration

    return float(calibration.get_calibration_error(probs(), LABELS, mode="top-label"))


def kumar_again() -> float:
    """Bins of equal values; the unbiased square of each, the root of what is not negative."""
    confidence, right = top()
    total = 0.0
    for value in np.unique(confidence):
        held = confidence == value
        if (n := int(held.sum())) > 1:
            mean = right[held].mean()
            total += n / 10.0 * ((value - mean) ** 2 - mean * (1 - mean) / (n - 1))
    return float(np.sqrt(max(total, 0.0)))


def relplot_smece() -> Value:
    import relplot

    confidence, right = top()
    return float(relplot.smECE(confidence, right))


class Given:
    """A fitted classifier whose features are its probabilities."""

    classes_ = np.array([0, 1])
    n_features_in_ = 2

    def fit(self, *_: Any) -> Given:
        return self

    def predict(self, features: FloatArray) -> IntArray:
        return features.argmax(axis=1)

    def predict_proba(self, features: FloatArray) -> FloatArray:
        return features

    def __sklearn_is_fitted__(self) -> bool:
        return True


def mapie(level: float) -> Any:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    made = type("Given", (Given, ClassifierMixin, BaseEstimator), {})()
    method = SplitConformalClassifier(made, confidence_level=level, conformity_score="lac", prefit=True)
    _, sets = method.conformalize(probs(), LABELS).predict_set(probs())
    return sets[:, :, 0]


def crepes(level: float) -> Any:
    from crepes import ConformalClassifier

    method = ConformalClassifier()
    method.fit(nonconformity())
    return method.predict_set(1.0 - probs(), confidence=level, smoothing=False).astype(np.bool_)


def puncc(level: float) -> Any:
    from deel.puncc.api.prediction import BasePredictor
    from deel.puncc.classification import LAC

    class Predictor(BasePredictor):
        def predict(self, X: FloatArray, **_: Any) -> FloatArray:
            return X

    method = LAC(Predictor(Given(), is_trained=True), train=False)
    method.fit(X_calib=probs(), y_calib=LABELS)
    sets = method.predict(probs(), alpha=1.0 - level)[1]
    return np.array([[label in found for label in (0, 1)] for found in sets])


def mean_size(sets: Any) -> float:
    return float(np.asarray(sets).sum(axis=1).mean())


def our_size(level: float) -> float:
    return mean_size(1.0 - probs() <= quantile(nonconformity(), level))


ROWS = (
    Row(
        "torchmetrics-ece",
        "ECE, 10 bins",
        "torchmetrics",
        "multiclass_calibration_error(probs, labels, num_classes=2, n_bins=10)",
        torchmetrics_ece,
        ours(ECE),
        lambda: binned(*top(), extra(top()[0])),
        "A confidence of exactly 1 has a bin of its own, the eleventh, so that it no longer offsets the "
        "rest of "
        "the last one.",
        "Lower what is exactly 1 a little, to .999999 in float32: both then agree.",
    ),
    Row(
        "torchmetrics-binary-ece",
        "ECE, 10 bins, of P(class 1)",
        "torchmetrics",
        "binary_calibration_error(probs[:, 1], labels, n_bins=10)",
        torchmetrics_binary_ece,
        ours(ECE),
        lambda: binned(SECOND, LABELS.astype(np.float64), extra(SECOND)),
        "It bins P(class 1) and compares it with the share of class 1, where the predicted class is ours: "
        "another metric, with the eleventh bin besides.",
        "Call `multiclass_calibration_error` with both columns.",
    ),
    Row(
        "torchmetrics-mce",
        "maximum calibration error, 15 bins",
        "torchmetrics",
        "multiclass_calibration_error(probs, labels, num_classes=2, n_bins=15, norm='max')",
        torchmetrics_mce,
        ours(MCE),
        lambda: float(gaps(*top(), extra(top()[0], 15))[0].max()),
        "The extra bin for 1 holds few texts, and the maximum is often in it.",
        "As for ECE: lower what is exactly 1.",
    ),
    Row(
        "torchmetrics-auroc",
        "AUROC of a score",
        "torchmetrics",
        "binary_auroc(energy, out_of_scope)",
        torchmetrics_auroc,
        beyond(OOS_AUROC),
        lambda: auroc((1.0 / (1.0 + np.exp(-ENERGY.astype(np.float32)))).astype(np.float32)),
        "Scores outside [0, 1] are taken for logits and pass through a sigmoid, silently: in float32 all "
        "above "
        "17 become 1, and are tied.",
        "Give it ranks divided by their number, or the scores in float64 if none is beyond 36.",
    ),
    Row(
        "baal-ece",
        "ECE, 10 bins",
        "baal",
        "ECE(n_bins=10)",
        lambda: baal_ece(probs()),
        ours(ECE),
        lambda: baal_again(probs()),
        "Confidences above .9999 are read as .9999, which moves ECE by 1e-4 at the most.",
        "Nothing to do; the bins are the same.",
    ),
    Row(
        "baal-ece-99",
        "ECE of rows that sum to .99",
        "baal",
        "ECE(n_bins=10), with .99 * probs",
        lambda: baal_ece(0.99 * probs()),
        lambda: refusal(lambda: ECE.evaluate(Evaluation(0.99 * probs(), LABELS))),
        lambda: baal_again(softmax_of(0.99 * probs())),
        "If one row does not sum to 1 within 1e-5, all are taken for logits: a softmax of probabilities, in "
        "which no confidence of two classes is above .731.",
        "Divide the rows by their sums, if that is what they mean; calibench refuses them.",
    ),
    Row(
        "torch-uncertainty-aurc",
        "AURC",
        "torch-uncertainty",
        "AURC(), the rows as they are; in reverse",
        lambda: torch_uncertainty("AURC"),
        ours(AURC),
        lambda: areas(generalised=False),
        "Equal confidences are ranked in the order of the rows, so that shuffling changes the number; and "
        "it is "
        "a trapezoid from coverage 1/N, where ours is the mean over k, and over all orders of what is tied.",
        "Without ties, (N - 1) / N times theirs is our mean less half of the first and last risk over N.",
    ),
    Row(
        "torch-uncertainty-augrc",
        "AUGRC",
        "torch-uncertainty",
        "AUGRC(), the rows as they are; in reverse",
        lambda: torch_uncertainty("AUGRC"),
        ours(AUGRC),
        lambda: areas(generalised=True),
        "The same: ties in the order of the rows, and coverages from 1/N instead of 0.",
        "Without ties, (N - 1) / N times theirs, plus half of the first text's error over N squared, is "
        "ours.",
    ),
    Row(
        "torch-uncertainty-fpr95",
        "FPR at 95% TPR, out of scope is positive",
        "torch-uncertainty",
        "FPR95(pos_label=1), the energy as score",
        lambda: torch_uncertainty_fpr95(1),
        beyond(OOS_FPR95),
        beyond(OOS_FPR95),
        "The same: in its classification routine, as here, texts out of scope are the positive ones.",
        "Nothing to do.",
    ),
    Row(
        "torch-uncertainty-fpr95-in-scope",
        "FPR at 95% TPR, in scope is positive",
        "torch-uncertainty",
        "FPR95(pos_label=0), minus the energy as score",
        lambda: torch_uncertainty_fpr95(0),
        beyond(OOS_FPR95),
        fpr95_in_scope,
        "With texts in scope as the positive ones, as in ODIN (Liang et al. 2018), it is another "
        "number: the share of texts out of scope that pass where 95% of those in scope do.",
        "Ask which class is positive before comparing; neither follows from the other.",
    ),
    Row(
        "torch-uncertainty-threshold",
        "threshold of prediction sets (LAC), level .8",
        "torch-uncertainty",
        "ConformalClsTHR(alpha=.2, enable_ts=False).q_hat",
        torch_uncertainty_threshold,
        lambda: quantile(nonconformity(), 0.8),
        lambda: float(np.quantile(nonconformity(), 0.8)),
        "It is the interpolated .8 quantile of n scores, where the promise takes the ceil((n + 1) .8)-th: "
        "too "
        "low, most of all for small n. Its sets also hold the first class always, and by default the "
        "probabilities are temperature scaled on the same texts.",
        "With k = ceil((n + 1) level), alpha = 1 - (k - 1) / (n - 1) gives our threshold.",
    ),
    Row(
        "sklearn-log-loss",
        "NLL",
        "scikit-learn",
        "log_loss(labels, probs), in float64; in float32",
        lambda: [sklearn_log_loss("float64"), sklearn_log_loss("float32")],
        ours(NLL),
        lambda: [log_loss_again("float64"), log_loss_again("float32")],
        "Probabilities are clipped at the machine precision of their dtype: a label that was given 0 "
        "costs 36.0 "
        "or 15.9, where here it costs 708.4, the logarithm of the smallest normal float64.",
        "Without a probability below 2.2e-16 (1.2e-7 in float32) both agree.",
    ),
    Row(
        "sklearn-brier",
        "Brier score",
        "scikit-learn",
        "brier_score_loss(labels, probs[:, 1])",
        sklearn_brier,
        ours(BRIER),
        lambda: float(((SECOND - LABELS) ** 2).mean()),
        "For two classes it counts one of the two squares; ours is the sum over classes, from 0 to 2.",
        "Twice theirs is ours; for more classes both sum.",
    ),
    Row(
        "sklearn-temperature",
        "temperature",
        "scikit-learn",
        "CalibratedClassifierCV(..., method='temperature'), 1 / beta_, of a decision_function",
        sklearn_temperature,
        temperature,
        lambda: 1.0 / best_multiplier(2.0 * log_odds()),
        "Log-odds x of two classes become the two columns -x and x, which are 2x apart. The probabilities "
        "that come out are the same.",
        "Half of theirs is ours. From `predict_proba` it takes logarithms, and then it is ours as it stands.",
    ),
    Row(
        "netcal-temperature",
        "temperature",
        "netcal",
        "TemperatureScaling().temperature",
        netcal_temperature,
        temperature,
        lambda: best_multiplier(log_odds()),
        "What it calls temperature is the factor of the logits, the inverse.",
        "1 over theirs is ours.",
    ),
    Row(
        "netcal-ece",
        "ECE, 10 bins",
        "netcal",
        "ECE(10).measure(probs, labels)",
        netcal_ece,
        ours(ECE),
        lambda: binned(SECOND, LABELS.astype(np.float64), np.ceil(SECOND * 10 - 1e-9).astype(np.int64)),
        "With two classes it reads P(class 1) against the share of class 1, also where both columns are "
        "given.",
        "Give it confidence in the predicted class, and whether that is right, as one column and 0 or 1.",
    ),
    Row(
        "uncertainty-calibration",
        "debiased calibration error",
        "uncertainty-calibration",
        "get_calibration_error(probs, labels, mode='top-label')",
        uncertainty_calibration,
        ours(ECE_DEBIASED),
        kumar_again,
        "It is the root of the debiased square, and 0 where that is negative; ours stays squared and "
        "signed, or "
        "its mean over samples would not be the truth. Their bins hold equally many texts, or one value each "
        "where few values occur, as here.",
        "Squared, theirs is near ours where ours is well above 0.",
    ),
    Row(
        "relplot",
        "SmoothECE",
        "relplot",
        "smECE(confidence, right)",
        relplot_smece,
        ours(SMOOTH_ECE),
        None,
        "Its first and last grid points lie on 0 and 1, and what is there counts half.",
        "Away from 0 and 1 both agree; lower confidences of exactly 1 to .999.",
    ),
    Row(
        "mapie",
        "mean size of prediction sets (LAC), level .95 from 10 texts",
        "mapie",
        "SplitConformalClassifier(confidence_level=.95, conformity_score='lac')",
        lambda: refusal(lambda: mapie(0.95)),
        lambda: our_size(0.95),
        None,
        "Fewer than 1 / (1 - level) texts are refused, here 20. With 18 or fewer only the set of all "
        "classes keeps "
        "the promise, which is what calibench gives; 19 are enough for a threshold.",
        "At level .8 its sets are ours.",
    ),
    Row(
        "crepes",
        "mean size of prediction sets (LAC), level .95 from 10 texts",
        "crepes",
        "ConformalClassifier().predict_set(scores, confidence=.95, smoothing=False)",
        lambda: mean_size(crepes(0.95)),
        lambda: our_size(0.95),
        lambda: mean_size(1.0 - probs() <= np.inf),
        "The same: no p-value of 10 texts is below 1/11, so that all classes are in. Its default, smoothing, "
        "draws at random what counts as equal, and its sets may then be smaller.",
        "Pass `smoothing=False`.",
    ),
    Row(
        "puncc",
        "mean size of prediction sets (LAC), level .95 from 10 texts",
        "puncc",
        "LAC(...).predict(probs, alpha=.05)",
        lambda: refusal(lambda: puncc(0.95)),
        lambda: our_size(0.95),
        None,
        "An alpha below 1 / (n + 1) is refused, where calibench gives the set of all classes.",
        "At level .8 its sets are ours.",
    ),
)


def measured(row: Row) -> dict[str, Any] | None:
    """What a row of the record holds, None where the package cannot be imported."""
    try:
        version = metadata.version(row.package)
        theirs = row.theirs()
    except (ImportError, metadata.PackageNotFoundError):
        return None
    return {"version": version, "theirs": theirs, "ours": row.ours()}


def measure(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the rows of every package that can be imported."""
    found = {}
    for row in ROWS:
        fresh = measured(row)
        print(f"{row.key}: {'kept as it was' if fresh is None else fresh}", flush=True)
        found[row.key] = fresh or record[row.key]
    return found


def shown(value: Value) -> str:
    """A number to four decimals; several, divided by semicolons; a refusal in words."""
    if isinstance(value, str):
        return "refused"
    if isinstance(value, Sequence):
        return "; ".join(map(shown, value))
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4g}"


def page(record: dict[str, Any]) -> str:
    """The document."""
    head = """# Same name, other number

What well-known packages compute under the names that calibench uses, on one small input. Find the name,
then the package: the row says why the numbers differ and how to get from the one to the other. Everything
was run, with the versions given; `python scripts/conventions.py --measure` runs it again and makes this
page from [results/conventions.json](../results/conventions.json).

The input is ten texts and two classes. Where a row needs them, "out of scope" says which texts belong to no
class, and the energy is a score that is higher for those. Temperatures are fitted with .99 for 1, so that
logits are finite.
"""
    rows = "\n".join(
        f"| {name} | " + " | ".join(map(str, values)) + " |"
        for name, values in (
            ("P(class 1)", [f"{p:g}" for p in SECOND]),
            ("label", LABELS),
            ("out of scope", ["yes" if b else "" for b in BEYOND]),
            ("energy", [f"{e:g}" for e in ENERGY]),
        )
    )
    lines = [head, "| text | " + " | ".join(map(str, range(1, 11))) + " |", "|---|" + "---:|" * 10, rows, ""]
    lines += ["| name | package | reads | calibench reads | reason |", "|---|---|---:|---:|---|"]
    for row in ROWS:
        found = record[row.key]
        theirs, mine = shown(found["theirs"]), shown(found["ours"])
        package = f"{row.package} {found['version']}"
        lines.append(f"| {row.name} | {package} | {theirs} | {mine} | [why](#{row.key}) |")
    for row in ROWS:
        found = record[row.key]
        lines += ["", f"## {row.key}", "", f"{row.name}: `{row.call}`, {row.package} {found['version']}."]
        said = [f"calibench says: `{found['ours']}`"] if isinstance(found["ours"], str) else []
        said += [f"It says: `{found['theirs']}`"] if isinstance(found["theirs"], str) else []
        for text in (f"{row.why} {row.how}", *said):
            lines += ["", textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, if asked to, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="run the packages that can be imported")
    given = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if given.measure:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what others announce is not asked for here
            record = measure(record)
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
