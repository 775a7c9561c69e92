"""Which metrics are computed: those asked for, where there is something to compute them on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from calibench.errors import CalibenchError, UsageError
from calibench.metrics.select import left_out_metrics, select_metrics, third_parties, title_of
from calibench.types import Metric
from foreign_metrics import register


def test_metrics_about_texts_out_of_scope_need_some() -> None:
    """Asked for by name they are refused where there are none; else left out."""
    with pytest.raises(UsageError, match="'oos_auroc' needs examples out of scope, which this data set does"):
        select_metrics(["oos_auroc"], posterior_known=False)
    assert not [m for m in select_metrics([], posterior_known=False) if m.needs_out_of_scope]
    found = select_metrics([], posterior_known=False, out_of_scope=True)
    assert [m.name for m in found if m.needs_out_of_scope] == ["oos_aupr", "oos_auroc", "oos_fpr95"]


def half(**changes: Any) -> Metric:
    """A third party's metric, of which everything is a half."""
    return Metric(**{"name": "half", "title": "Half", "better": "lower", "evaluate": lambda _: 0.5} | changes)


def test_a_third_partys_metric_says_who_registers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its definition; calibench's own do not."""
    register(monkeypatch, half=half(definition={"of": 1}))
    (found,) = select_metrics(["half"], posterior_known=False)
    assert found.definition == {"of": 1, "distribution": "halves 1.0"}
    assert third_parties([]) == third_parties(["half", "nll"]) == {"half": "halves 1.0"}
    assert "distribution" not in select_metrics(["nll"], posterior_known=False)[0].definition
    assert left_out_metrics([]) == []


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (RuntimeError("no abacus"), r"failed to import \(RuntimeError: no abacus\); repair or uninstall"),
        (SystemExit(0), r"failed to import .*SystemExit\(0\)"),
        (0.5, "is a float; expected a calibench.Metric: repair or uninstall that package"),
        (half(name="nll"), "calls itself 'nll'; expected the name that it is registered by"),
        (half(definition={"of": object()}), "has a definition that a record cannot hold"),
    ],
    ids=["raises", "exits", "no metric", "another's name", "definition"],
)
def test_what_is_no_metric_is_refused_by_name_and_else_left_out(
    monkeypatch: pytest.MonkeyPatch, metric: Any, says: str
) -> None:
    """In one sentence that names it and its package; the others are there, and the listing too."""
    built_in = select_metrics([], posterior_known=False)
    register(monkeypatch, half=metric)
    with pytest.raises(CalibenchError, match=f"The metric 'half' from halves 1.0 {says}"):
        select_metrics(["half"], posterior_known=False)
    assert select_metrics([], posterior_known=False) == built_in
    (sentence,) = left_out_metrics([])
    assert re.search(says, sentence)
    assert left_out_metrics(["nll"]) == []
    assert re.search(says, title_of("half"))
    assert title_of("nll") == "NLL"


def test_metrics_of_all_classes_need_classes() -> None:
    """Asked for by name they are refused where there are confidences alone; else left out."""
    with pytest.raises(UsageError, match="'nll' needs the probability of every class"):
        select_metrics(["nll"], posterior_known=False, classes_known=False)
    names = {metric.name for metric in select_metrics([], posterior_known=False, classes_known=False)}
    assert {"accuracy", "ece", "smooth_ece", "aurc", "brier_confidence", "calibration_ks_p"} <= names
    assert not {"nll", "brier", "ece_classwise", "sharpness", "brier_miscalibration"} & names
