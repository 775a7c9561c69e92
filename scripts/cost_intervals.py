"""How often the interval of a cost ratio holds the true ratio, on quiet machines and on others.

    python scripts/cost_intervals.py        under a minute on one core; writes results/cost-intervals.md

Times of a method that costs three times the reference are drawn in paired blocks, and the interval that
records had before, of the ratio of totals, is compared with the one that they have now, on the same draws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from calibench.stats.intervals import LEVEL
from calibench.stats.outliers import far_above
from calibench.stats.ratios import ratio_interval
from calibench.types import FloatArray, Interval

TABLE = Path(__file__).resolve().parents[1] / "results" / "cost-intervals.md"
RATIO = 3.0
BLOCKS = (4, 6, 12, 30)
REPLICATIONS = 10_000
#: Spread of a block's time on a quiet machine, on the log scale.
NOISE = 0.05
#: How many times as long a stalled block takes, evenly on the log scale.
STALL = (5.0, 50.0)

Noise = Callable[[np.random.Generator, int], FloatArray]


@dataclass(frozen=True)
class Population:
    """How times vary: what they are multiplied by, float64 [2, m], method and reference."""

    title: str
    noise: Noise


def quiet(rng: np.random.Generator, m: int) -> FloatArray:
    """Log-normal noise of either side."""
    return rng.lognormal(0.0, NOISE, (2, m))


def heavy(rng: np.random.Generator, m: int) -> FloatArray:
    """Student noise of two degrees of freedom on the log scale: no variance at all."""
    return np.exp(NOISE * rng.standard_t(2, (2, m)))


def busy(rng: np.random.Generator, m: int) -> FloatArray:
    """Every seventh time is longer by a half on average, for another process."""
    hit = rng.random((2, m)) < 0.15
    return quiet(rng, m) * np.exp(np.where(hit, rng.exponential(0.5, (2, m)), 0.0))


def drifting(rng: np.random.Generator, m: int) -> FloatArray:
    """A machine that grows slower or faster by a tenth from block to block, for both alike."""
    return quiet(rng, m) * np.exp(np.cumsum(rng.normal(0.0, 0.1, m)))


def one_stall(rng: np.random.Generator, m: int) -> FloatArray:
    """One block stalls, under the method or under the reference."""
    times = quiet(rng, m)
    times[rng.integers(2), rng.integers(m)] *= _stall(rng)
    return times


def one_suspension(rng: np.random.Generator, m: int) -> FloatArray:
    """One block stalls under both."""
    times = quiet(rng, m)
    times[:, rng.integers(m)] *= _stall(rng)
    return times


def two_stalls(rng: np.random.Generator, m: int) -> FloatArray:
    """Two blocks stall under the method: one more than is cut of six."""
    times = quiet(rng, m)
    times[0, rng.permutation(m)[:2]] *= _stall(rng)
    return times


def _stall(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(STALL))))


POPULATIONS = (
    Population("quiet", quiet),
    Population("heavy tails", heavy),
    Population("busy", busy),
    Population("drift", drifting),
    Population("one block stalls, either side", one_stall),
    Population("one block stalls, both sides", one_suspension),
    Population("two blocks stall, the method's", two_stalls),
)


def interval_of_totals(above: FloatArray, below: FloatArray) -> Interval:
    """The interval before: of the ratio of totals, by its linearised residuals (Cochran 1977, sec. 6.3)."""
    m = len(above)
    ratio = float(above.sum() / below.sum())
    residuals = (above - ratio * below) / below.mean()
    half = float(special.stdtrit(m - 1, 0.5 + LEVEL / 2.0) * np.sqrt((residuals**2).sum() / (m - 1) / m))
    return Interval(ratio, ratio - half, ratio + half)


@dataclass(frozen=True)
class Found:
    """What the intervals of many draws are.

    Attributes:
        inside: share that hold the true ratio.
        width: median of high - low, over the true ratio.
        wrong: of two methods of one cost, the share of the runs that tell them apart.
        shown: share that tell a method of three times the cost from one of the same cost.
    """

    inside: float
    width: float
    wrong: float
    shown: float


def study(noise: Noise, m: int, interval: Callable[[FloatArray, FloatArray], Interval], count: int) -> Found:
    """Intervals of `count` runs of m blocks; the same runs whatever the interval."""
    rng = np.random.default_rng([m, count])
    ends = np.empty((count, 2))
    alike = np.empty((count, 2))
    for run in range(count):
        above, below = noise(rng, m)
        ends[run] = _ends(interval(RATIO * above, below))
        alike[run] = _ends(interval(above, below))
    return Found(
        float(np.mean((ends[:, 0] <= RATIO) & (ends[:, 1] >= RATIO))),
        float(np.median(ends[:, 1] - ends[:, 0]) / RATIO),
        float(np.mean((alike[:, 0] > 1.0) | (alike[:, 1] < 1.0))),
        float(np.mean(ends[:, 0] > 1.0)),
    )


def _ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def marked(noise: Noise, m: int, count: int) -> float:
    """Blocks of the method that are marked as stalled, per run."""
    rng = np.random.default_rng([m, count])
    return float(np.mean([(far_above(noise(rng, m)[0]) >= 1.0).sum() for _ in range(count)]))


HEAD = """# Intervals of cost ratios

What `python scripts/cost_intervals.py` found over {count:,} runs per row of a method that costs three
times the reference. *Before* is the ratio of totals with the interval of its linearised residuals;
*now* the trimmed mean of log ratios with Tukey and McLaughlin's. *Holds* is how often the 95% interval
holds the true ratio, to {error:.1f} points (one standard error at 95%); *width* the median width over
the ratio; *false* how often two methods of one cost are told apart, 5% being what is promised; *shown*
how often the threefold cost is shown to be more than the reference's. *Marked* is how many of the
method's blocks are seen as stalled, per run: these are timed again, which the other columns leave out.
Times have a spread of 5%; a stalled block takes {low:.0f} to {high:.0f} times as long.

"""
COLUMNS = (
    *("machine", "blocks", "holds, before", "now", "width, before", "now"),
    *("false, before", "now", "shown, before", "now", "marked"),
)


def main() -> int:
    """Study every population and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--table", type=Path, default=TABLE)
    given = parser.parse_args()
    count = given.replications
    error = 100.0 * np.sqrt(LEVEL * (1.0 - LEVEL) / count)
    text = HEAD.format(count=count, error=error, low=STALL[0], high=STALL[1])
    text += f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}\n"
    for population in POPULATIONS:
        for m in BLOCKS:
            both = [study(population.noise, m, one, count) for one in (interval_of_totals, ratio_interval)]
            cells = [population.title, str(m)]
            for name in ("inside", "width", "wrong", "shown"):
                form = "{:.2f}" if name == "width" else "{:.1%}"
                cells += [form.format(getattr(found, name)) for found in both]
            cells.append(f"{marked(population.noise, m, count):.2f}")
            row = f"| {' | '.join(cells)} |"
            print(row, flush=True)
            text += row + "\n"
    given.table.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
