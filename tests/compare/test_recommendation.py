"""The recommendation says what the paired evidence shows, and nothing on noise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import report_example as example
from calibench.compare.open_questions import open_questions
from calibench.compare.recommendation import Candidate, Decision, decide
from calibench.report import sections, write_html, write_report
from calibench.report.parts.equal_quality import baseline, matched_table, matches
from calibench.report.parts.headline import headline, judge
from calibench.report.parts.recommendation import _needed, recommendation
from calibench.report.points import points, tradeoff
from calibench.store.records import load_records, write_records
from calibench.types import Evaluation, FloatArray

Spec = example.Spec
REFERENCE = Spec("frequentist", 1.9, 1.0, passes=1)
#: The reference with its logits divided by 1.9.
TEMPERATURE = Spec("temperature", 1.0, 1.004, passes=1, noise=1.5 / 1.9, like="frequentist")
#: As good, and dear.
DEAR = Spec("dear", 1.0, 20.0, noise=1.5 / 1.9, like="frequentist")
#: As good as the reference, with other errors.
TWIN = Spec("twin", 1.9, 1.5, passes=1)
#: The reference with its logits divided by 1.02: better, and nobody would notice.
SLIGHT = Spec("slight", 1.9 / 1.02, 1.5, passes=1, noise=1.5 / 1.02, like="frequentist")
#: Fewer errors, at five times the time.
ENSEMBLE = Spec("ensemble", 1.0, 5.0, passes=5, noise=0.2, like="frequentist")


def said(folder: Path, *specs: Spec, n: int = 872, with_curve: bool = False) -> str:
    records = example.build(folder, specs, n=n, with_curve=with_curve)
    (section,) = sections.sections(records)
    return recommendation(section, points(section, folder))


def row(
    order: int, positive: FloatArray, labels: np.ndarray, cost: float = 1.0, passes: int = 1
) -> Candidate:
    probs = np.stack([1 - positive, positive], axis=1)
    return Candidate(order, f"m{order}", cost, passes, Evaluation(probs, labels))


# --- scenarios, as they read -------------------------------------------------------------------------------


def test_clear_winner(tmp_path: Path) -> None:
    """A cheap row that is shown better is to be used, with the evidence, its cost and what is not shown."""
    text = said(tmp_path, REFERENCE, TEMPERATURE, TWIN, example.FAILED)
    assert text.startswith(
        "**Use `temperature`.** On the same examples it is shown better than `frequentist` in NLL (down by ."
    )
    assert "It loses no accuracy." in text
    assert "It takes 1.00 [0.974, 1.03] times the reference's time, 0.701 ms per sentence." in text
    assert re.search(r"For `twin` no difference is shown; one of \.\d{3} in NLL would have been\.", text)
    assert text.endswith("Failed: `no-dropout`.")


def test_tie(tmp_path: Path) -> None:
    """Where nothing is shown the reference stays, however the estimates came out."""
    text = said(tmp_path, REFERENCE, TWIN)
    assert text.startswith(
        "**Stay with `frequentist`**: the other method is not shown to be better, worth its time"
    )
    assert "For `twin` no difference is shown" in text
    assert "Use" not in text


def test_slight_gain(tmp_path: Path) -> None:
    """More time for a gain that is shown to be slight is not recommended; the same gain for free is."""
    text = said(tmp_path, REFERENCE, SLIGHT)
    assert text.startswith("**Stay with `frequentist`**")
    assert "Shown better, but by less than .01 in NLL: `slight`." in text
    free = Spec("slight", SLIGHT.sharpness, 1.004, passes=1, noise=SLIGHT.noise, like="frequentist")
    assert said(tmp_path / "free", REFERENCE, free).startswith("**Use `slight`.**")


def test_winner_that_costs_too_much(tmp_path: Path) -> None:
    """A row that is better and dear is named with its price, and the reference is what stays otherwise."""
    text = said(tmp_path, REFERENCE, DEAR, TWIN)
    assert text.startswith(
        "**Stay with `frequentist`, unless 20.0 times its time is acceptable: then use `dear`.**"
    )
    assert "Nothing that takes up to 2 times the reference's time qualifies." in text


def test_more_time_buys_more(tmp_path: Path) -> None:
    """Beside the affordable row stands the one that is shown to be better than it."""
    text = said(tmp_path, REFERENCE, TEMPERATURE, ENSEMBLE)
    assert text.startswith("**Use `temperature`.**")
    assert re.search(
        r"use `ensemble`: its NLL is lower by another \.\d{4} \[\.\d{3}, \.\d{3}\], for 5.00 times", text
    )


def test_more_time_buys_nothing(tmp_path: Path) -> None:
    """A dearer row that is only as good is not worth its price, and is said not to be told apart."""
    text = said(tmp_path, REFERENCE, DEAR, TEMPERATURE)
    assert text.startswith("**Use `temperature`.**")
    assert "Nothing that takes more time is shown to be worth it." in text
    assert "Not told apart from `temperature` in NLL: `dear`." in text


def test_fewer_passes_that_do_as_well(tmp_path: Path) -> None:
    """Where running means are stored, the fewest passes that are no worse are named with their cost."""
    text = said(tmp_path, REFERENCE, DEAR, with_curve=True)
    assert re.search(
        r"The first \d+ of its 20 passes are shown to be no worse, by \.01 in NLL, for [\d.]+ times", text
    )


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        ((example.FAILED,), "no method finished"),
        ((REFERENCE,), "`frequentist` is the only method that finished; measure others beside it"),
        ((REFERENCE, example.FAILED), "`frequentist` is the only method that finished"),
        ((TEMPERATURE, TWIN), "the reference failed"),
    ],
)
def test_nothing_to_recommend(tmp_path: Path, specs: tuple[Spec, ...], reason: str) -> None:
    """Without a reference and something beside it there is no recommendation, and the reason is said."""
    text = said(tmp_path, *specs)
    assert text.startswith("**No recommendation**: ")
    assert reason in text


def test_too_few_examples(tmp_path: Path) -> None:
    """On a handful of examples nothing is recommended."""
    assert "20 examples are too few" in said(tmp_path, REFERENCE, TEMPERATURE, n=20)


def test_without_predictions(tmp_path: Path) -> None:
    """Records alone hold no pairs: nothing is recommended, and the figure shows the recorded intervals."""
    records = example.build(tmp_path, (REFERENCE, TEMPERATURE))
    write_records(tmp_path / "bare", records)
    (section,) = sections.sections(records)
    found = points(section, tmp_path / "bare")
    assert recommendation(section, found).startswith("**No recommendation**: it takes the stored predictions")
    assert tradeoff(found).boxes == {}
    text = write_report(tmp_path / "bare").read_text(encoding="utf-8")
    assert "Regions are made of the 95% intervals in the tables." in text


def test_three_lines_open_the_report(tmp_path: Path) -> None:
    """What to use, what it buys and costs, and what is open come before all else, on the page too."""
    example.build(tmp_path, (REFERENCE, TEMPERATURE, TWIN))
    blocks = write_report(tmp_path).read_text(encoding="utf-8").split("\n\n")
    use, buys, undecided = blocks[1].splitlines()
    assert use == "- **Use:** `temperature`."
    assert re.match(r"- \*\*It buys and costs:\*\* NLL \(down by .*, for 1\.00 \[", buys)
    assert undecided.startswith("- **Undecided:** whether `twin` differs from `frequentist` at all. About ")
    assert blocks[3] == "## Recommendation"
    assert blocks[4].startswith("**Use `temperature`.**")
    assert blocks[5] == "## Quality"
    page = write_html(tmp_path).read_text(encoding="utf-8")
    assert page.index("<strong>Undecided:</strong>") < page.index("3 methods on") < page.index("<h2>")


def test_without_predictions_the_lines_say_so(tmp_path: Path) -> None:
    """Nothing is recommended where nothing can be judged."""
    records = example.build(tmp_path, (REFERENCE, TEMPERATURE))
    (section,) = sections.sections(records)
    lines = headline(section, judge(section, tmp_path / "elsewhere"))
    assert lines[0].startswith("no recommendation: it takes the stored predictions")
    assert lines[1:] == ("not known.", "all of it.")


# --- the rules ---------------------------------------------------------------------------------------------


def overconfident(rng: np.random.Generator, n: int) -> tuple[np.ndarray, FloatArray]:
    """Labels, and .97 for the class that is right 90 times in 100."""
    labels = rng.integers(0, 2, n)
    said = np.where(rng.random(n) < 0.9, labels, 1 - labels)
    return labels, np.where(said == 1, 0.97, 0.03)


def test_accuracy_is_a_constraint() -> None:
    """Better probabilities do not make up for lost accuracy, shown or not ruled out."""
    rng = np.random.default_rng(0)
    labels, base = overconfident(rng, 2000)
    reference = row(0, base, labels)
    honest = np.where(base > 0.5, 0.9, 0.1)
    assert decide(reference, [row(1, honest, labels)]).pick is not None
    right = (honest > 0.5) == labels
    for lost, shown in ((30, False), (100, True)):
        changed = np.concatenate([np.flatnonzero(right)[:lost], np.flatnonzero(~right)[:20]])
        worse = honest.copy()
        worse[changed] = 1 - worse[changed]
        decision = decide(reference, [row(1, worse, labels)])
        (judged,) = decision.judged
        assert decision.pick is None
        assert decision.more is None
        assert judged.improved
        assert ("accuracy" in judged.shown("worse")) is shown
        assert judged.keeps_accuracy is False


def test_better_in_one_thing_and_worse_in_another() -> None:
    """A calibrated constant does not qualify beside confidences that know more: NLL shows it worse."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    easy = np.arange(4000) < 2000
    right = rng.random(4000) < np.where(easy, 0.99, 0.8)
    said = np.where(right, labels, 1 - labels)
    confidence = np.where(easy, 0.99, 0.9)
    knowing = np.where(said == 1, confidence, 1 - confidence)
    constant = np.where(said == 1, right.mean(), 1 - right.mean())
    decision = decide(row(0, knowing, labels), [row(1, constant, labels)])
    (judged,) = decision.judged
    assert judged.improved == ["ece_debiased"]
    assert "nll" in judged.shown("worse")
    assert judged.keeps_accuracy
    assert decision.pick is None


def test_an_unknown_cost_does_not_qualify() -> None:
    """A row that was not timed beside the reference is not recommended."""
    labels, base = overconfident(np.random.default_rng(0), 2000)
    better = row(1, np.where(base > 0.5, 0.9, 0.1), labels, cost=float("inf"))
    assert decide(row(0, base, labels), [better]).pick is None


def test_cost_noise_does_not_decide() -> None:
    """Rows whose costs agree in two digits go by their passes, not by a thousandth of a second."""
    labels, base = overconfident(np.random.default_rng(0), 2000)
    honest = np.where(base > 0.5, 0.9, 0.1)
    rows = [row(1, honest, labels, cost=1.002, passes=20), row(2, honest, labels, cost=1.004, passes=1)]
    decision = decide(row(0, base, labels), rows)
    assert decision.pick is not None
    assert decision.pick.row.order == 2
    assert [item.row.order for item in decision.alike] == [1]


def test_nothing_is_recommended_on_noise() -> None:
    """Among rows that differ from the reference by noise only, one is recommended at most 5% of the time.

    200 runs with three rows each; fails by chance less than once in 10,000 runs at a true 5%.
    """
    rng = np.random.default_rng(5)
    taken = 0
    for _ in range(200):
        truth = rng.normal(0, 2, 250)
        labels = (rng.random(250) < 1 / (1 + np.exp(-truth))).astype(np.int64)
        rows = [row(i, 1 / (1 + np.exp(-1.5 * truth - rng.normal(0, 0.5, 250))), labels) for i in range(4)]
        decision = decide(rows[0], rows[1:])
        taken += decision.pick is not None or decision.more is not None
    assert taken / 200 < 0.05 + 3.8 * np.sqrt(0.05 * 0.95 / 200)


# --- cost at matched quality -------------------------------------------------------------------------------


def test_matched_quality(tmp_path: Path) -> None:
    """Against 20 passes of the best-covered MC-Dropout what is no worse has a cost, and nothing else has."""
    specs = (
        REFERENCE,
        Spec("mc-dropout-baal", 1.5, 19.1, sites=(8, 0)),
        Spec("mc-dropout", 1.0, 19.9, sites=(8, 6), noise=1.5 / 1.9, like="frequentist"),
        TEMPERATURE,
    )
    records = example.build(tmp_path, specs, with_curve=True)
    (section,) = sections.sections(load_records(tmp_path))
    found = points(section, tmp_path)
    base = baseline(found)
    assert base is not None
    assert base.entry.label == "mc-dropout"
    matched = matches(found, base)
    verdicts = {record["method"]["name"]: matched[record["cell"]].verdict for record in records}
    assert verdicts["frequentist"] == "not reached"
    assert verdicts["temperature"] == verdicts["mc-dropout"] == "no worse"
    table = matched_table(section, matched)
    cells = {r.entry.label: [cell.text for cell in r.cells] for r in table.rows}
    assert cells["frequentist"][-1] == "-"
    assert cells["temperature"][-1] == "1.00 [0.974, 1.03]"
    assert matched[records[2]["cell"]].point.passes < 20


def test_no_baseline_no_table(tmp_path: Path) -> None:
    """Without 20 passes of MC-Dropout there is nothing to match, and no such heading."""
    records = example.build(tmp_path, (REFERENCE, TEMPERATURE, Spec("mc-dropout", 1.1, 5.0, passes=5)))
    (section,) = sections.sections(records)
    assert baseline(points(section, tmp_path)) is None
    assert "matched quality" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_what_would_tell_is_said_and_holds() -> None:
    """Where nothing is shown, about how many labels would; with so many the same difference is shown."""
    rng = np.random.default_rng(3)

    def sample(n: int) -> tuple[FloatArray, FloatArray, np.ndarray]:
        truth = rng.normal(0, 2, n)
        labels = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(np.int64)
        return 1 / (1 + np.exp(-1.25 * truth)), 1 / (1 + np.exp(-truth)), labels

    base, honest, labels = sample(300)
    decision = decide(row(0, base, labels), [row(1, honest, labels)])
    assert decision.pick is None
    (text,) = _needed(decision, decision.judged)
    found = re.search(r"about ([\d,]+) labelled examples would show that `m1` has the lower", text)
    assert found is not None
    n = int(found[1].replace(",", ""))
    assert n > 300
    shown = 0
    for _ in range(20):
        base, honest, labels = sample(4 * n)
        shown += decide(row(0, base, labels), [row(1, honest, labels)]).pick is not None
    assert shown >= 10


# --- what is left open -------------------------------------------------------------------------------------


def noisy_twins(n: int, gain: float, seed: int = 3) -> Decision:
    """A reference, one that is right a little more often by `gain`, one that says the same, on n examples."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    logit = rng.normal(1.0, 1.0, n) * np.where(labels == 1, 1.0, -1.0)
    other = logit + rng.normal(gain, 0.8, n) * np.where(labels == 1, 1.0, -1.0)
    first, second = (1 / (1 + np.exp(-one)) for one in (logit, other))
    return decide(row(0, first, labels), [row(1, second, labels), row(2, first, labels)])


def test_what_says_the_same_is_no_question() -> None:
    """No example tells it apart, and none is asked for; what is shown is no question either."""
    assert [question.row for question in open_questions(noisy_twins(200, 0.0))] == ["m1"]
    assert open_questions(noisy_twins(4000, 0.5)) == []


def test_as_many_examples_as_are_asked_for_settle_it() -> None:
    """Of fresh samples of that size about four in five show the difference that the first suggested."""
    rng = np.random.default_rng(0)
    decision = noisy_twins(60, 0.3)
    (question,) = open_questions(decision)
    assert question.kind == "reference"
    assert 10 < question.more < 2000
    small, base = decision.judged[0].row.evaluation, decision.reference.evaluation
    shown = 0
    for _ in range(60):
        drawn = rng.integers(0, 60, 60 + round(question.more))
        again = decide(
            Candidate(0, "m0", 1.0, 1, base.take(drawn)),
            [Candidate(1, "m1", 1.0, 1, small.take(drawn)), Candidate(2, "m2", 1.0, 1, base.take(drawn))],
        )
        shown += bool(again.judged[0].shown("better"))
    assert 0.65 < shown / 60 < 0.99


def test_questions_come_by_what_settles_them_first() -> None:
    """Rising, with those that nothing settles last."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 120)
    sides = np.where(labels == 1, 1.0, -1.0)
    base = rng.normal(1.0, 1.0, 120)
    rows = [
        row(at, 1 / (1 + np.exp(-(base + rng.normal(gain, 0.9, 120)) * sides)), labels)
        for at, gain in enumerate((0.0, 0.1, 0.2), 1)
    ]
    found = open_questions(decide(row(0, 1 / (1 + np.exp(-base * sides)), labels), rows))
    assert len(found) > 1
    assert [one.more for one in found] == sorted(one.more for one in found)


def test_a_loss_of_accuracy_that_is_not_ruled_out_is_a_question() -> None:
    """More examples rule it out, where it is not there: known by the one-sided bound of a zero difference."""
    labels, positive = overconfident(np.random.default_rng(8), 300)
    sure, milder = np.where(positive > 0.5, 0.999, 0.001), np.clip(positive, 0.1, 0.9)
    right, wrong = (np.flatnonzero(((positive > 0.5) == labels) == side)[:4] for side in (True, False))
    milder[[*right, *wrong]] = 1.0 - milder[[*right, *wrong]]
    decision = decide(row(0, sure, labels), [row(1, milder, labels)])
    found = open_questions(decision)
    assert [(one.row, one.kind) for one in found] == [("m1", "accuracy")]
    floor = decision.judged[0].accuracy_floor
    assert found[0].more == pytest.approx(300 * ((floor * (1 + 0.8416 / 1.6449) / 0.01) ** 2 - 1), rel=1e-3)
