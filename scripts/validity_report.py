"""`validity.json` as markdown and plots; `validity.py` ends with it, and it runs alone on a finished study.

python scripts/validity_report.py results
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from calibench.report.drawing import style

#: What a nominal 95% is allowed to be.
GOAL = (0.93, 0.97)
#: Where the plot of coverages begins, in percent; what lies further left is written beside its marker.
LEFT = 85.0
PLUG_IN = ("ece", "ece_15", "ece_equal_mass", "ece_classwise")
ESTIMATORS = (*PLUG_IN, "ece_debiased")
BIAS = """Plug-in errors read too high, by more the fewer examples there are for each bin and the closer the
model is to calibrated. The debiased error, the only one that verdicts are based on, does not; it is a squared
error, so that its values are on another scale."""


CROSSED = """A temperature is fitted across the folds of n examples, and its calibration errors are held
against those that n new examples read under the temperature fitted to all of them. "As pooled" is without
what cross-fitting hides (`calibench.metrics.crossfitting`), "reported" with it. The interval is to hold the
true error of the temperature that is fitted to all."""
PERCENTILES = """Log-normal, with one request in twenty three times as long. The bounds are order statistics,
so that their coverage is at least nominal; of too few requests none is given."""
ELSEWHERE = """## Studies of their own

Samples with few errors, and what room for unseen ones changes: [few-errors.md](few-errors.md). Intervals of
cost ratios: [cost-intervals.md](cost-intervals.md). The gate: [gate.md](gate.md). Standard errors of
`mc-dropout-adaptive`: [adaptive-error.md](adaptive-error.md)."""


def write(record: dict[str, Any], folder: Path) -> None:
    """Write `validity.md` and the plots of `validity/` into `folder`."""
    results = record["results"]
    covered = [one for one in results if one["kind"] == "coverage"]
    with style.styled():
        for name, figure in (("coverage", _coverage_plot(covered)), ("bias", _bias_plot(covered))):
            (folder / "validity" / f"{name}.png").write_bytes(style.png(figure))
            (folder / "validity" / f"{name}.svg").write_text(style.svg(figure, name), "utf-8")
    parts = [
        _introduction(record),
        "## Do 95% intervals hold the truth 95% of the time?",
        _coverage_words(
            [one for one in results if one["kind"] in ("coverage", "slow", "percentiles", "crossed")]
        ),
        "![Coverage of each metric's interval, by population and number of examples](validity/coverage.svg)",
        *(_coverage_table(covered, population) for population in _populations(covered)),
        "### Percentiles of latencies",
        PERCENTILES,
        _percentile_table([one for one in results if one["kind"] == "percentiles"]),
        "### Selective prediction and SmoothECE",
        _slow_table([one for one in results if one["kind"] == "slow"]),
        "## How far off are calibration errors?",
        BIAS,
        "![Mean of each estimator less its target, against the number of examples](validity/bias.svg)",
        _bias_table(covered),
        "## What do cross-fitted rows read?",
        CROSSED,
        _crossed_table([one for one in results if one["kind"] == "crossed"]),
        "## Do intervals of paired differences hold the true difference?",
        _difference_table([one for one in results if one["kind"] == "differences"]),
        "## How often is a verdict a false alarm?",
        _verdict_words(results),
        _verdict_table(results),
        ELSEWHERE,
    ]
    (folder / "validity.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def _introduction(record: dict[str, Any]) -> str:
    return f"""# Validity

What calibench says about chance, checked by chance: {record["replications"]:,} times a sample is drawn from
a population whose truth is known, and its intervals and verdicts are held against that truth. A population is
{record["population"]:,} examples (of 150 classes 10,000) with their true posterior and a model's
probabilities; labels are drawn anew for each sample, and the truth counts every label by its probability, so
that it has no label noise. Of 150 classes a fifth as many samples are drawn, of cross-fitted rows half as
many. Intervals use
{record["resamples"]} resamples. A share of 95% of {record["replications"]:,} has a standard error of
{100 * np.sqrt(0.95 * 0.05 / record["replications"]):.1f} points.

The whole of it is made by `python scripts/validity.py`, in {record["cpu_minutes"]} minutes of one core spread
over those there are; the counts are in [validity.json](validity/validity.json)."""


def _populations(results: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["population"] for one in results))


def _share(counts: dict[str, Any]) -> float | None:
    total = counts["inside"] + counts["above"] + counts["below"]
    return counts["inside"] / total if total else None


def _told(one: dict[str, Any], counts: dict[str, Any]) -> bool:
    """Whether more than half of the samples have an interval."""
    return bool(counts.get("none", 0) < one["replications"] / 2)


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    text = f"{100 * share:.1f}"
    return text if GOAL[0] <= share <= GOAL[1] else f"**{text}**"


def _coverage_words(results: Sequence[dict[str, Any]]) -> str:
    cells = [
        (one["population"], one["n"], name, share)
        for one in results
        for name, counts in one["found"].items()
        if (share := _share(counts)) is not None and _told(one, counts)
    ]
    short = sorted((cell for cell in cells if cell[3] < GOAL[0]), key=lambda cell: cell[3])
    far = [cell for cell in cells if cell[3] > GOAL[1]]
    held = len(cells) - len(short) - len(far)
    worst = "\n".join(f"- {name}, n = {n}, {where}: {100 * share:.1f}%" for where, n, name, share in short)
    said = (
        f"Of {len(cells)} combinations of metric, population and size, {held} lie within "
        f"{100 * GOAL[0]:.0f} to {100 * GOAL[1]:.0f}%, {len(far)} above and {len(short)} below. Above are "
        "mostly plug-in errors whose true value is at or near zero: the interval then starts at zero and "
        "cannot miss on that side, and it never leaves out the reported value, which is too high. Where half "
        "of the samples or more hold too few errors for an interval, none is counted."
    )
    said += f" Below are:\n\n{worst}" if short else " None is below."
    if any(name == "mce" for _, _, name, _ in short):
        said += (
            "\n\nThe maximum calibration error hangs on its emptiest bin: where a sample seldom holds the "
            "examples that make up the truth, no interval can know. Of all metrics it is the one least "
            "worth having."
        )
    return said


def _coverage_table(results: Sequence[dict[str, Any]], population: str) -> str:
    chosen = sorted((one for one in results if one["population"] == population), key=lambda one: one["n"])
    rows = []
    for name, first in chosen[0]["found"].items():
        cells = []
        for one in chosen:
            counts = one["found"][name]
            none = f", none in {counts['none']}" if counts["none"] else ""
            cells.append(f"{_percent(_share(counts))} ({counts['below']} / {counts['above']}{none})")
        rows.append([name, f"{first['target']:.4f}", *cells])
    sizes = [f"n = {one['n']}" for one in chosen]
    return f"### {population}\n\nCoverage in percent (truths above the interval / below it).\n\n" + tabulate(
        rows, ["metric", "truth", *sizes], tablefmt="github", disable_numparse=True
    )


def _slow_table(results: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            name,
            one["population"],
            one["n"],
            f"{counts['target']:.4f}",
            _percent(_share(counts)).replace("-", "none"),
        ]
        for one in results
        for name, counts in one["found"].items()
    ]
    return tabulate(
        rows, ["metric", "population", "n", "truth", "coverage, %"], tablefmt="github", disable_numparse=True
    )


def _percentile_table(results: Sequence[dict[str, Any]]) -> str:
    rows = [
        [name, one["n"], f"{counts['target']:.2f}", _percent(_share(counts)), counts["none"]]
        for one in sorted(results, key=lambda one: one["n"])
        for name, counts in one["found"].items()
    ]
    head = ["percentile", "n", "truth, ms", "coverage, %", "samples without bounds"]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def _crossed_table(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in sorted(results, key=lambda one: (one["population"], one["n"])):
        count = one["replications"]
        for name, found in one["found"].items():
            pooled, read, new = (found[key] / count for key in ("raw", "value", "new"))
            apart = found["squares"] / count - (read - new) ** 2
            rows.append(
                [
                    one["population"],
                    one["n"],
                    name,
                    f"{pooled:.5f}",
                    f"{read:.5f}",
                    f"{new:.5f} ± {np.sqrt(apart / count):.5f}",
                    _percent(_share(found)),
                ]
            )
    head = ["population", "n", "metric", "as pooled", "reported", "new examples", "coverage, %"]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def _mean(counts: dict[str, Any]) -> float:
    kinds = ("inside", "above", "below", "none")
    return float(counts["sum"] / max(1, sum(counts[kind] for kind in kinds)))


def _bias_table(results: Sequence[dict[str, Any]]) -> str:
    every = sorted({one["n"] for one in results})
    rows = []
    for population in _populations(results):
        found = {one["n"]: one["found"] for one in results if one["population"] == population}
        for name in ESTIMATORS:
            truth = next(iter(found.values()))[name]["target"]
            means = [f"{_mean(found[n][name]) - truth:+.5f}" if n in found else "-" for n in every]
            rows.append([population, name, f"{truth:.5f}", *means])
    sizes = [f"bias, n = {n}" for n in every]
    return tabulate(
        rows, ["population", "estimator", "truth", *sizes], tablefmt="github", disable_numparse=True
    )


def _difference_table(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in sorted(results, key=lambda one: (one["population"], one["n"])):
        for name, counts in one["found"]["metrics"].items():
            alone, adjusted = counts["inside"] / counts["count"], counts["adjusted"] / counts["count"]
            rows.append(
                [
                    one["population"],
                    one["n"],
                    name,
                    f"{counts['truth']:+.4f}",
                    _percent(alone),
                    f"{100 * adjusted:.2f}",
                ]
            )
    head = ["population", "n", "metric", "true difference", "interval, %", "adjusted interval, %"]
    return (
        "The interval of one difference is a nominal 95%; the adjusted one is that at which Holm's procedure "
        "tested the difference, and should hold more often.\n\n"
        + tabulate(rows, head, tablefmt="github", disable_numparse=True)
    )


def _verdict_words(results: Sequence[dict[str, Any]]) -> str:
    families = [one for one in results if one["kind"] == "differences" and _is_family(one)]
    worst = max((one["found"]["any"] / one["found"]["families"] for one in families), default=0.0)
    return (
        "Eight seeds of one method are compared, seven with the eighth, in four metrics: any verdict among "
        f"the 28 is false. The largest share of such families with one is {100 * worst:.1f}% (goal: 5% at "
        "most). Of a sharp and a blunt model with equal squared calibration error, only a verdict on that "
        "error is false; their plug-in ECE differs, and a verdict on it would be."
    )


def _is_family(one: dict[str, Any]) -> bool:
    return all(counts["truth"] == 0.0 for counts in one["found"]["metrics"].values())


def _verdict_table(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    compared = [one for one in results if one["kind"] == "differences"]
    for one in sorted(compared, key=lambda one: (one["population"], one["n"])):
        found = one["found"]
        if _is_family(one):
            false = found["any"] / found["families"]
            what = "any of 28"
        elif "sharp" in one["population"]:
            counts = found["metrics"]["ece_debiased"]
            false, what = counts["verdicts"] / counts["count"], "ece_debiased"
        else:
            continue
        ece = " / ".join(f"{total / found['families']:.4f}" for total in found["ece"])
        rows.append([one["population"], one["n"], what, f"{100 * false:.2f}", ece])
    head = ["population", "n", "false verdicts", "share, %", "mean plug-in ECE of the first two models"]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def _coverage_plot(results: Sequence[dict[str, Any]]) -> Figure:
    populations = _populations(results)
    names = list(results[0]["found"])
    sizes = sorted({one["n"] for one in results})
    columns = 5
    rows = -(-len(populations) // columns)
    figure = Figure(figsize=(style.WIDTH, rows * (0.3 * len(names) + 0.8) + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[len(populations) :]:
        axis.set_visible(False)
    for axis, population in zip(axes, populations, strict=False):
        axis.axvspan(*(100 * end for end in GOAL), color=style.RULE, lw=0)
        chosen = sorted((one for one in results if one["population"] == population), key=lambda one: one["n"])
        for one in chosen:
            order = 1 + sizes.index(one["n"])
            shares = [_share(counts) if _told(one, counts) else None for counts in one["found"].values()]
            values = [np.nan if share is None else 100 * share for share in shares]
            height = np.arange(len(names)) + 0.22 * (order - 2)
            off = [(value, at) for value, at in zip(values, height, strict=True) if value < LEFT]
            for value, at in off:
                axis.annotate(
                    f"{value:.0f}", (LEFT, at), xytext=(7, 0), textcoords="offset points", va="center"
                )
            axis.plot(
                np.maximum(values, LEFT),
                height,
                ls="",
                marker=style.marker(order),
                color=style.colour(order),
                ms=5,
                label=f"n = {one['n']}",
            )
        axis.set_title(textwrap.fill(population, 17), fontsize=8)
        axis.set_xlim(LEFT - 0.5, 100.5)
        axis.set_xlabel("coverage, %")
    axes[0].set_yticks(np.arange(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _bias_plot(results: Sequence[dict[str, Any]]) -> Figure:
    populations = _populations(results)
    columns = 5
    rows = -(-len(populations) // columns)
    figure = Figure(figsize=(style.WIDTH, 2.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[len(populations) :]:
        axis.set_visible(False)
    for axis, population in zip(axes, populations, strict=False):
        chosen = sorted((one for one in results if one["population"] == population), key=lambda one: one["n"])
        sizes = [one["n"] for one in chosen]
        for order, name in enumerate(ESTIMATORS, start=1):
            bias = [_mean(one["found"][name]) - one["found"][name]["target"] for one in chosen]
            axis.plot(sizes, bias, marker=style.marker(order), color=style.colour(order), ms=5, label=name)
        axis.axhline(0.0, color=style.INK, lw=0.8)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.set_title(textwrap.fill(population, 17), fontsize=8)
        axis.set_xlabel("examples")
    axes[0].set_ylabel("mean less truth")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(ESTIMATORS), frameon=False)
    return figure


if __name__ == "__main__":
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    write(json.loads((results / "validity" / "validity.json").read_text("utf-8")), results)
