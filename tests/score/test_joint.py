"""The view over all classes and out of scope: the threshold, what it gives, and whole runs with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import oos_data
from calibench.errors import UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.registry import METHODS
from calibench.run import run
from calibench.score.joint import choose_threshold, joint_fields
from calibench.stats.intervals import wilson
from calibench.store.predictions import load_predictions
from calibench.store.records import Record, load_records
from calibench.types import Evaluation, Plan, Predictive
from simulated import softmax


def mixed(seed: int, n: int, levels: int | None = None) -> Evaluation:
    rng = np.random.default_rng(seed)
    probs = softmax(2.0 * rng.normal(size=(n, 3)))
    if levels is not None:
        top = np.round(levels * probs[:, :1]) / levels
        probs = np.concatenate([top, (1.0 - top) / 2.0, (1.0 - top) / 2.0], axis=1)
    return Evaluation(probs, rng.integers(-1, 3, size=n))


def joint_accuracy(evaluation: Evaluation, threshold: float) -> float:
    """By its definition, text by text."""
    right = 0
    for probs, label in zip(evaluation.probs, evaluation.labels, strict=True):
        answer = -1 if probs.max() < threshold else int(probs.argmax())
        right += answer == label
    return right / len(evaluation)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([None, 4]))
def test_no_threshold_has_more_right_answers(seed: int, n: int, levels: int | None) -> None:
    """Over every distinct one, ties among the probabilities included."""
    evaluation = mixed(seed, n, levels)
    best = max(
        joint_accuracy(evaluation, threshold)
        for threshold in [*(evaluation.probs.max(axis=1) + 1e-12), *(evaluation.probs.max(axis=1)), 0.0, 1.1]
    )
    # A threshold above 1 would take a certain text for out of scope, which none of ours does.
    certain = evaluation.probs.max(axis=1) >= 1.0 - 1e-12
    found = joint_accuracy(evaluation, choose_threshold(evaluation))
    assert found <= best
    if not certain.any():
        assert found == best


def test_the_middle_of_the_widest_stretch() -> None:
    """Of thresholds with as many right answers, the one furthest from texts."""
    top = np.array([0.4, 0.5, 0.8])
    probs = np.stack([top, 0.6 * (1 - top), 0.4 * (1 - top)], axis=1)
    assert choose_threshold(Evaluation(probs, np.array([-1, -1, 0]))) == pytest.approx(0.65)
    assert choose_threshold(Evaluation(probs, np.array([0, 0, 0]))) == pytest.approx(0.2)
    assert choose_threshold(Evaluation(probs, np.array([-1, -1, -1]))) == pytest.approx(0.9)


def test_shares_with_their_intervals() -> None:
    """Accuracy over all texts, recall over those out of scope, Wilson's intervals."""
    chosen_on, scored = mixed(1, 200), mixed(2, 300)
    fields = joint_fields(chosen_on, "dev", scored)
    assert fields["threshold"] == choose_threshold(chosen_on)
    assert (fields["split"], fields["examples"]) == ("dev", 200)
    assert fields["out_of_scope"] == (chosen_on.labels < 0).sum()
    for name, part in (
        ("accuracy", scored),
        ("oos_recall", scored.take(np.flatnonzero(scored.labels < 0))),
        ("in_scope_accuracy", scored.in_scope()),
    ):
        value = joint_accuracy(part, fields["threshold"])
        assert fields[name]["value"] == pytest.approx(value)
        low, high = wilson(round(value * len(part)), len(part), 0.95)
        assert (fields[name]["low"], fields[name]["high"]) == pytest.approx((low, high))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_score_of_the_method_s_own_is_thresholded(seed: int) -> None:
    """A monotone function of the largest probability gives its answers; above is out of scope."""
    chosen_on, scored = (
        Evaluation(e.probs, e.labels, None, {"s": -np.exp(3.0 * e.probs.max(axis=1))}, "s")
        for e in (mixed(seed, 200), mixed(seed + 10, 300))
    )
    fields = joint_fields(chosen_on, "dev", chosen_on)
    plain = joint_fields(replace(chosen_on, score=None), "dev", replace(chosen_on, score=None))
    assert (fields["score"], plain["score"]) == ("s", "max_probability")
    for name in ("accuracy", "oos_recall", "in_scope_accuracy"):
        assert fields[name] == plain[name]
    assert chosen_on.scores["s"].min() < fields["threshold"] < chosen_on.scores["s"].max()
    taken = scored.scores["s"] > fields["threshold"]
    answers = np.where(taken, -1, scored.probs.argmax(axis=1))
    found = joint_fields(chosen_on, "dev", scored)["accuracy"]["value"]
    assert found == pytest.approx((answers == scored.labels).mean())


def test_a_threshold_may_lie_beyond_every_score() -> None:
    """Where all are in scope, or none is."""
    probs, score = np.array([[0.9, 0.1]] * 3), np.array([1.0, 2.0, 4.0])
    for labels, expected in ((np.zeros(3, dtype=int), 4.5), (np.full(3, -1), 0.5)):
        assert choose_threshold(Evaluation(probs, labels, None, {"s": score}, "s")) == expected


# --- whole runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oos_data.write(tmp_path_factory.mktemp("data") / "beyond")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """Two methods, one with a post-hoc step of its own, each with and without one added."""
    folder = tmp_path_factory.mktemp("run")
    suite = oos_data.suite(data, "frequentist", "mc-dropout", "temperature")
    return folder, run(replace(suite, posthoc=("temperature",)), folder)


def test_every_row_has_the_joint_view(finished: tuple[Path, list[Record]]) -> None:
    """Each with a threshold of its own; the accuracy is that of the stored predictions."""
    folder, records = finished
    assert len(records) == 5
    for record in records:
        joint = record["joint"]
        # 130 texts, one of which is scored too.
        assert (joint["split"], joint["examples"], joint["out_of_scope"]) == ("validation", 129, 40)
        stored = load_predictions(folder, record)
        again = joint_accuracy(Evaluation(stored.probs, stored.label), joint["threshold"])
        assert joint["accuracy"]["value"] == pytest.approx(again)
        assert 0.0 <= joint["oos_recall"]["low"] <= joint["oos_recall"]["high"] <= 1.0
        assert record["metrics"]["oos_auroc"]["value"] > 0.5
    plain, calibrated, own = records[0], records[1], records[4]
    assert plain["joint"]["threshold"] != calibrated["joint"]["threshold"]
    assert calibrated["joint"] == own["joint"]
    assert load_records(folder) == records


def test_a_score_alone_ranks_and_has_no_post_hoc_row(data: Path, tmp_path: Path) -> None:
    """Its probabilities are the reference's, detection, threshold and selection are by its score."""
    suite = oos_data.suite(data, "frequentist", "energy")
    records = run(replace(suite, posthoc=("temperature",)), tmp_path)
    assert [(r["method"]["name"], r["method"]["posthoc"]) for r in records] == [
        ("frequentist", None),
        ("frequentist", "temperature"),
        ("energy", None),
    ]
    plain, energy = records[0]["metrics"], records[2]["metrics"]
    stored = load_predictions(tmp_path, records[2])
    expected = roc_auc_score(stored.label < 0, stored.scores["energy"])
    assert energy["oos_auroc"]["value"] == pytest.approx(expected)
    assert energy["oos_auroc"]["definition"]["score"] == energy["aurc"]["definition"]["score"] == "energy"
    for name in ("oos_auroc", "aurc"):
        assert energy[f"{name}.max_probability"]["value"] == pytest.approx(plain[name]["value"])
    assert energy["nll"]["value"] == pytest.approx(plain["nll"]["value"])
    joint = records[2]["joint"]
    assert joint["score"] == "energy"
    answers = np.where(stored.scores["energy"] > joint["threshold"], -1, stored.probs.argmax(axis=1))
    assert joint["accuracy"]["value"] == pytest.approx((answers == stored.label).mean())


def test_it_is_not_timed(finished: tuple[Path, list[Record]]) -> None:
    """Timing blocks hold the scored sentences only."""
    for record in finished[1]:
        assert sum(block["sentences"] for block in record["timing"]["blocks"]) == record["data"]["n"] == 130


def test_what_is_finished_stays(data: Path, finished: tuple[Path, list[Record]], tmp_path: Path) -> None:
    """The same command changes nothing; one that newly asks for a threshold measures again."""
    suite = oos_data.suite(data, "frequentist")
    without = replace(suite, data=replace(suite.data, threshold_split=None))
    (first,) = run(without, tmp_path)
    assert first["joint"] is None
    (second,) = run(suite, tmp_path)
    assert second["cell"] == first["cell"]
    assert second["joint"]["accuracy"]["value"] == finished[1][0]["joint"]["accuracy"]["value"]
    assert run(suite, tmp_path) == [second] == run(without, tmp_path)


class Fussy(Method):
    """Predicts anything but what lies in a second data set."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        if len(plan) > 100:
            raise RuntimeError("too much of a good thing")
        return Predictive(np.full((len(plan), 2), 0.5), np.ones(len(plan), dtype=np.int64))


def test_failing_there_costs_the_joint_view_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record says why, and has all the rest."""
    load, point = METHODS.load, METHODS.entry_point
    monkeypatch.setattr(METHODS, "load", lambda name: Fussy if name == "fussy" else load(name))
    monkeypatch.setattr(
        METHODS, "entry_point", lambda name: point("frequentist" if name == "fussy" else name)
    )
    fussy = run(oos_data.suite(data, "fussy"), tmp_path)[1]
    assert fussy["status"] == "ok"
    assert fussy["joint"] == {"reason": "it failed on threshold on validation: too much of a good thing"}
    assert fussy["metrics"]["oos_auroc"]["value"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold_split": "test"}, "The threshold split 'test' is the one that is scored; name another"),
        ({"threshold_split": "dev"}, "no split 'dev'"),
    ],
)
def test_unfit_splits_are_refused(data: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """In one sentence, before anything is measured."""
    suite = oos_data.suite(data, "frequentist")
    with pytest.raises(UsageError, match=message):
        run(replace(suite, data=replace(suite.data, **changes)), tmp_path)


def test_a_threshold_takes_texts_of_both_kinds(tmp_path: Path) -> None:
    """A split without texts out of scope is refused."""
    data = oos_data.write(tmp_path / "data")
    lines = (data / "validation.jsonl").read_text().splitlines(keepends=True)
    (data / "validation.jsonl").write_text("".join(line for line in lines if "beyond" not in line))
    with pytest.raises(
        UsageError, match="'validation' holds no example out of scope; a threshold needs both"
    ):
        run(oos_data.suite(data, "frequentist"), tmp_path / "run")
