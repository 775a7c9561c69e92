"""Post-hoc steps that are wrong, each in one way, beside one that is right: each costs its own rows alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibench.cli import main
from calibench.posthoc import Calibrator
from calibench.posthoc.temperature import Temperature
from calibench.registry import POSTHOC
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import Record
from calibench.suites.spec import (
    CalibrationSpec,
    ConformalSpec,
    MethodSpec,
    ShiftSpec,
    Suite,
    TimingSpec,
)
from limited_suites import limited

#: What two runs may differ in: when they were made, and how fast.
UNLIKE = {"created", "timing", "cost_ratio", "latency_ratio", "memory", "environment"}
UNLIKE |= {"fit_s", "seconds", "seconds_per_example"}
TIMING = TimingSpec(blocks=4, latency=2, memory=False, token_budget=128)


class Raises(Temperature):
    """Fails in its constructor."""

    def __init__(self) -> None:
        raise RuntimeError("no thermometer")


def fails_in(name: str, act: Callable[[Any], Any], *, after: int = 0) -> type[Calibrator]:
    """A temperature that does something before its method `name`, from a call of it on."""

    def instead(self: Any, *given: Any) -> Any:
        calls = vars(self).setdefault("calls", [])
        calls.append(name)
        if len(calls) > after:
            act(given[0] if given else None)
        return getattr(Temperature, name)(self, *given)

    return type(f"Bad{name}", (Temperature,), {name: instead})


def returns(change: Callable[[Any], Any]) -> type[Calibrator]:
    """A temperature whose transform gives something else."""
    return type(
        "Returns", (Temperature,), {"transform": lambda s, logs: change(Temperature.transform(s, logs))}
    )


def has_parameters(found: Any) -> type[Calibrator]:
    """A temperature with other parameters."""
    return type("HasParameters", (Temperature,), {"parameters": property(lambda _: found)})


def prints(_: Any) -> None:
    print("look at me")
    os.write(1, b"and at me\n")


def _raise(error: BaseException) -> Callable[[Any], None]:
    def act(_: Any) -> None:
        raise error

    return act


#: By name: the step, and what its rows say.
BAD: dict[str, tuple[Any, str]] = {
    "no-class": (np, "object is not callable"),
    "init-raises": (Raises, "no thermometer"),
    "fit-raises": (fails_in("fit", _raise(KeyError("x"))), "x"),
    "fit-exits": (fails_in("fit", lambda _: sys.exit(0)), "raised SystemExit(0), which ends a process"),
    "transform-exits": (fails_in("transform", lambda _: sys.exit(3)), "raised SystemExit(3)"),
    "exits-later": (
        fails_in("transform", lambda _: sys.exit(3), after=2),
        "Its post-hoc step failed while it was timed: exits-later raised SystemExit(3)",
    ),
    "hangs": (fails_in("fit", lambda _: time.sleep(60)), "took longer than the"),
    "other-shape": (returns(lambda probs: probs[:-1]), "returned probabilities of shape"),
    "nothing": (returns(lambda _: None), "shape ()"),
    "nan": (returns(lambda probs: probs * np.nan), "are not finite"),
    "logits": (returns(lambda probs: probs + 1.0), "expected 1"),
    "chdir": (fails_in("fit", lambda _: os.chdir("/")), "changed the working directory"),
    "threads": (
        fails_in("transform", lambda _: torch.set_num_threads(7)),
        "changed torch's number of threads",
    ),
    "parameters": (has_parameters({"temperature": object()}), "which a record cannot hold"),
    "infinite": (has_parameters({"temperature": float("inf")}), "inf"),
    "no-parameters": (has_parameters(None), "not iterable"),
}
#: What looks dangerous and harms nobody, this step included.
HARMLESS: dict[str, Any] = {
    "prints": fails_in("fit", prints),
}


class WritesToItsLabels(Temperature):
    """Fits, and then overwrites what it was given."""

    def fit(self, log_probs: Any, labels: Any) -> None:
        super().fit(log_probs, labels)
        log_probs[:], labels[:] = 0.0, 0

    def transform(self, log_probs: Any) -> Any:
        found = super().transform(log_probs)
        log_probs[:] = 0.0
        return found


HARMLESS["writes-to-its-input"] = WritesToItsLabels


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """All of them are steps by name."""
    known = {name: step for name, (step, _) in BAD.items()} | HARMLESS
    load, point = POSTHOC.load, POSTHOC.entry_point
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(POSTHOC, "load", lambda name: known.get(name) or load(name))
        patch.setattr(POSTHOC, "entry_point", lambda name: point("temperature" if name in known else name))
        yield


def suite(*steps: str, **changes: Any) -> Suite:
    """The reference with each step, on drifted texts and with prediction sets too."""
    whole = limited("embedded", 40)
    return replace(
        whole,
        method=(MethodSpec("frequentist"),),
        posthoc=steps,
        timing=replace(TIMING, timeout_per_block=0.5),
        conformal=ConformalSpec(("lac",)),
        shift=ShiftSpec(("typos",), (0.3,)),
        **changes,
    )


Run = tuple[Path, dict[str | None, Record]]


def run_of(folder: Path, suite: Suite) -> Run:
    return folder, {record["method"]["posthoc"]: record for record in run(suite, folder, device="cpu")}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The one that is right, by itself."""
    return run_of(tmp_path_factory.mktemp("sound"), suite("temperature"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of them together, the bad ones first."""
    return run_of(tmp_path_factory.mktemp("mixed"), suite(*BAD, *HARMLESS, "temperature"))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_step_has_a_failed_row_that_says_why(mixed: Run, name: str) -> None:
    """One row each, with the reason."""
    record = mixed[1][name]
    assert record["status"] == "error"
    assert BAD[name][1] in record["error"]["message"]
    assert "metrics" not in record


def timeless(value: Any) -> Any:
    """What two runs have in common."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in UNLIKE}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", [None, "temperature"])
def test_a_good_row_is_the_one_that_it_is_without_them(sound: Run, mixed: Run, name: str | None) -> None:
    """Metrics, sets, shifts and predictions to the last bit; and what was fitted."""
    one, other = sound[1][name], mixed[1][name]
    assert timeless(one) == timeless(other)
    np.testing.assert_array_equal(
        load_predictions(sound[0], one).probs, load_predictions(mixed[0], other).probs
    )


@pytest.mark.parametrize("name", HARMLESS)
def test_what_looks_dangerous_harms_nobody(mixed: Run, name: str) -> None:
    """Its row is that of the plain temperature."""
    harmless, plain = mixed[1][name], mixed[1]["temperature"]
    assert harmless["status"] == "ok"
    assert harmless["metrics"] == plain["metrics"]
    assert harmless["predictions_sha256"] == plain["predictions_sha256"]


def test_the_process_is_as_it_was(mixed: Run) -> None:  # noqa: ARG001 - looked at afterwards
    """Where it works, and with how many threads."""
    assert Path.cwd() != Path("/")
    assert torch.get_num_threads() != 7


@pytest.mark.parametrize("name", ["fit-exits", "transform-exits", "nan"])
def test_a_bad_step_on_another_split_costs_its_row(tmp_path: Path, name: str) -> None:
    """Fitted there once, not crossed."""
    spec = CalibrationSpec(split="validation")
    _, found = run_of(tmp_path, suite(name, "temperature", calibration=spec))
    assert [record["status"] for record in found.values()] == ["ok", "error", "ok"]
    assert BAD[name][1] in found[name]["error"]["message"]


class ForTheScoredOnly(Temperature):
    """Ends the process where it is given other texts than those that are scored: drifted ones."""

    def transform(self, log_probs: Any) -> Any:
        if len(log_probs) == 40:
            sys.exit(1)
        return super().transform(log_probs)


def test_a_step_that_fails_on_drifted_texts_keeps_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scored texts go through it in folds, the drifted ones together, which have a reason then."""
    load = POSTHOC.load
    monkeypatch.setattr(POSTHOC, "load", lambda n: ForTheScoredOnly if n == "nan" else load(n))
    _, found = run_of(tmp_path, suite("nan"))
    record = found["nan"]
    assert record["status"] == "ok"
    (shift,) = record["shifts"]
    assert shift["metrics"] is None
    assert "raised SystemExit(1)" in shift["reason"]


def test_what_a_step_prints_is_not_on_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By Python or by the descriptor; it is on standard error."""
    arguments = ["run", "embedded", "-m", "frequentist", "--limit", "30", "--posthoc", "prints"]
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "-o", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert "at me" not in out
    assert "look at me" in err
    assert "and at me" in err
