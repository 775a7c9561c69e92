"""Methods that are wrong, each in one way, beside some that are right: each costs its own row alone."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from calibench.cli import main
from calibench.errors import CalibenchError
from calibench.measure import memory
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoder
from calibench.models.plan import map_batches
from calibench.registry import METHODS
from calibench.run import run
from calibench.store.predictions import load_predictions
from calibench.store.records import Record
from calibench.suites.spec import MethodSpec, Suite, TimingSpec
from calibench.types import Batch, LabelledPlan, Plan, Predictive
from limited_suites import limited

#: What two runs may differ in: when they were made, how fast, where.
UNLIKE = {"created", "timing", "cost_ratio", "latency_ratio", "memory", "environment"}
GOOD = ("softmax", "energy", "mahalanobis", "mc-dropout", "frequentist")
TIMING = TimingSpec(blocks=4, latency=2, memory=False, token_budget=128)


class Softmax(Method):
    """What is right with all of them: the softmax, by the checkpoint's own module."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.checkpoint = checkpoint
        self.module: Any = checkpoint.module
        self.calls = 0

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        self.calls += 1
        return Predictive(self.softmax(plan), np.ones(len(plan), dtype=np.int64))

    def softmax(self, plan: Plan) -> Any:
        def one(batch: Batch) -> torch.Tensor:
            with torch.inference_mode():
                return self.module(**batch.inputs).logits.double().softmax(-1)  # type: ignore[no-any-return]

        return map_batches(plan, one)


@dataclass(frozen=True)
class Bad:
    """A way to be wrong: a class of method, and what its row has to say of it."""

    method: type[Method]
    says: str


BAD: dict[str, Bad] = {}


def bad(says: str) -> Callable[[type[Method]], type[Method]]:
    """Registers a class under its own name."""

    def register(method: type[Method]) -> type[Method]:
        BAD[f"bad-{method.__name__.lower()}"] = Bad(method, says)
        return method

    return register


def returns(name: str, says: str, change: Callable[[Predictive], Any], *, after: int = 0) -> None:
    """A method whose `predict` returns something else, from a call on."""

    def predict(self: Any, plan: Plan, *, seed: int) -> Any:
        found = Softmax.predict(self, plan, seed=seed)
        return change(found) if self.calls > after else found

    bad(says)(type(name, (Softmax,), {"predict": predict}))


def does(name: str, says: str, act: Callable[[Any], Any], *, after: int = 0) -> None:
    """A method that does something before it predicts, at a call."""

    def predict(self: Any, plan: Plan, *, seed: int) -> Any:
        if self.calls == after:
            act(self)
        return Softmax.predict(self, plan, seed=seed)

    bad(says)(type(name, (Softmax,), {"predict": predict}))


def says_of_itself(name: str, says: str, **attributes: Any) -> None:
    """A method with an attribute of a wrong type."""
    bad(says)(type(name, (Softmax,), attributes))


def with_one(array: Any, value: float) -> Any:
    """The array with another first value."""
    changed = array.copy()
    changed.flat[0] = value
    return changed


def field(**fields: Callable[[Predictive], Any]) -> Callable[[Predictive], Predictive]:
    """What changes some fields of a prediction."""
    return lambda p: replace(p, **{name: make(p) for name, make in fields.items()})


def ones(found: Predictive) -> Any:
    return np.ones(len(found.probs))


returns("ReturnsNothing", "returned None; expected a Predictive", lambda _: None)
returns("ReturnsArray", "returned a ndarray; expected a Predictive", lambda p: p.probs)
returns(
    "NotANumber", "probs of bad-notanumber are not finite", field(probs=lambda p: with_one(p.probs, np.nan))
)
returns("Later", "probs of bad-later are not finite", field(probs=lambda p: p.probs * np.inf), after=3)
returns("Logits", "probs of bad-logits sum to 1.5", field(probs=lambda p: p.probs * 1.5))
returns("Negative", "probs of bad-negative fall to -", field(probs=lambda p: 3 * p.probs - 1))
returns("OneTooFew", r"probs of bad-onetoofew are of shape \[\d+, 2\]", field(probs=lambda p: p.probs[:-1]))
returns("OneClass", r"probs of bad-oneclass are of shape \[\d+\]", field(probs=lambda p: p.probs[:, 1]))
returns(
    "MoreClasses",
    r"probs of bad-moreclasses are of shape \[\d+, 3\]",
    field(probs=lambda p: np.pad(p.probs, ((0, 0), (0, 1)))),
)
returns("Turned", r"probs of bad-turned are of shape \[2, \d+\]", field(probs=lambda p: p.probs.T), after=2)
returns("Tensor", "probs of bad-tensor are a Tensor", field(probs=lambda p: torch.tensor(p.probs)))
returns("Lists", "probs of bad-lists are a list", field(probs=lambda p: p.probs.tolist()))
returns("Half", "probs of bad-half are of float16", field(probs=lambda p: p.probs.astype(np.float16)))
returns("Objects", "probs of bad-objects are of object", field(probs=lambda p: p.probs.astype(object)))
returns("Complex", "probs of bad-complex are of complex128", field(probs=lambda p: p.probs + 0j))
returns("Masked", "probs of bad-masked are a MaskedArray", field(probs=lambda p: np.ma.masked_array(p.probs)))
returns("PassesMissing", "passes of bad-passesmissing are None", field(passes=lambda _: None))
returns("PassesNumber", "passes of bad-passesnumber are 1;", field(passes=lambda _: 1))
returns("PassesFew", r"passes of bad-passesfew are of shape \[1\]", field(passes=lambda p: p.passes[:1]))
returns("PassesNone", "passes of bad-passesnone are 0 in row", field(passes=lambda p: 0 * p.passes))
returns("PassesFloat", "passes of bad-passesfloat are of float64", field(passes=ones))
returns("SamplesFlat", "samples of bad-samplesflat are of shape", field(samples=lambda p: p.probs))
returns(
    "SamplesLogits",
    "samples of bad-sampleslogits sum to 2.0",
    field(samples=lambda p: np.stack([p.probs, 2 * p.probs])),
)
returns(
    "SamplesVary",
    r"samples of bad-samplesvary are of shape \[2, \d+, 2\]; expected .* \[1, ",
    lambda p: replace(p, samples=np.stack([p.probs] * (1 if len(p.probs) % 2 else 2))),
)
returns(
    "ErrorNaN",
    "standard_error of bad-errornan are not finite",
    field(standard_error=lambda p: ones(p) * np.nan),
)
returns("ScoreShape", "scores 'x' of bad-scoreshape are of shape", field(scores=lambda _: {"x": np.ones(2)}))
returns(
    "ScoreNaN", "scores 'x' of bad-scorenan are not finite", field(scores=lambda p: {"x": np.nan * ones(p)})
)
returns("ScoreList", "scores of bad-scorelist are a list", field(scores=lambda p: [ones(p)]))
returns(
    "ScorePath", "scores of bad-scorepath have the name '../x'", field(scores=lambda p: {"../x": ones(p)})
)
returns(
    "ScoreGone",
    "scores of bad-scoregone are 'x', and were none",
    field(scores=lambda p: {"x": ones(p)}),
    after=2,
)
returns("SetsFloat", "sets of bad-setsfloat are of float64", field(sets=lambda p: p.probs))
returns("NoteNumber", "notes of bad-notenumber hold 1", field(notes=lambda _: (1,)))
returns("NoteText", "notes of bad-notetext are 'slow'", field(notes=lambda _: "slow"))
returns("NoteBroken", "notes of bad-notebroken hold", field(notes=lambda _: ("\ud800",)))

says_of_itself("Passes", "passes of bad-passes is 'many'", passes="many")
says_of_itself("Coverage", "coverage of bad-coverage is a dict", coverage={})
says_of_itself("Encodes", "encoder of bad-encodes is a function", encoder=staticmethod(lambda batch: batch))
says_of_itself("Tokenises", "tokenises of bad-tokenises is 'no'", tokenises="no")
says_of_itself("Ranks", "scores of bad-ranks are none; expected 'x' among them", score="x")
says_of_itself("Unlearnt", "learnt of bad-unlearnt is 3", needs_train=True, learnt=3)
says_of_itself(
    "LearntNaN",
    "bad-learntnan has no record for what it has learnt",
    needs_train=True,
    learnt={"x": float("nan")},
)
says_of_itself(
    "LearntArray",
    "bad-learntarray has no record for what it has learnt",
    needs_train=True,
    learnt={"x": np.ones(2)},
)


def raises(error: BaseException) -> Any:
    raise error


class OwnEnd(BaseException):
    """Not an Exception."""


does("Raises", "the fan fell off", lambda _: raises(RuntimeError("the fan fell off")))
does("Long", r"y{500}.* \[\.\.\.\]$", lambda _: raises(RuntimeError("y" * 10**6)))
does("Surrogate", r"no text: \?", lambda _: raises(RuntimeError("no text: \ud800")))
does("Exits", r"bad-exits raised SystemExit\(0\)", lambda _: sys.exit(0), after=2)
does("Ends", r"bad-ends raised OwnEnd\(\)", lambda _: raises(OwnEnd()))
does("Leaves", r"bad-leaves raised GeneratorExit\(\)", lambda _: raises(GeneratorExit()))
does("Hangs", "bad-hangs took longer than the 2 seconds", lambda _: time.sleep(30))


@bad("bad-hangson took longer than the 2 seconds")
class HangsOn(Softmax):
    """Takes the interruption for an error of its own, once."""

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        try:
            time.sleep(30)
        except BaseException:  # the fault
            return super().predict(plan, seed=seed)
        raise AssertionError


def hook(method: Any) -> None:
    method.module.classifier.register_forward_hook(lambda *given: given[-1] * 0.1)


def scale_weights(method: Any) -> None:
    with torch.no_grad():
        method.module.classifier.weight.mul_(0.1)


def replace_layer(method: Any) -> None:
    old = method.module.classifier
    method.module.classifier = nn.Linear(old.in_features, old.out_features)


def set_plainly(owner: Callable[[Any], Any], name: str, value: Any) -> Callable[[Any], None]:
    return lambda method: setattr(owner(method), name, value)


does("Threads", "bad-threads changed torch's number of threads", lambda _: torch.set_num_threads(3))
does("DefaultDtype", "torch's default dtype", lambda _: torch.set_default_dtype(torch.float64))
does("DefaultDevice", "torch's default device", lambda _: torch.set_default_device("meta"), after=2)
does("GradMode", "torch's grad mode", lambda _: torch.set_grad_enabled(False))
does("Deterministic", "deterministic mode", lambda _: torch.use_deterministic_algorithms(True))
does("Matmul", "matmul precision", lambda _: torch.set_float32_matmul_precision("medium"))
does("FloatErrors", "NumPy's treatment", lambda _: np.seterr(all="raise"))
does("CtrlC", "what Ctrl-C does", lambda _: signal.signal(signal.SIGINT, signal.SIG_IGN))
does("Moves", "the working directory", lambda _: os.chdir("/"))
does("Hook", "a hook on classifier", hook)
does(
    "GlobalHook",
    "the hooks of all modules",
    lambda _: nn.modules.module.register_module_forward_hook(lambda *_: None),
)
does("Weights", "the weights classifier.weight", scale_weights)
does(
    "WeightsBehind", "the values of the weights", lambda m: m.module.classifier.weight.data.mul_(0.1), after=3
)
does(
    "Storage",
    "the weights classifier.bias",
    set_plainly(lambda m: m.module.classifier.bias, "data", torch.ones(2)),
)
does("Layer", "the modules of the model", replace_layer)
does("Training", "the training mode of", lambda m: m.module.train(), after=2)
does("Rate", "the settings of dropout", set_plainly(lambda m: m.module.dropout, "p", 0.9))
does("Frozen", "requires_grad of", lambda m: m.module.requires_grad_(False))
does("Forward", "the forward of dropout", set_plainly(lambda m: m.module.dropout, "forward", lambda x: 0 * x))
does("Config", "the model's config", set_plainly(lambda m: m.module.config, "output_hidden_states", True))
does("PadId", "the model's config", set_plainly(lambda m: m.module.config, "pad_token_id", 7))
does(
    "Side",
    "the tokenizer's padding_side",
    set_plainly(lambda m: m.checkpoint.tokenizer, "padding_side", "left"),
)
does("Shorter", "model_max_length", set_plainly(lambda m: m.checkpoint.tokenizer, "model_max_length", 4))
does("PadToken", "special tokens", set_plainly(lambda m: m.checkpoint.tokenizer, "pad_token", "the"))
does("Words", "the tokenizer's vocabulary", lambda m: m.checkpoint.tokenizer.add_tokens(["film", "zzz"]))


@bad("sys.exit|SystemExit")
class ExitsAtOnce(Softmax):
    """Never made."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        sys.exit("no licence")


@bad("the modules of the model")
class ChangesAtOnce(Softmax):
    """Changes what is shared when it is made."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        replace_layer(self)


@bad("the values of a shared pass")
class WritesToThePass(Softmax):
    """Works in place on what it was lent."""

    score_only = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.encoder = Encoder(checkpoint)

    def softmax(self, plan: Plan) -> Any:
        def one(batch: Batch) -> Any:
            logits = self.encoder(batch).logits.numpy()
            logits -= logits.max(axis=1, keepdims=True)
            return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

        return map_batches(plan, one)


class Harmless:
    """Methods that do what looks dangerous and is not: their rows are right."""

    class Prints(Softmax):
        def predict(self, plan: Plan, *, seed: int) -> Predictive:
            print("a plugin says hello")
            os.write(1, b"a plugin says it plainly\n")
            return super().predict(plan, seed=seed)

    class Closes(Softmax):
        def predict(self, plan: Plan, *, seed: int) -> Predictive:
            sys.stdout.close()
            sys.stderr.close()
            return super().predict(plan, seed=seed)

    class Empties(Softmax):
        def predict(self, plan: Plan, *, seed: int) -> Predictive:
            found = super().predict(plan, seed=seed)
            for batch in plan.batches:
                batch.inputs["input_ids"].zero_()
            plan.rows[:] = 0
            return found

    class Seeds(Softmax):
        def predict(self, plan: Plan, *, seed: int) -> Predictive:
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002 - the fault
            random.seed(0)
            return super().predict(plan, seed=seed)

    class UsesItsArrayAgain(Softmax):
        kept: ClassVar[dict[int, Any]] = {}

        def softmax(self, plan: Plan) -> Any:
            array = self.kept.setdefault(len(plan), np.empty((len(plan), 2)))
            array[:] = super().softmax(plan)
            return array

    class WritesToTheTrainingTexts(Softmax):
        needs_train = True

        def fit(self, train: LabelledPlan) -> None:
            train.labels[:] = 0
            for batch in train.plan.batches:
                batch.inputs["input_ids"].zero_()


HARMLESS = {name.lower(): kind for name, kind in vars(Harmless).items() if isinstance(kind, type)}


def suite(*methods: str, **timing: Any) -> Suite:
    """The embedded suite with little timing effort, these methods and a curve."""
    whole = limited("embedded", 40)
    return replace(
        whole,
        method=tuple(MethodSpec(name) for name in methods),
        passes=2,
        curve=(1, 2),
        train=replace(whole.train, split="validation", limit=40),
        timing=replace(TIMING, **timing),
    )


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """All of them are methods by name."""
    known: dict[str, type[Method]] = {"softmax": Softmax, **HARMLESS}
    known |= {name: bad.method for name, bad in BAD.items()}
    load, point = METHODS.load, METHODS.entry_point
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METHODS, "load", lambda name: known.get(name) or load(name))
        patch.setattr(METHODS, "entry_point", lambda name: point("frequentist" if name in known else name))
        yield


Run = tuple[Path, dict[str, Record]]


def run_of(folder: Path, suite: Suite) -> Run:
    return folder, {record["method"]["name"]: record for record in run(suite, folder, device="cpu")}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The good ones by themselves."""
    return run_of(tmp_path_factory.mktemp("sound"), suite(*GOOD))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of them together, the bad ones first."""
    methods = [*BAD, *HARMLESS, *GOOD]
    return run_of(tmp_path_factory.mktemp("mixed"), suite(*methods, timeout_per_block=2.0))


def test_there_are_many_ways_to_be_wrong() -> None:
    """Each with a name of its own."""
    assert len(BAD) >= 40
    assert not BAD.keys() & (HARMLESS.keys() | set(GOOD))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_method_has_a_failed_row_that_says_why(mixed: Run, name: str) -> None:
    """The sentence names the field, or what was changed, or is the method's own."""
    record = mixed[1][name]
    assert record["status"] == "error"
    assert re.search(BAD[name].says, record["error"]["message"])
    assert len(record["error"]["message"]) < 1100


@pytest.mark.parametrize("name", GOOD)
def test_a_good_method_has_the_row_that_it_has_without_them(sound: Run, mixed: Run, name: str) -> None:
    """All of the record but times, memory and environment, and every stored bit."""
    with_bad, alone = mixed[1][name], sound[1][name]
    assert alone["status"] == "ok"
    assert untimed(with_bad) == untimed(alone)
    stored = [vars(load_predictions(folder, found[name])) for folder, found in (sound, mixed)]
    assert_same(*stored)


def untimed(record: Record) -> Record:
    """What two runs have in common: all but times, memory and environment."""
    curve = record["curve"] and {key: record["curve"][key] for key in ("passes", "metrics")}
    fit = record["fit"] and {**record["fit"], "seconds": None}
    return {key: value for key, value in record.items() if key not in UNLIKE} | {"curve": curve, "fit": fit}


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, arrays inside mappings too."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("name", HARMLESS)
def test_what_looks_dangerous_harms_nobody(mixed: Run, name: str) -> None:
    """Printing, closing streams, seeding, writing to its own plan: its row is right."""
    folder, found = mixed
    assert found[name]["status"] == "ok", found[name]["error"]
    assert_same(load_predictions(folder, found[name]).probs, load_predictions(folder, found["softmax"]).probs)


def test_the_process_is_as_it_was(mixed: Run) -> None:  # noqa: ARG001 - looked at afterwards
    """No setting of torch, no stream and no handler outlives the run."""
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert not sys.stdout.closed
    assert Path.cwd() != Path("/")


def test_the_command_fails_and_prints_nothing_of_theirs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the table alone on standard output, what methods print on standard error."""
    file = tmp_path / "suite.toml"
    file.write_text(
        '[data]\nloader = "embedded"\nsplit = "test"\nlimit = 20\n[model]\nname = "embedded"\n'
        "[timing]\nblocks = 2\nlatency = 1\nmemory = false\n"
        '[[method]]\nname = "frequentist"\n[[method]]\nname = "prints"\n[[method]]\nname = "bad-exits"\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", str(file), "-o", str(tmp_path / "run"), "--device", "cpu"])
    assert ended.value.code == 1
    captured = capfd.readouterr()
    assert captured.out.startswith("Use: ")
    assert "a plugin" not in captured.out
    assert "a plugin says hello" in captured.err
    assert "a plugin says it plainly" in captured.err
    assert "1 of 3 cells failed (bad-exits)" in captured.err


class Interrupted(Softmax):
    """Is running when the user stops the run."""

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        signal.raise_signal(signal.SIGINT)
        return super().predict(plan, seed=seed)


def test_ctrl_c_inside_a_method_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's, and no failure of the method that was running."""
    load = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: Interrupted if name == "softmax" else load(name))
    with pytest.raises(KeyboardInterrupt):
        run(suite("frequentist", "softmax"), tmp_path)


def test_weights_written_unseen_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One value among many, behind torch's back, cannot be laid at a method's door: no number is kept."""

    class Sneaks(Softmax):
        def predict(self, plan: Plan, *, seed: int) -> Predictive:
            self.module.distilbert.embeddings.word_embeddings.weight.data[3, 1] += 1.0
            return super().predict(plan, seed=seed)

    load = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: Sneaks if name == "softmax" else load(name))
    with pytest.raises(CalibenchError, match="changed the model's weights, and it could not be told which"):
        run(suite("frequentist", "softmax"), tmp_path)
    assert not list(tmp_path.iterdir())


NOISY = """
import os, sys, time
import numpy as np
from calibench import Method, Predictive

class Noisy(Method):
    def __init__(self, checkpoint, *, how: str = "prints"):
        super().__init__(checkpoint)
        self.how = how

    def predict(self, plan, *, seed):
        print("hello", flush=True)
        os.write(1, b"{}\\n")
        if self.how == "exits":
            sys.exit(0)
        if self.how == "hangs":
            time.sleep(60)
        return Predictive(np.full((len(plan), 2), 0.5), np.ones(len(plan), dtype=np.int64))
"""


def test_what_a_method_prints_is_no_answer_of_the_memory_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peak is read from elsewhere; where it exits or hangs there, the figure has the reason, in order."""
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "noisy-1.dist-info").mkdir()
    (tmp_path / "noisy-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: noisy\nVersion: 1\n"
    )
    (tmp_path / "noisy-1.dist-info" / "entry_points.txt").write_text(
        "[calibench.methods]\nnoisy = noisy:Noisy\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    task = memory.MemoryTask(
        checkpoint={"name": "embedded", "device": "cpu"},
        method="noisy",
        runtime="torch",
        params={"how": "prints"},
        texts=("a film",),
        rows=(0,),
        seed=0,
        threads=1,
        padding={"side": "right", "pad_id": 0},
        seconds=3.0,
    )
    hows = ("prints", "exits", "hangs", "prints")
    first, exits, hangs, last = memory.measure([replace(task, params={"how": how}) for how in hows])
    for peak in (first, last):
        assert peak.reason is None
        assert peak.bytes is not None
    assert exits.reason is not None
    assert "noisy raised SystemExit(0)" in exits.reason
    assert hangs.reason is not None
    assert "noisy took longer than the 3 seconds" in hangs.reason
