"""A journal's blocks and sentences -> the timing fields of a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from calibench.measure.memory import Peak
from calibench.measure.stalls import counted_blocks, stalls_of
from calibench.stats.intervals import percentile_interval
from calibench.stats.ratios import median_ratio_interval, ratio_interval
from calibench.store.journal import Entries
from calibench.store.records import Record
from calibench.types import Interval

QUANTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}
NO_REFERENCE = Interval(None, None, None, "the reference was not timed beside this method")


def timing_values(journal: Entries, key: str, reference: str, curve: Sequence[int]) -> dict[str, Any]:
    """Throughput, latency and their ratios to the reference, from what was measured side by side.

    Args:
        key, reference: cell keys.
        curve: numbers of passes that were timed by themselves.

    Returns:
        `timing`, `cost_ratio`, `latency_ratio` and, with a curve, `curve` as in a record.
    """
    blocks = [entry for entry in counted_blocks(journal) if key in entry["cells"]]
    values: dict[str, Any] = {
        "timing": {
            "throughput": _throughput(blocks, key),
            "latency_ms": _latency(journal, key),
            "stages_s": _stages(blocks, key),
            "stalls": dataclasses.asdict(stalls_of(journal, key)),
            "blocks": [
                {"repetition": entry["repetition"], "block": entry["block"], "sentences": entry["sentences"]}
                | {"tokens": entry["tokens"], "position": _position(entry, key)}
                | entry["cells"][key]
                for entry in blocks
            ],
        },
        "cost_ratio": _cost_ratio(blocks, key, reference),
        "latency_ratio": _latency_ratio(journal, key, reference),
    }
    if curve:
        values["curve"] = _curve(journal, key, reference, curve)
    return values


def absent(fields: Record, reason: str) -> Record:
    """The fields of a row about its costs where none was measured: what was timed on the way is left out."""
    unknown = Interval(None, None, None, reason).as_dict()
    fit, curve = fields["fit"], fields["curve"]
    own = fit and fit.get("method")
    return {
        "curve": curve and curve | {"seconds": None, "cost_ratio": None},
        "timing": None,
        "cost_ratio": unknown,
        "latency_ratio": unknown,
        "self_check": None,
        "memory": Peak(None, "rss", reason).as_dict(),
        "fit": fit and fit | {"seconds": None} | ({"method": own | {"seconds": None}} if own else {}),
        "conformal": [_without_seconds(entry) for entry in fields["conformal"]],
    }


def _without_seconds(entry: Record) -> Record:
    return entry | {name: None for name in ("fit_s", "seconds_per_example") if name in entry}


def _position(entry: dict[str, Any], key: str) -> int:
    """Place in the order of methods; a row that shares another's measurement has its place."""
    order: list[str] = entry["order"]
    return order.index(entry.get("shared", {}).get(key, key))


def _seconds(entries: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [entry["cells"][key]["end_to_end_s"] for entry in entries]


def _throughput(blocks: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Tokens a second, and what that is in sentences of these texts' mean length.

    Blocks hold about as many tokens each, of few long or many short sentences: sentences per second differ
    between them for their texts, and a typical block of that kind there is not.
    """
    sentences, tokens = (np.array([entry[name] for entry in blocks]) for name in ("sentences", "tokens"))
    rate = ratio_interval(tokens, _seconds(blocks, key))
    return {
        "sentences_per_s": _times(rate, float(sentences.sum() / tokens.sum())).as_dict(),
        "tokens_per_s": rate.as_dict(),
        "blocks": len({entry["block"] for entry in blocks}),
        "repetitions": len({entry["repetition"] for entry in blocks}),
    }


def _times(interval: Interval, factor: float) -> Interval:
    """The interval of a quantity that is a known multiple."""
    value, low, high = (
        None if end is None else factor * end for end in (interval.value, interval.low, interval.high)
    )
    return Interval(value, low, high, interval.reason)


def _stages(blocks: Sequence[dict[str, Any]], key: str) -> dict[str, float | None]:
    """Seconds per repetition of the plan; what is neither tokenising nor a forward pass is aggregation."""
    repetitions = len({entry["repetition"] for entry in blocks})

    def total(name: str) -> float | None:
        parts = [entry["cells"][key][name] for entry in blocks]
        return None if any(part is None for part in parts) else sum(parts) / repetitions

    whole, tokenise, forward = total("end_to_end_s"), total("tokenise_s"), total("forward_s")
    assert whole is not None
    rest = None if forward is None else whole - forward - (tokenise or 0.0)
    return {"end_to_end": whole, "tokenise": tokenise, "forward": forward, "aggregate": rest}


def _latency(journal: Entries, key: str) -> dict[str, Any]:
    samples = np.array([entry["cells"][key] for entry in journal.of_kind("latency") if key in entry["cells"]])
    percentiles = {name: percentile_interval(samples * 1000, q).as_dict() for name, q in QUANTILES.items()}
    return {"n": len(samples), **percentiles, "samples": [float(value * 1000) for value in samples]}


def _cost_ratio(entries: Sequence[dict[str, Any]], key: str, reference: str) -> dict[str, Any]:
    both = [entry for entry in entries if key in entry["cells"] and reference in entry["cells"]]
    if not both:
        return NO_REFERENCE.as_dict()
    return ratio_interval(_seconds(both, key), _seconds(both, reference)).as_dict()


def _latency_ratio(journal: Entries, key: str, reference: str) -> dict[str, Any]:
    entries = journal.of_kind("latency")
    both = [entry["cells"] for entry in entries if {key, reference} <= entry["cells"].keys()]
    if not both:
        return NO_REFERENCE.as_dict()
    return median_ratio_interval(
        [cells[key] for cells in both], [cells[reference] for cells in both]
    ).as_dict()


def _curve(journal: Entries, key: str, reference: str, passes: Sequence[int]) -> dict[str, Any]:
    entries = journal.of_kind("curve")
    at = {k: [entry for entry in entries if entry["passes"] == k and key in entry["cells"]] for k in passes}
    per_sentence = {
        k: sum(_seconds(found, key)) / sum(entry["sentences"] for entry in found) if found else None
        for k, found in at.items()
    }
    return {
        "seconds": [per_sentence[k] for k in passes],
        "cost_ratio": [_cost_ratio(at[k], key, reference) for k in passes],
    }
