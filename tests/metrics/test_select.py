"""Which metrics are computed: those asked for, where there is something to compute them on."""

from __future__ import annotations

import pytest

from calibench.errors import UsageError
from calibench.metrics.select import select_metrics


def test_metrics_about_texts_out_of_scope_need_some() -> None:
    """Asked for by name they are refused where there are none; else left out."""
    with pytest.raises(UsageError, match="'oos_auroc' needs examples out of scope, which this data set does"):
        select_metrics(["oos_auroc"], posterior_known=False)
    assert not [m for m in select_metrics([], posterior_known=False) if m.needs_out_of_scope]
    found = select_metrics([], posterior_known=False, out_of_scope=True)
    assert [m.name for m in found if m.needs_out_of_scope] == ["oos_aupr", "oos_auroc", "oos_fpr95"]


def test_metrics_of_all_classes_need_classes() -> None:
    """Asked for by name they are refused where there are confidences alone; else left out."""
    with pytest.raises(UsageError, match="'nll' needs the probability of every class"):
        select_metrics(["nll"], posterior_known=False, classes_known=False)
    names = {metric.name for metric in select_metrics([], posterior_known=False, classes_known=False)}
    assert {"accuracy", "ece", "smooth_ece", "aurc", "brier_confidence", "calibration_ks_p"} <= names
    assert not {"nll", "brier", "ece_classwise", "sharpness", "brier_miscalibration"} & names
