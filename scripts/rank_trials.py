"""How often the interval of a mean rank holds, and how often methods are called different, over few tasks.

    python scripts/rank_trials.py        two minutes on one core; writes results/ranks.md

Methods are drawn with a true quality, something that is special to each task, and the noise of its examples.
The truth is the mean rank over very many such tasks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tabulate import tabulate

from calibench.compare.ranks import Apart, apart, mean_rank_intervals, redrawn
from calibench.stats.friedman import ranks_of
from calibench.types import FloatArray

TABLE = Path(__file__).resolve().parents[1] / "results" / "ranks.md"
TRIALS, RESAMPLES = 400, 200
TASKS = (3, 4, 5, 8, 15)
#: Qualities of the methods, in units of what is special to a task.
QUALITIES = {
    "2 equal": (0.0, 0.0),
    "6 equal": (0.0,) * 6,
    "4, a little apart": (-1.0, 0.0, 0.0, 1.0),
    "4, one far ahead": (-4.0, 0.0, 0.0, 0.0),
    "10, evenly apart": tuple(np.linspace(-2.0, 2.0, 10)),
}
NOISES = (0.1, 1.0)


def drawn(
    rng: np.random.Generator, truth: FloatArray, tasks: int, noise: float, resamples: int
) -> tuple[FloatArray, list[list[FloatArray]]]:
    """Losses, float64 [K, M], and resampled ones of each task."""
    shape = (tasks, len(truth))
    seen = truth + rng.normal(size=shape) + noise * rng.normal(size=shape)
    again = seen[:, None] + noise * rng.normal(size=(tasks, resamples, len(truth)))
    return seen, [[one] for one in again]


def trials(quality: tuple[float, ...], tasks: int, noise: float) -> list[str]:
    """Coverage over all methods, of the method that is held least, and how often differences are called."""
    rng = np.random.default_rng([tasks, round(10 * noise), len(quality)])
    truth = np.array(quality)
    population = ranks_of(drawn(rng, truth, 100_000, noise, 1)[0]).mean(axis=0)
    equal = truth[:, None] == truth[None, :]
    held, true, false = np.zeros(len(truth)), 0, 0
    for _ in range(TRIALS):
        seen, again = drawn(rng, truth, tasks, noise, RESAMPLES)
        ranks = ranks_of(seen)
        found = apart(ranks)
        assert isinstance(found, Apart)
        intervals = mean_rank_intervals(ranks, redrawn(again, rng))
        held += [
            (one.low or 0.0) <= mean <= (one.high or 0.0)
            for one, mean in zip(intervals, population, strict=True)
        ]
        false += bool((found.shown() & equal).any())
        true += bool((found.shown() & ~equal).any())
    share = held / TRIALS
    return [
        f"{share.mean():.3f}",
        f"{share.min():.3f}",
        f"{false / TRIALS:.3f}",
        "-" if equal.all() else f"{true / TRIALS:.3f}",
    ]


def main() -> None:
    """Write the table."""
    rows = [
        [name, tasks, noise, *trials(quality, tasks, noise)]
        for name, quality in QUALITIES.items()
        for tasks in TASKS
        for noise in NOISES
    ]
    heads = ["methods", "tasks", "noise", "held", "held least", "false call", "true call"]
    table = tabulate(rows, headers=heads, tablefmt="pipe", disable_numparse=True)
    TABLE.write_text(
        "# How often intervals of mean ranks hold\n\n"
        f"`scripts/rank_trials.py`, {TRIALS} trials a row. Noise is that of the examples, over what is "
        f"special "
        "to a task. Held: the share of nominal 95% intervals that hold the mean rank over very many "
        "tasks, over "
        "all methods, and of the method that is held least. False call: trials in which two methods of equal "
        "quality are told apart; true call: in which any two others are. The standard error of a share "
        "of .95 "
        f"is {np.sqrt(0.95 * 0.05 / TRIALS):.3f}.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
