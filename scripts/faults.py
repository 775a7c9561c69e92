"""What faults cost a run: kills, full disks, damage, second writers, stalls, and other people's bad code.

    python scripts/faults.py            a quarter of an hour on two cores; writes results/faults.md

Every fault is done to a small run of the embedded suite in a process of its own. The same command then goes
on in the same folder, and its records are compared with those of a run that nothing happened to: all that is
no time, hashes of the predictions included, has to be equal. The exit code is 1 where something is not.

The bad methods, post-hoc steps and metrics are those of tests/runs, beside the sound rows.
"""

from __future__ import annotations

import os

# Before torch is imported: one thread, so that a process may be forked.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import multiprocessing
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.extend(str(Path(__file__).resolve().parents[1] / "tests" / name) for name in ("runs", "support"))

import test_bad_methods
import test_bad_metrics
import test_bad_steps

import foreign_metrics
from calibench.errors import CalibenchError
from calibench.registry import METHODS, POSTHOC
from calibench.report import write_report
from calibench.run import run
from calibench.store import files, lock
from calibench.store.predictions import load_predictions
from calibench.store.records import RECORDS, Record, load_records
from calibench.suites.loader import load_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import MethodSpec, Suite
from calibench_methods.one_pass.frequentist import Frequentist

TABLE = Path(__file__).resolve().parents[1] / "results" / "faults.md"
#: Fields of a record that are times, sizes of a process, or about the checkout.
TIMES = {"created", "timing", "cost_ratio", "latency_ratio", "memory", "seconds", "git_revision"}
KILLS = 20
#: Seconds that a stalled machine stands still: a block of the suite takes some hundredths.
STALL = 5.0
HEAD = """# Faults

What `python scripts/faults.py` did to a small run of the embedded suite, and what was there once the same
command had gone on. "As undisturbed" is every field that is no time, hashes of the predictions included,
equal to those of a run that nothing happened to. Runs that are killed measure memory too. Bad code was
tried beside the suite's sound rows, which are what "all others" are.

{count} faults, of which {wrong} left something lost or another number changed.
"""


def suite(limit: int, *, memory: bool) -> Suite:
    """Two methods, each with a post-hoc step, on drifted texts too."""
    given = Overrides(
        methods=["frequentist", "mc-dropout"],
        passes=3,
        limit=limit,
        posthoc=["temperature"],
        shift=["typos"],
        shift_strengths="0.3",
        token_budget=128,
    )
    found = override(load_suite("embedded"), given)
    timing = replace(found.timing, blocks=4, latency=8, memory=memory)
    return replace(found, timing=timing, curve=(1, 3))


@dataclass(frozen=True)
class Ended:
    """How a process with a run in it ended: exit code, negative for a signal, and what it said."""

    code: int
    said: str


Fault = Callable[[], None]
#: What is done, and how to do it and to see what comes of it.
Trial = tuple[str, Callable[[], str]]


def started(
    folder: Path,
    fault: Fault,
    said: Any,
    limit: int = 40,
    *,
    memory: bool = False,
    change: Callable[[Suite], Suite] = lambda suite: suite,
) -> Any:
    """A process that runs the suite, changed, in `folder` after `fault` has been prepared in it."""

    def body() -> None:
        fault()
        try:
            run(change(suite(limit, memory=memory)), folder, device="cpu")
        except CalibenchError as error:
            said.value = str(error).encode()[:1000]
            os._exit(error.exit_code)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    return process


def ran(folder: Path, fault: Fault = lambda: None, limit: int = 40, **settings: Any) -> Ended:
    """Run the suite to its end, whatever that is; settings as of `started`."""
    said = multiprocessing.get_context("fork").Array("c", 1001)
    process = started(folder, fault, said, limit, **settings)
    process.join()
    return Ended(process.exitcode, said.value.decode(errors="replace"))


def at_write(number: int, what: Callable[[int, bytes], None]) -> Fault:
    """The fault that does `what` in the place of the write of that number."""

    def prepare() -> None:
        put, count = files.put, iter(range(1_000_000))

        def counted(descriptor: int, data: bytes) -> None:
            (what if next(count) == number else put)(descriptor, data)

        files.put = lock.put = counted  # type: ignore[attr-defined]

    return prepare


def killed(share: float) -> Callable[[int, bytes], None]:
    """A kill when that share of the data is written."""

    def kill(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: round(share * len(data))])
        os.kill(os.getpid(), signal.SIGKILL)

    return kill


def full(descriptor: int, data: bytes) -> None:
    """A disk with room for half of the data."""
    os.write(descriptor, data[: len(data) // 2])
    raise OSError(28, "No space left on device")


def listing(target: Path) -> Fault:
    """Note down the name of every file that is written."""

    def prepare() -> None:
        put = files.put

        def noted(descriptor: int, data: bytes) -> None:
            with target.open("a") as file:
                file.write(os.readlink(f"/proc/self/fd/{descriptor}") + "\n")
            put(descriptor, data)

        files.put = lock.put = noted  # type: ignore[attr-defined]

    return prepare


def kind_of(path: str) -> str:
    """What a written file is, by its name."""
    folder, name = Path(path).parts[-2:]
    for part, kind in (
        (".lock", "the lock"),
        ("probe", "the probe of the folder"),
        (".jsonl.", "a journal made anew"),
        (".npz", "outputs of a block, or of drifted texts"),
        (".parquet", "predictions"),
    ):
        if part in name and not name.startswith(f".{RECORDS}"):
            return kind
    return "a line of the journal" if folder == "journal" else "the records"


def timeless(value: Any) -> Any:
    """A record without what is a time."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def compared(folder: Path, expected: list[Record]) -> str:
    """What is there, in words; "as undisturbed" where all is well."""
    try:
        found = load_records(folder)
        for record in found:
            load_predictions(folder, record)
    except CalibenchError as error:
        return f"BROKEN: {error}"
    left = {path.name for path in folder.iterdir()} - {RECORDS, "predictions"}
    if left:
        return f"LEFT BEHIND: {', '.join(sorted(left))}"
    if timeless(found) != timeless(expected):
        return "OTHER RECORDS"
    return "as undisturbed"


def resumed(folder: Path, expected: list[Record], *, memory: bool = False) -> str:
    """The same after the same command went on in the folder."""
    ended = ran(folder, memory=memory)
    return compared(folder, expected) if ended.code == 0 else f"NOT RESUMED: {ended.said}"


def kills(place: Path, writes: list[str], expected: list[Record]) -> Iterator[Trial]:
    """Kills before, amid and after writes, spread evenly over the run."""
    moments = [(number, share) for number in range(len(writes)) for share in (0.0, 0.5, 1.0)]
    for index in range(KILLS):
        number, share = moments[index * len(moments) // KILLS]
        when = {0.0: "before", 0.5: "amid", 1.0: "after"}[share]
        fault = f"SIGKILL {when} write {number + 1} of {len(writes)}, {kind_of(writes[number])}"
        yield fault, partial(killed_then_resumed, place / f"kill-{index}", expected, number, share)


def killed_then_resumed(folder: Path, expected: list[Record], number: int, share: float) -> str:
    """What is there after a kill and a resumption."""
    ended = ran(folder, at_write(number, killed(share)), memory=True)
    if ended.code != -signal.SIGKILL:
        return f"NOT KILLED: {ended}"
    return resumed(folder, expected, memory=True)


def full_disks(place: Path, writes: list[str], expected: list[Record]) -> Iterator[Trial]:
    """A disk that is full at the first and the last write of each kind."""
    kinds = [kind_of(path) for path in writes]
    for kind in dict.fromkeys(kinds):
        numbers = [number for number, other in enumerate(kinds) if other == kind]
        for which, number in {"last": numbers[-1], "first": numbers[0]}.items():
            if which == "first" or len(numbers) > 1:
                fault = f"Disk full at the {which} write of {kind}"
                yield fault, partial(stopped_then_resumed, place / f"full-{number}", expected, number)


def stopped_then_resumed(folder: Path, expected: list[Record], number: int) -> str:
    """What is there after a full disk and a resumption with room."""
    ended = ran(folder, at_write(number, full))
    told = ended.code == 1 and "No space left on device" in ended.said and "\n" not in ended.said
    if not told or (folder / RECORDS).exists():
        return f"NOT STOPPED: {ended}"
    return f"one sentence, no record; then {resumed(folder, expected)}"


def _torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def _torn_character(file: Path) -> None:
    file.write_bytes(file.read_bytes() + '{"kind": "Ł'.encode()[:-1])


def _doubled(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content + content.split(b"\n")[-2] + b"\n")


def _garbled(file: Path) -> None:
    first, *others = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([first[:30], *others]))


def _flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def damages(place: Path, middle: int, expected: list[Record]) -> Iterator[Trial]:
    """What may happen to the files of a run that was stopped, and to those of one that was finished."""
    for number, (name, pattern, damage) in enumerate(
        (
            ("the last line of the journal torn", "*.jsonl", _torn),
            ("half a character behind the journal", "*.jsonl", _torn_character),
            ("a line of the journal there twice", "*.jsonl", _doubled),
            ("the first line of the journal cut short", "*.jsonl", _garbled),
            ("one bit of a block's outputs flipped", "*.npz", _flipped),
            ("a block's outputs gone", "*.npz", Path.unlink),
        )
    ):
        folder = place / f"stopped-{number}"
        job = partial(damaged_then_resumed, folder, expected, middle, pattern, damage)
        yield f"Killed half-way, and {name}", job
    for number, (name, damage) in enumerate(
        (
            ("predictions gone", Path.unlink),
            ("predictions with one bit flipped", _flipped),
            ("two files of predictions swapped", _swapped),
        )
    ):
        yield f"Finished, and {name}", partial(remade, place / f"finished-{number}", expected, damage)


def damaged_then_resumed(
    folder: Path, expected: list[Record], number: int, pattern: str, damage: Callable[[Path], None]
) -> str:
    """What is there after a kill, damage to a file of the journal, and a resumption."""
    ran(folder, at_write(number, killed(1.0)))
    damage(sorted((folder / "journal").glob(pattern))[0])
    return resumed(folder, expected)


def _swapped(file: Path) -> None:
    other = next(path for path in sorted(file.parent.iterdir()) if path != file)
    first, second = file.read_bytes(), other.read_bytes()
    file.write_bytes(second)
    other.write_bytes(first)


def remade(folder: Path, expected: list[Record], damage: Callable[[Path], None]) -> str:
    """Whether damaged predictions are refused by the report, and what the same command makes of them."""
    ran(folder)
    damage(folder / str(load_records(folder)[1]["predictions"]))
    try:
        write_report(folder)
    except CalibenchError:
        ran(folder)
    else:
        return "NOT NOTICED"
    # A file that is there keeps its name until the new record is written, which names another.
    found, wanted = (
        [item | {"predictions": None} for item in some] for some in (load_records(folder), expected)
    )
    write_report(folder)
    return (
        "refused by the report; then as undisturbed"
        if timeless(found) == timeless(wanted)
        else "OTHER RECORDS"
    )


def two_writers(folder: Path, expected: list[Record]) -> str:
    """A second run while the first one measures, and one with another limit afterwards."""
    first = started(folder, lambda: None, multiprocessing.get_context("fork").Array("c", 1001))
    while not (folder / lock.LOCK).exists():
        time.sleep(0.01)
    second = ran(folder, limit=20)
    first.join()
    if second.code != 2 or f"process {first.pid} on" not in second.said:
        return f"NOT REFUSED: {second}"
    outcome = f"refused in one sentence, the first {compared(folder, expected)}"
    ran(folder, limit=20)
    both = load_records(folder)
    kept = [record for record in both if record["data"]["limit"] == 40]
    same = timeless(kept) == timeless(expected) and len(both) == 2 * len(expected)
    return f"{outcome}; then {'records of both' if same else 'RECORDS LOST'}"


def stalled(which: int, stall: Callable[[], None]) -> Fault:
    """The fault that the machine stalls when the reference predicts for the time of that number."""

    def prepare() -> None:
        predict, count = Frequentist.predict, iter(range(1_000_000))

        def instead(self: Any, plan: Any, *, seed: int) -> Any:
            if next(count) == which:
                stall()
            return predict(self, plan, seed=seed)

        Frequentist.predict = instead  # type: ignore[method-assign]

    return prepare


def stopped() -> None:
    """What a suspended machine does to this process: SIGSTOP from outside, and SIGCONT after a while."""
    command = f"kill -STOP {os.getpid()}; sleep {STALL}; kill -CONT {os.getpid()}"
    subprocess.Popen(["sh", "-c", command])
    time.sleep(0.3)


def killed_at(word: bytes) -> Fault:
    """The fault of a kill when that is about to be written."""

    def prepare() -> None:
        put = files.put

        def looked_at(descriptor: int, data: bytes) -> None:
            if word in data:
                os.kill(os.getpid(), signal.SIGKILL)
            put(descriptor, data)

        files.put = looked_at

    return prepare


def both(*faults: Fault) -> Fault:
    """Several faults at once."""

    def prepare() -> None:
        for fault in faults:
            fault()

    return prepare


def stalls(place: Path, expected: list[Record]) -> Iterator[Trial]:
    """A method that sleeps, a process that is stopped, and a kill while the block is timed again."""
    sleep = partial(time.sleep, STALL)
    for number, (name, which, stall, dies) in enumerate(
        (
            ("A method sleeps in one block", 2, sleep, False),
            ("The process is stopped in one block", 3, stopped, False),
            ("The process is stopped in one block, and killed while that is timed again", 2, stopped, True),
        )
    ):
        yield (
            name,
            partial(stalled_then_resumed, place / f"stall-{number}", expected, which, stall, dies=dies),
        )


def stalled_then_resumed(
    folder: Path, expected: list[Record], which: int, stall: Callable[[], None], *, dies: bool
) -> str:
    """What a stall leaves: marked, timed again, in no time that counts, and nothing else."""
    fault = stalled(which, stall)
    ended = ran(folder, both(fault, killed_at(b'"block again"')) if dies else fault)
    if ended.code != (-signal.SIGKILL if dies else 0):
        return f"NOT AS MEANT: {ended}"
    outcome = resumed(folder, expected)
    reference = load_records(folder)[0]["timing"]
    counts, longest = reference["stalls"], max(block["end_to_end_s"] for block in reference["blocks"])
    if not counts["marked"] or not counts["repeated"] or longest > STALL:
        return f"NOT SEEN: {counts}"
    return f"marked, and timed again; {outcome}"


def bad_code(place: Path, expected: list[Record]) -> Iterator[Trial]:
    """All bad methods, post-hoc steps and metrics of the tests beside the rows of the suite."""
    for kind, known, job in (
        ("methods", test_bad_methods.BAD, beside_methods),
        ("post-hoc steps", test_bad_steps.BAD, beside_steps),
        ("metrics", test_bad_metrics.BAD, beside_metrics),
    ):
        yield f"{len(known)} bad {kind}, each in a way of its own", partial(job, place / kind, expected)


def registering(registry: Any, known: dict[str, Any], like: str) -> Fault:
    """Let a registry have more names."""

    def prepare() -> None:
        load, point = registry.load, registry.entry_point
        registry.load = lambda name: known[name] if name in known else load(name)
        registry.entry_point = lambda name: point(like if name in known else name)

    return prepare


def patient(suite: Suite, **changes: Any) -> Suite:
    """The suite with something more, and a time for whatever hangs."""
    return replace(suite, timing=replace(suite.timing, timeout_per_block=2.0), **changes)


def beside_methods(folder: Path, expected: list[Record]) -> str:
    """What bad methods cost: their rows, with and without the post-hoc step."""
    bad = {name: item.method for name, item in test_bad_methods.BAD.items()}

    def change(suite: Suite) -> Suite:
        train = replace(suite.train, split="validation", limit=40)
        return patient(suite, method=(*map(MethodSpec, bad), *suite.method), train=train)

    ended = ran(folder, registering(METHODS, bad, "frequentist"), change=change)
    says = {name: item.says for name, item in test_bad_methods.BAD.items()}
    return others(folder, ended, expected, says, "name")


def beside_steps(folder: Path, expected: list[Record]) -> str:
    """What bad post-hoc steps cost: their row of each method."""
    bad = {name: step for name, (step, _) in test_bad_steps.BAD.items()}

    def change(suite: Suite) -> Suite:
        return patient(suite, posthoc=(*bad, *suite.posthoc))

    ended = ran(folder, registering(POSTHOC, bad, "temperature"), change=change)
    says = {name: re.escape(says) for name, (_, says) in test_bad_steps.BAD.items()}
    return others(folder, ended, expected, says, "posthoc")


def others(folder: Path, ended: Ended, expected: list[Record], says: dict[str, str], field: str) -> str:
    """Whether the bad rows have failed and say why, and all others are as undisturbed.

    Args:
        says: what the rows of each bad method or step have to say.
        field: of `method` in a record, where it is named.
    """
    if ended.code != 0:
        return f"NOT FINISHED: {ended}"
    found = load_records(folder)
    kept = [record for record in found if record["method"][field] not in says]
    failed = [record for record in found if record["method"][field] in says]
    untold = [
        record["method"][field]
        for record in failed
        if record["status"] == "ok"
        or not re.search(says[record["method"][field]], record["error"]["message"])
    ]
    if untold or {record["method"][field] for record in failed} != says.keys():
        return f"NOT TOLD: {untold}"
    for record in kept:
        load_predictions(folder, record)
    same = timeless(kept) == timeless(expected)
    return f"{len(failed)} failed rows that say why, all others as undisturbed" if same else "OTHER RECORDS"


def beside_metrics(folder: Path, expected: list[Record]) -> str:
    """What bad metrics cost: their own numbers in each row. Keys hold who registers them."""
    bad = {name: test_bad_metrics.metric(name, do) for name, (do, _) in test_bad_metrics.BAD.items()}
    ended = ran(folder, lambda: foreign_metrics.register(pytest.MonkeyPatch(), **bad))
    if ended.code != 0:
        return f"NOT FINISHED: {ended}"
    found = load_records(folder)
    for name, (_, says) in test_bad_metrics.BAD.items():
        reasons = [record["metrics"].pop(name)["reason"] for record in found]
        if not all(says in reason for reason in reasons):
            return f"NOT TOLD: {reasons[0]}"
    same = unkeyed(found) == unkeyed(expected)
    return "no number, and why; all others as undisturbed" if same else "OTHER RECORDS"


def unkeyed(records: list[Record]) -> Any:
    """Records but for times and for how their cells are called."""
    return timeless([record | {"cell": None, "predictions": None} for record in records])


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def broken_records(place: Path, expected: list[Record]) -> Iterator[Trial]:
    """What may befall the records, the lock and the folder of a finished run."""
    for number, (name, damage) in enumerate(
        (
            ("the last line of the records torn", _torn),
            ("the first line of the records cut short", _garbled),
            ("half a character behind the records", _torn_character),
        )
    ):
        yield f"Finished, and {name}", partial(refused, place / f"records-{number}", damage)
    yield "Finished, and the records twice in their file", partial(doubled, place / "doubled", expected)
    yield "Finished, and the records gone", partial(remeasured, place / "gone", expected)
    yield (
        "Finished, and the lock of a dead process there",
        partial(locked, place / "dead", expected, dead=True),
    )
    yield "Finished, and a lock there that is none", partial(locked, place / "none", expected, dead=False)


def refused(folder: Path, damage: Callable[[Path], None]) -> str:
    """Whether report and run refuse damaged records, and leave them as they are for who can mend them."""
    ran(folder)
    damage(folder / RECORDS)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ended = ran(folder)
    told = ended.code in (1, 2) and RECORDS in ended.said and "\n" not in ended.said
    try:
        write_report(folder)
    except CalibenchError:
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return (
            "refused by report and run in one sentence, and left as it is"
            if told and after == before
            else (f"NOT LEFT: {ended}")
        )
    return "NOT NOTICED"


def doubled(folder: Path, expected: list[Record]) -> str:
    """A line that is there twice counts once."""
    ran(folder)
    content = (folder / RECORDS).read_bytes()
    (folder / RECORDS).write_bytes(content + content)
    return compared(folder, expected)


def remeasured(folder: Path, expected: list[Record]) -> str:
    """All is measured again, into the predictions that are there."""
    ran(folder)
    (folder / RECORDS).unlink()
    return resumed(folder, expected)


def locked(folder: Path, expected: list[Record], *, dead: bool) -> str:
    """Whether a stale lock is taken over, and what is no lock stands."""
    ran(folder)
    process = subprocess.Popen(["true"])
    process.wait()
    stale = {"pid": process.pid, "host": platform.node(), "since": time.time()}
    (folder / lock.LOCK).write_text(json.dumps(stale) if dead else "mine")
    ended = ran(folder)
    if dead:
        return compared(folder, expected) if ended.code == 0 else f"NOT TAKEN OVER: {ended}"
    if ended.code != 2 or (folder / lock.LOCK).read_text() != "mine":
        return f"NOT REFUSED: {ended}"
    (folder / lock.LOCK).unlink()
    return f"refused in one sentence; then {resumed(folder, expected)}"


def main() -> int:
    """Do everything, write the table, and say whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--only", default="", help="Faults whose name holds this.")
    parser.add_argument("--workers", type=int, default=2, help="Trials side by side.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        writes = {}
        for memory in (False, True):
            ran(place / f"undisturbed-{memory}", listing(place / f"writes-{memory}"), memory=memory)
            writes[memory] = (place / f"writes-{memory}").read_text().splitlines()
        expected = load_records(place / "undisturbed-False")
        last = load_records(place / "undisturbed-True")
        trials = [
            *kills(place, writes[True], last),
            *full_disks(place, writes[False], expected),
            *damages(place, len(writes[False]) // 2, expected),
            *broken_records(place, expected),
            ("A second run with another limit", partial(two_writers, place / "two", expected)),
            *stalls(place, expected),
            *bad_code(place, expected),
        ]
        trials = [trial for trial in trials if given.only in trial[0]]
        rows = []
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
            outcomes = pool.map(_called, [job for _, job in trials])
            for (fault, _), outcome in zip(trials, outcomes, strict=True):
                rows.append((fault, outcome))
                print(f"{fault}: {outcome}", flush=True)
    wrong = [row for row in rows if any(word.isupper() and len(word) > 2 for word in row[1].split())]
    # A row of many bad ways begins with their number.
    count = sum(int(fault.split()[0]) if fault[0].isdigit() else 1 for fault, _ in rows)
    head = HEAD.format(count=count, wrong=len(wrong) or "none")
    lines = [head, "| fault | outcome |", "|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(wrong))


def _called(job: Callable[[], str]) -> str:
    return job()


if __name__ == "__main__":
    sys.exit(main())
