"""The metrics against BaaL, torchmetrics and scikit-learn, on inputs where those are right."""

from __future__ import annotations

import numpy as np
import pytest

from calibench.metrics.calibration import ECE, ECE_15, MCE
from calibench.metrics.scoring import ACCURACY, BRIER, NLL
from calibench.types import Evaluation, Metric
from simulated import simulated

torch = pytest.importorskip("torch")

pytestmark = [
    # baal imports structlog.threadlocal, which announces its own removal.
    pytest.mark.filterwarnings("ignore:`structlog.threadlocal` is deprecated:DeprecationWarning"),
]


def away_from_edges(evaluation: Evaluation, bins: int) -> Evaluation:
    """Float32 probabilities that no implementation can put into different bins or clip.

    BaaL scales confidences in float32, closes bins on the left and clips at .9999; torchmetrics closes them
    on the right and has an extra bin for 1.
    """
    probs = evaluation.probs.astype(np.float32).astype(np.float64)
    confidence = probs.max(axis=1)
    scaled = confidence * bins
    keep = (np.abs(scaled - np.round(scaled)) > 1e-4) & (confidence < 0.9999)
    return Evaluation(probs[keep], evaluation.labels[keep])


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bins", [10, 15])
def test_ece_is_baals(classes: int, bins: int) -> None:
    """On clean float32 probabilities the study's metric is BaaL's."""
    from baal.utils.metrics import ECE as BaalECE  # noqa: N811 - two metrics of one name

    evaluation = away_from_edges(simulated(11, 2000, classes, tilt=1.5), bins)
    peer = BaalECE(n_bins=bins)
    peer.update(torch.tensor(evaluation.probs, dtype=torch.float32), torch.tensor(evaluation.labels))
    ours = (ECE if bins == 10 else ECE_15).evaluate(evaluation)
    assert ours == pytest.approx(peer.value, abs=1e-6)


def test_ece_differs_from_baals_by_no_more_than_its_clip() -> None:
    """BaaL reads every confidence above .9999 as .9999, which moves its ECE by 1e-4 at the most."""
    from baal.utils.metrics import ECE as BaalECE  # noqa: N811 - two metrics of one name

    evaluation = simulated(12, 2000, sharpness=12.0)
    probs = evaluation.probs.astype(np.float32)
    peer = BaalECE(n_bins=10)
    peer.update(torch.tensor(probs), torch.tensor(evaluation.labels))
    ours = ECE.evaluate(Evaluation(probs.astype(np.float64), evaluation.labels))
    assert ours == pytest.approx(peer.value, abs=1e-4)
    assert ours != pytest.approx(peer.value, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("metric", "norm"), [(ECE_15, "l1"), (MCE, "max")])
def test_calibration_errors_are_those_of_torchmetrics(classes: int, metric: Metric, norm: str) -> None:
    """Away from bin edges and from confidence 1 the two conventions for edges agree."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    evaluation = away_from_edges(simulated(13, 2000, classes, tilt=1.5), 15)
    peer = multiclass_calibration_error(
        torch.tensor(evaluation.probs, dtype=torch.float32),
        torch.tensor(evaluation.labels),
        num_classes=classes,
        n_bins=15,
        norm=norm,
    )
    assert metric.evaluate(evaluation) == pytest.approx(float(peer), abs=2e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_scoring_rules_are_those_of_scikit_learn(classes: int) -> None:
    """Accuracy, log loss and the Brier score agree to rounding."""
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

    evaluation = simulated(14, 2000, classes, tilt=1.5)
    probs, labels, names = evaluation.probs, evaluation.labels, np.arange(classes)
    assert ACCURACY.evaluate(evaluation) == accuracy_score(labels, probs.argmax(axis=1))
    assert NLL.evaluate(evaluation) == pytest.approx(log_loss(labels, probs, labels=names))
    one_hot = np.eye(classes)[labels]
    assert BRIER.evaluate(evaluation) == pytest.approx(((probs - one_hot) ** 2).sum(axis=1).mean())
    if classes == 2:
        assert BRIER.evaluate(evaluation) == pytest.approx(2 * brier_score_loss(labels, probs[:, 1]))
