"""The calls of a notebook or script, `calibench.score`, `compare`, `run` and `load`: each gives `Results`."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

from calibench.errors import CalibenchError, UsageError, unknown
from calibench.flows.results import Results
from calibench.flows.scoring import score as score_tables
from calibench.posthoc.conformal import recipes
from calibench.readers.arrays import read_arrays
from calibench.readers.asked import Asked
from calibench.registry import POSTHOC, require
from calibench.report.stored import records_of
from calibench.score.scored import Wanted
from calibench.store.paths import dated_folder
from calibench.store.records import records_file
from calibench.suites.loader import load_suite, suite_of, table_of
from calibench.suites.overrides import Overrides, override

Folder = str | PathLike[str]
#: Options of the command that are called otherwise here.
_IN_PYTHON = {
    "logits": "logits=True",
    "renormalise": "renormalise=True",
    "skip-nulls": "skip_nulls=True",
    "confidence": "confidence=True",
    "label": "labels",
    "prob": "probs",
    "id": "ids",
    "group": "groups",
    "correct": "labels",
}


def score(
    probs: Any,
    labels: Any,
    *,
    name: str = "scored",
    classes: Sequence[str] = (),
    logits: bool = False,
    confidence: bool = False,
    ids: Any = None,
    groups: Any = None,
    posthoc: Sequence[str] = (),
    conformal: Sequence[str] = (),
    conformal_level: float = 0.9,
    class_conditional: bool = False,
    renormalise: bool = False,
    skip_nulls: bool = False,
    seed: int = 0,
    output: Folder | None = None,
) -> Results:
    """Score one method's predictions, as `calibench score` does; see docs/score.md.

    Args:
        probs: [N, C] probabilities, or [N] of the second of two classes: numpy, lists, pandas or torch.
        labels: [N], indices of classes or their names; with `confidence` whether each answer is right.
        name: what the method is called.
        classes: what the C classes are called; by default the columns of a data frame, or numbers from 0.
        logits: `probs` are logits, or log-probabilities.
        confidence: `probs` are how sure each answer is, [N], and there are no classes.
        ids: [N], what the rows are called; predictions of the same rows in another order are the same data.
        groups: [N], subgroups that get metrics and verdicts of their own.
        posthoc: post-hoc steps, each a row more, cross-fitted: see `calibench ls posthoc`.
        conformal: prediction sets of every row: "lac", "aps" or "raps", which are to hold the label as often
            as `conformal_level` says, with `class_conditional` within every class.
        renormalise: divide each row by its sum, where probabilities were rounded.
        skip_nulls: leave out rows that lack a value.
        seed: of folds, sets and resampling.
        output: the run folder, made where it does not exist; a temporary one that goes with the results.

    Raises:
        UsageError: input that is not what was said of it; one sentence that says what to do.
    """
    with in_python():
        asked = Asked(classes=several(classes), logits=logits, renormalise=renormalise, skip_nulls=skip_nulls)
        tables = read_arrays({name: probs}, labels, asked, by_confidence=confidence, ids=ids, groups=groups)
        sets = recipes(several(conformal), level=conformal_level, class_conditional=class_conditional)
        wanted = Wanted(posthoc=_steps(posthoc), recipes=sets, seed=_seed(seed))
        return _written(lambda folder: score_tables(tables, folder, wanted), output)


def compare(
    methods: Mapping[str, Any],
    labels: Any,
    *,
    reference: str | None = None,
    prices: Mapping[str, float] | None = None,
    classes: Sequence[str] = (),
    logits: bool = False,
    confidence: bool = False,
    ids: Any = None,
    groups: Any = None,
    posthoc: Sequence[str] = (),
    conformal: Sequence[str] = (),
    conformal_level: float = 0.9,
    class_conditional: bool = False,
    renormalise: bool = False,
    skip_nulls: bool = False,
    seed: int = 0,
    output: Folder | None = None,
) -> Results:
    """Score several methods' predictions for the same rows, and compare each with the reference.

    Args:
        methods: by name what `score` takes for `probs`; rows are in one order.
        labels: as of `score`; with `confidence` by name of the method, since each gave answers of its own.
        reference: what the others are compared with; the first by default.
        prices: by name, what an answer costs, for the cost ratio and a recommendation that weighs it.

    The other arguments, and what is raised, are those of `score`.
    """
    with in_python():
        if not isinstance(methods, Mapping) or len(methods) < 2:
            raise UsageError("Expected two methods or more by name; pass them as in {'A': a, 'B': b}.")
        asked = Asked(classes=several(classes), logits=logits, renormalise=renormalise, skip_nulls=skip_nulls)
        named = {str(name): probs for name, probs in methods.items()}
        tables = read_arrays(named, labels, asked, by_confidence=confidence, ids=ids, groups=groups)
        sets = recipes(several(conformal), level=conformal_level, class_conditional=class_conditional)
        wanted = Wanted(
            reference=reference,
            posthoc=_steps(posthoc),
            recipes=sets,
            seed=_seed(seed),
            prices=_prices(prices, list(named)),
        )
        return _written(lambda folder: score_tables(tables, folder, wanted), output)


def run(
    suite: str = "embedded",
    output: Folder | None = None,
    *,
    device: str = "auto",
    self_check: bool = False,
    **overrides: Any,
) -> Results:
    """Run a suite, as `calibench run` does; this loads models, and imports torch.

    Args:
        suite: a suite's name, or a TOML file.
        output: the run folder, where the same call later goes on; by default a dated one in calibench-runs.
        overrides: what to change in the suite, by the names of `calibench.suites.overrides.Overrides`, such
            as `limit`, `passes`, `methods` or `model`.

    Raises:
        UsageError: the suite cannot be run as it was asked for.
        CalibenchError: data or model could not be loaded.
    """
    require("run", "calibench.run")
    # Those who only score should not wait for torch.
    from calibench.run import run as run_suite

    with in_python():
        chosen = override(load_suite(str(suite)), _overrides(overrides))
        # Once more through the loader, which looks at every value.
        chosen = suite_of(table_of(chosen), chosen.name)
        folder = dated_folder(chosen.name) if output is None else Path(output)
        run_suite(chosen, folder, device=device, self_check=self_check)
        return load(folder)


def load(folder: Folder) -> Results:
    """The results in a run folder, or a records file, that a call or a command wrote.

    Raises:
        UsageError: no records there, or predictions that are missing or others.
    """
    path = Path(folder)
    latest = {record["cell"]: record for record in records_of(path)}
    return Results(tuple(latest.values()), records_file(path).parent)


def _written(write: Callable[[Path], object], output: Folder | None) -> Results:
    """What `write` puts into a folder."""
    if output is not None:
        write(Path(output))
        return load(output)
    folder = Path(tempfile.mkdtemp(prefix="calibench-"))
    try:
        write(folder)
        results = load(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(results, shutil.rmtree, folder, ignore_errors=True)
    return results


def several(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple; one that was passed without brackets is one name, and not its letters."""
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _steps(names: Sequence[str]) -> tuple[str, ...]:
    steps = tuple(dict.fromkeys(several(names)))
    for step in steps:
        POSTHOC.entry_point(step)
    return steps


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"The seed is {seed!r}; expected a whole number of 0 or more.")
    return seed


def _prices(prices: Mapping[str, float] | None, methods: Sequence[str]) -> dict[str, float]:
    found = {str(name): price for name, price in (prices or {}).items()}
    if found and found.keys() != set(methods):
        raise UsageError(
            f"--prices names {', '.join(found)} and the methods are {', '.join(methods)}; give each a price."
        )
    for name, price in found.items():
        if not (isinstance(price, (int, float)) and math.isfinite(price) and price >= 0.0):
            raise UsageError(f"The price of {name!r} is {price!r}; expected a number of 0 or more.")
    return {name: float(price) for name, price in found.items()}


def _overrides(given: Mapping[str, Any]) -> Overrides:
    known = {item.name: item.default for item in fields(Overrides)}
    for name in given:
        if name not in known:
            raise unknown(f"A run has no option {name!r}", name, sorted(known))
    values: dict[str, Any] = {
        name: several(value) if known[name] == () else value for name, value in given.items()
    }
    return Overrides(**values)


@contextmanager
def in_python() -> Iterator[None]:
    """Say what to do in the words of a call where the command's own words would say it in options."""
    try:
        yield
    except CalibenchError as error:
        error.args = (re.sub(r"--([a-z]+(?:-[a-z]+)*)( COLUMN)?", _spelled, str(error)),)
        raise


def _spelled(option: re.Match[str]) -> str:
    return _IN_PYTHON.get(option[1], option[1].replace("-", "_"))
