"""A check's base once more, beside the run: an older build, or another checkpoint, takes turns with it."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from calibench.compare.gate import UNDECIDED, check
from calibench.compare.limits import Limit
from calibench.compare.runs import Matching, Run
from calibench.compare.speeds import LOOKS
from calibench.errors import UsageError
from calibench.measure.progress import Progress
from calibench.measure.race import Build, race, started
from calibench.registry import METHODS
from calibench.report.sections import Section, sections
from calibench.store.records import Record, dig
from calibench.suites.spec import ConformalSpec, MethodSpec, ShiftSpec, Suite
from calibench.types import Raced

#: What a folder with a checkpoint or an adapter holds.
_CHECKPOINT = ("config.json", "adapter_config.json")


def rerun_base(
    found: Matching,
    suite: Suite,
    device: str,
    base: str,
    limits: Sequence[Limit],
    progress: Progress,
) -> dict[str, Raced]:
    """Race the run's cells against the same of another build, or with another checkpoint.

    It ends at the first look at which all limits are decided, or at the last.

    Args:
        suite: what the run was made from; of its methods those that the run holds are raced.
        base: a git revision of the checkout in the working directory, a checkout, or a checkpoint's folder.
        limits: single texts are timed where one of these is on latency; those on quality are left alone.

    Returns:
        By key of the run's cell; rows with an added post-hoc step are not among them.

    Raises:
        UsageError: it cannot be raced; says why.
        CalibenchError: a process ended, or a method failed.
    """
    ours = [pair.new for pair in found.pairs if not dig(pair.new, "method", "posthoc")]
    chosen = raced_suite(ours, found.new, suite)
    progress.stage("Loading both", 2)
    with _base(base, chosen) as older, started(older, device) as old:
        progress.step(older.name)
        with started(Build(found.new.name, chosen), device) as new:
            progress.step(found.new.name)
            _refuse_other_cells(ours, found.new, new.loaded.keys)
            theirs = dig(found.pairs[0].base, "model", "sha256")
            if older.source is None and old.loaded.model != theirs:
                raise UsageError(
                    f"{base} is not the checkpoint of {found.base.name}: its weights are "
                    f"{old.loaded.model[:12]} and not {str(theirs)[:12]}; name that run's folder."
                )
            speeds = [limit for limit in limits if limit.is_speed]
            requests = any(limit.name == "latency" for limit in speeds)
            raced: dict[str, Raced] = {}
            for raced in race(old, new, LOOKS, progress, requests=requests):
                if all(finding.outcome != UNDECIDED for finding in check(found, speeds, raced)):
                    break
            return raced


def asked_section(run: Run) -> Section:
    """The section of a run whose command says what to race.

    Raises:
        UsageError: the run is about several data sets or models.
    """
    found = sections(run.records)
    if len({(section.entries[0].record["suite"], *_about(section)) for section in found}) > 1:
        raise UsageError(
            f"{run.name} holds cells of several suites, data sets or models; give a folder with one of each."
        )
    return found[0]


def _about(section: Section) -> tuple[str, str]:
    return str(section.common("data").get("sha256")), str(section.common("model").get("sha256"))


def filled_in(arguments: Sequence[str], run: Run, **given: str | None) -> list[str]:
    """The arguments of `calibench run` with what stands for folders of one's own filled in.

    Args:
        given: `suite`, `model` and `dataset`, where the user named them.

    Raises:
        UsageError: one that is needed was not, or one that was has no place.
    """
    filled = list(arguments)
    places = {"suite": 0} | {
        argument.removeprefix("--"): at + 1 for at, argument in enumerate(arguments) if argument[:2] == "--"
    }
    for what, path in given.items():
        at = places.get(what)
        if at is None and path is not None:
            raise UsageError(f"{run.name} is of no folder that --{what} could name; leave it out.")
        if at is not None and path is not None:
            filled[at] = path
        elif at is not None and arguments[at].startswith("PATH/TO/"):
            raise UsageError(
                f"{run.name} names its {what} {arguments[at].removeprefix('PATH/TO/')!r} and not where it "
                f"lies; add --{what} with its path."
            )
    return filled


def raced_suite(ours: Sequence[Record], run: Run, suite: Suite) -> Suite:
    """The suite with the methods that are raced, and nothing that is not timed.

    Raises:
        UsageError: a method has parameters that name folders, whose paths no record holds.
    """
    folders = [record for record in ours if dig(record, "method", "folders")]
    if folders:
        raise UsageError(
            f"{run.label(folders[0])} cannot be raced: {run.name} does not say where its folders lie; "
            "measure both with calibench run, one after the other, and check without --rerun-base."
        )
    methods = {str(record["method"]["name"] + str(record["method"].get("params"))): record for record in ours}
    return replace(
        suite,
        method=tuple(
            MethodSpec(record["method"]["name"], record["method"].get("params") or {})
            for record in methods.values()
        ),
        seeds=tuple(dict.fromkeys(record["seed"] for record in ours)),
        posthoc=(),
        curve=(),
        shift=ShiftSpec(),
        conformal=ConformalSpec(),
    )


def _refuse_other_cells(ours: Sequence[Record], run: Run, keys: Sequence[str]) -> None:
    for record in ours:
        if record["cell"] not in keys:
            raise UsageError(
                f"{run.label(record)} of {run.name} is not what would be measured here now: data, model, "
                "versions or parameters differ; run the suite again, or give --suite, --model and --dataset "
                "as it was run."
            )


@contextmanager
def _base(text: str, suite: Suite) -> Iterator[Build]:
    """The side that `--rerun-base` names."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as temporary:
            checked_out(text, Path(temporary))
            yield _built(text, Path(temporary), suite)
    elif any((folder / name).is_file() for name in _CHECKPOINT):
        yield Build(text, replace(suite, model=replace(suite.model, name=str(folder), revision=None)))
    else:
        yield _built(text, folder, suite)


def _built(name: str, folder: Path, suite: Suite) -> Build:
    packages = {METHODS.entry_point(spec.method).module.partition(".")[0] for spec in suite.method}
    roots = [root for package in sorted({*packages, "calibench"}) if (root := root_of(package, folder))]
    if not roots:
        raise UsageError(
            f"{name} holds neither a checkpoint ({_CHECKPOINT[0]}) nor the source of "
            f"{', '.join(sorted({*packages, 'calibench'}))}; give one that does."
        )
    return Build(name, suite, folder, tuple(dict.fromkeys(roots)))


def root_of(package: str, folder: Path) -> Path | None:
    """The folder from which a package of a source tree is imported: the shallowest; None without one."""
    found = [path.parent.parent for path in folder.rglob(f"{package}/__init__.py")]
    found += [path.parent for path in folder.rglob(f"{package}.py")]
    return min(found, key=lambda path: (len(path.parts), path), default=None)


def checked_out(revision: str, folder: Path) -> None:
    """Write the files of a revision of the checkout in the working directory.

    Raises:
        UsageError: no such revision, or no checkout here.
    """
    commit = _git(revision, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    top = _git(revision, "rev-parse", "--show-toplevel").decode().strip()
    archive = _git(revision, "-C", top, "archive", "--format=tar", commit.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def _git(revision: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode != 0:
        raise UsageError(
            f"{revision!r} is neither a folder nor a revision of a git checkout here; run the command in the "
            "checkout of what changed, and name a commit, a tag or a branch."
        )
    return done.stdout
