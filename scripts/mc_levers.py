"""What could still make MC-Dropout cheaper at a given error? -> the section "Levers" of results/mc-speed.md.

    python scripts/mc_levers.py --model FOLDER --texts FILE --train FILE [--column sentence] [--keep FILE]

Of a DistilBERT classifier. Each lever is measured as a bound and not built: passes of the whole model beside
passes of its first layers, of its bfloat16 twin and of its first-order expansion, all under the same keyed
masks. What is in parquet files is read; those of --train are the texts over whose passes heads for the first
layers are fitted. Rows labelled `--without` are left out. All but a ratio of CPU times is deterministic; one
thread, ten minutes for 200 sentences, none where --keep names what an earlier run has kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tabulate import tabulate
from torch import Tensor, nn

from calibench.models.checkpoint import Checkpoint
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.types import FloatArray, IntArray, Plan
from calibench_methods.dropout.accuracy import mask_correlation
from calibench_methods.one_pass.frequentist import Frequentist
from calibench_methods.sampling.copies import Copies
from calibench_methods.sampling.keyed_dropout import Intercept

STRATUM, STRATA, ROUNDED_STRATA = 10, 16, 3
#: Of independent passes, whose error is the one to match.
MATCHED = 50
#: Drop probability of all sites but one of the models measured.
RATE = 0.1
#: Largest stratum, and most passes of a text.
LARGEST, MOST = 31, 400
#: Forward passes that the deterministic pass and its gradient by the masks cost, weights being fixed.
GRADIENT = 2
#: Share of a layer's matrix products that the last one makes where only the first token is read: its keys,
#: queries and values, of 12 squares of the width.
LAST_LAYER = 3 / 12
RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Passes:
    """What T passes over N texts give for the class that the whole model predicts; each array is [T, N].

    Attributes:
        whole: probabilities.
        cheap: of each cheaper pass by name, under the same masks.
        first_order: the log-odds' first-order change by the masks, whose mean is 0.
        log_odds: [N], of the deterministic pass.
        lengths: int64 [N], in tokens.
    """

    whole: FloatArray
    cheap: Mapping[str, FloatArray]
    first_order: FloatArray
    log_odds: FloatArray
    lengths: IntArray


class Layers:
    """The whole model and its first layers, read from the same passes.

    Args:
        copies: with first-token cut, in the checkpoint's dtype.
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._model: Any = copies.module.model
        self._states: list[Tensor] = []
        self.depth = len(self._model.distilbert.transformer.layer)
        for layer in self._model.distilbert.transformer.layer:
            layer.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, output: Any) -> None:
        states = output if isinstance(output, Tensor) else output[0]
        self._states.append(states[:, 0])

    def __call__(self, inputs: Mapping[str, Tensor], rows: Any, passes: range, seed: int) -> list[Tensor]:
        """The first token's state after each layer, [T B, D], in rows pass by pass; masks stay selected."""
        self._states.clear()
        module = self._copies.module
        module.select(seed=seed, rows=rows, passes=passes, device=torch.device("cpu"))
        with torch.inference_mode():
            self.logits = module(**{k: v.repeat(len(passes), 1) for k, v in inputs.items()}).logits
        return list(self._states)

    def head(self, state: Tensor) -> Tensor:
        """The model's own head on a state, under the masks of the last passes."""
        module = self._copies.module
        module._draws.clear()
        with torch.inference_mode(), module._intercept:
            return self._model.classifier(self._model.dropout(self._model.pre_classifier(state).relu()))


class Expansion:
    """The gradient of the log-odds by every mask, at the deterministic pass, and what masks make of it."""

    def __init__(self, copies: Copies) -> None:
        self._module = copies.module
        self._keyed = self._module._intercept
        self._seen: list[tuple[str, float, Tensor, Tensor]] = []

    def _record(self, values: Tensor, p: float, scale: float) -> Tensor | None:
        del scale
        if not self._module._running:
            return None
        out = values * 1.0
        self._seen.append((self._module._running[-1], p, values, out))
        return out

    def at(self, inputs: Mapping[str, Tensor], rows: Any, chosen: Tensor) -> Tensor:
        """The chosen class's log-odds, [B]; the expansion is kept for `change`."""
        self._seen.clear()
        self._rows = rows
        self._module.select(seed=0, rows=rows, passes=range(1), device=torch.device("cpu"))
        self._module._intercept = Intercept(self._record)
        try:
            logits = self._module(**inputs).logits
        finally:
            self._module._intercept = self._keyed
        own = logits.gather(1, chosen[:, None])
        others = logits.scatter(1, chosen[:, None], -torch.inf).logsumexp(dim=1)
        odds = own[:, 0] - others
        gradients = torch.autograd.grad(odds.sum(), [out for *_, out in self._seen])
        self._terms = [
            (site, p, (values * gradient).detach())
            for (site, p, values, _), gradient in zip(self._seen, gradients, strict=True)
        ]
        return odds.detach()

    def change(self, passes: range, seed: int) -> Tensor:
        """The first-order change of the log-odds in each pass, [T, B]."""
        module, count = self._module, len(passes)
        module.select(seed=seed, rows=self._rows, passes=passes, device=torch.device("cpu"))
        module._draws.clear()
        total = torch.zeros(count, len(self._rows))
        with torch.inference_mode():
            for site, p, term in self._terms:
                module._running[:] = [site]
                copied = term.repeat(count, *[1] * (term.dim() - 1))
                masked = module._dropout(copied, p, 1 / (1 - p))
                assert masked is not None
                total += (masked - copied).flatten(1).sum(dim=1).view(count, -1)
            module._running.clear()
        return total


def of_class(logits: Tensor, chosen: Tensor, copies: int) -> FloatArray:
    """Probabilities of the chosen classes [B] in logits [T B, C]: float64 [T, B]."""
    probs = logits.double().softmax(dim=1)
    found: FloatArray = probs.gather(1, chosen.repeat(copies)[:, None]).view(copies, -1).numpy()
    return found


def fitted_maps(layers: Layers, plan: Plan) -> list[tuple[Tensor, Tensor]]:
    """For each of the first layers the linear map to the last one's state, and from masked units to logits.

    The former is put before the model's own head, the latter in the place of its last layer, both least
    squares with a small ridge, over two passes of every text.
    """
    states: list[list[Tensor]] = [[] for _ in range(layers.depth)]
    units: list[list[Tensor]] = [[] for _ in range(layers.depth)]
    logits = []
    for batch in plan.batches:
        found = layers(batch.inputs, plan.rows[batch.index], range(2), seed=7)
        logits.append(layers.logits)
        for k, state in enumerate(found):
            states[k].append(state)
            units[k].append(masked_units(layers, state))
    target, answers = torch.cat(states[-1]), torch.cat(logits)
    return [
        (ridge(torch.cat(states[k]), target), ridge(torch.cat(units[k]), answers))
        for k in range(layers.depth - 1)
    ]


def masked_units(layers: Layers, state: Tensor) -> Tensor:
    """What the model's last layer would be given, under the masks of the last passes."""
    seen: list[Tensor] = []
    handle = layers._model.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    layers.head(state)
    handle.remove()
    return seen[0]


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """The map of (x, 1) [N, D + 1] to y [N, K] with the least squares, float32 [D + 1, K]."""
    x = nn.functional.pad(x.double(), (0, 1), value=1.0)
    moments = x.T @ x / len(x)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    return torch.linalg.solve(moments, x.T @ y.double() / len(x)).float()


def apply(map_: Tensor, x: Tensor) -> Tensor:
    return nn.functional.pad(x, (0, 1), value=1.0) @ map_


def measured(checkpoint: Checkpoint, plan: Plan, train: Plan) -> Passes:
    """Passes of all kinds over the texts of a plan."""
    copies = Copies(checkpoint, stratum=STRATUM, independent=False, first_token=True)
    rounded = Copies(checkpoint, stratum=STRATUM, independent=False, first_token=True, dtype="bfloat16")
    layers, expansion = Layers(copies), Expansion(copies)
    maps = fitted_maps(layers, train)
    chosen = Frequentist(checkpoint).predict(plan, seed=0).probs.argmax(axis=1)
    count = len(plan)
    names = [f"{kind} {k}" for k in range(1, layers.depth) for kind in ("own", "mapped", "refitted")]
    whole, first_order = np.empty((STRATA * STRATUM, count)), np.empty((STRATA * STRATUM, count))
    cheap = {name: np.empty((STRATA * STRATUM, count)) for name in names}
    cheap["bfloat16"] = np.empty((ROUNDED_STRATA * STRATUM, count))
    log_odds = np.empty(count)
    for batch in plan.batches:
        rows, index = plan.rows[batch.index], batch.index
        picked = torch.from_numpy(chosen[index])
        log_odds[index] = expansion.at(batch.inputs, rows, picked).numpy()
        for stratum in range(STRATA):
            passes = range(stratum * STRATUM, (stratum + 1) * STRATUM)
            here = slice(passes.start, passes.stop)
            first_order[here, index] = expansion.change(passes, seed=0).numpy()
            states = layers(batch.inputs, rows, passes, seed=0)
            whole[here, index] = of_class(layers.logits, picked, STRATUM)
            for k, (state, (translate, last)) in enumerate(zip(states[:-1], maps, strict=True), start=1):
                tried = {
                    "own": layers.head(state),
                    "mapped": layers.head(apply(translate, state)),
                    "refitted": apply(last, masked_units(layers, state)),
                }
                for kind, logits in tried.items():
                    cheap[f"{kind} {k}"][here, index] = of_class(logits, picked, STRATUM)
            if stratum < ROUNDED_STRATA:
                logits = rounded.logits(batch.inputs, rows, passes, seed=0)
                cheap["bfloat16"][here, index] = of_class(logits.flatten(0, 1), picked, STRATUM)
    lengths = np.array([len(ids) for ids in plan.token_ids], dtype=np.int64)
    return Passes(whole, cheap, first_order, log_odds, lengths)


@dataclass(frozen=True, eq=False)
class Spread:
    """How passes of a text vary, float64 [N] each.

    Attributes:
        single: variance of one pass.
        first, second: its parts of first and of second order in the masks, by the variance of stratum means;
            what is of higher order counts as second.
    """

    single: FloatArray
    first: FloatArray
    second: FloatArray


def means_of_strata(values: FloatArray) -> FloatArray:
    """[G, N] of passes [T, N]."""
    means: FloatArray = values.reshape(-1, STRATUM, values.shape[1]).mean(axis=1)
    return means


def spread_of(values: FloatArray) -> Spread:
    between = means_of_strata(values).var(axis=0, ddof=1)
    single = values.var(axis=0) + between * STRATUM / len(values)
    # A stratum of whole T p has correlation -1/(T - 1): nothing left of the first order.
    second = np.minimum(between * STRATUM / (1 + 1 / (STRATUM - 1)), single)
    return Spread(single, single - second, second)


def explained(whole: FloatArray, cheap: FloatArray) -> float:
    """Squared correlation within texts: what cheap values explain of the whole ones' variance, over texts.

    The better of one coefficient for all texts, and one for each, less what it explains by chance.
    """
    a, b = (values - values.mean(axis=0) for values in (whole, cheap))
    together, own, other = (a * b).sum(axis=0), (a * a).sum(axis=0), (b * b).sum(axis=0)
    common = together.sum() ** 2 / (own.sum() * other.sum())
    free = len(a) - 1
    left = (own - together**2 / np.maximum(other, np.finfo(np.float64).tiny)) * free / (free - 1)
    return float(np.clip(max(common, 1 - left.sum() / own.sum()), 0, 1))


def multilevel(share: float, cost: float, *, prefix: bool) -> float:
    """Cost of an optimal two-level estimate, in that of plain passes with the same error (Giles, 2008).

    Many cheap passes of the given cost, and few whole ones for the difference, under the masks of the first
    of the cheap ones; the coefficient of the difference is the best. 1 where that does not pay: the first
    layers pay where the squared correlation is above their cost.

    Args:
        share: squared correlation.
        cost: of a cheap pass, in whole ones.
        prefix: whether a whole pass makes the cheap one on its way.
    """
    if prefix and share <= cost:
        return 1.0
    extra = 1 - cost if prefix else 1
    return float(min((np.sqrt((1 - share) * extra) + np.sqrt(share * cost)) ** 2, 1.0))


@dataclass(frozen=True, eq=False)
class Options:
    """Ways to spend passes on a text: cost in passes [K], and variance of the estimate [K, N]."""

    cost: FloatArray
    variance: FloatArray

    def __add__(self, other: Options) -> Options:
        return Options(
            np.concatenate([self.cost, other.cost]), np.concatenate([self.variance, other.variance])
        )


def in_strata(spread: Spread, sizes: Sequence[int], whole: int) -> Options:
    """Whole strata of each size, and incomplete ones of size `whole` below it."""
    cost, variance = [], []

    def add(taken: int, size: int, strata: int) -> None:
        rho = mask_correlation([RATE], size) if size > 1 else 0.0
        factors = (1 + (taken - 1) * rho) * spread.first + (1 + (taken - 1) * rho**2) * spread.second
        cost.append(taken * strata)
        variance.append(factors / (taken * strata))

    for size in sizes:
        for strata in range(1, MOST // size + 1):
            add(size, size, strata)
    for taken in range(1, whole):
        add(taken, whole, 1)
    return Options(np.array(cost, dtype=np.float64), np.stack(variance))


def least_cost(choose: Options, judge: Options, lengths: IntArray, error: float) -> float:
    """Passes by tokens of the best allocation with this mean squared error over texts, one option a text.

    Args:
        choose: by which the options are chosen, as a Lagrangian relaxation does.
        judge: by which the error counts; the same options.
    """
    weights = lengths / lengths.sum()
    every = np.arange(len(lengths))
    best = np.inf
    low, high = -12.0, 4.0
    for _ in range(60):
        price = 10 ** ((low + high) / 2)
        chosen = (choose.variance + price * choose.cost[:, None] * weights * len(lengths)).argmin(axis=0)
        reached = judge.variance[chosen, every].mean() <= error
        if reached:
            best = min(best, float((choose.cost[chosen] * weights).sum()))
        low, high = ((low + high) / 2, high) if reached else (low, (low + high) / 2)
    return best


def smooth_bound(spread: FloatArray, lengths: IntArray, error: float) -> float:
    """Passes by tokens where n(x) is any number and the variance spread(x)^2 / n(x), with spread known."""
    return float((spread * np.sqrt(lengths)).sum() ** 2 / (len(spread) * error * lengths.sum()))


def curved(found: Passes) -> tuple[FloatArray, FloatArray]:
    """The logistic function of the first-order log-odds, [T, N], and its mean under normal log-odds, [N]."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    x = found.log_odds[:, None] + found.first_order.std(axis=0)[:, None] * nodes
    mean = (1 / (1 + np.exp(-x))) @ (weights / weights.sum())
    return 1 / (1 + np.exp(-(found.log_odds + found.first_order))), mean


def sampled(path: Path, column: str, without: int | None, limit: int, seed: int) -> tuple[list[str], Any]:
    """Random texts of a parquet file, and their row numbers."""
    table = pq.read_table(path)
    found = table[column].to_pylist()
    rows = np.arange(len(found))
    if without is not None:
        label = next(name for name in ("intent", "label") if name in table.column_names)
        rows = np.flatnonzero(table[label].to_numpy() != without)
    chosen = rows[np.sort(np.random.default_rng(seed).choice(len(rows), size=limit, replace=False))]
    return [found[row] for row in chosen], chosen


def rounded_cost(checkpoint: Checkpoint, plan: Plan) -> float:
    """CPU seconds of a deterministic pass in bfloat16 over those in float32, the least of three each."""
    seconds = {}
    for dtype in ("same", "bfloat16"):
        method = Frequentist(checkpoint, dtype=dtype)
        times = []
        for _ in range(4):
            start = time.process_time()
            method.predict(plan, seed=0)
            times.append(time.process_time() - start)
        seconds[dtype] = min(times[1:])
    return seconds["bfloat16"] / seconds["same"]


def stored(found: Passes, ratio: float, file: Path) -> None:
    cheap = {f"cheap {name}": values for name, values in found.cheap.items()}
    arrays = {name: getattr(found, name) for name in ("whole", "first_order", "log_odds", "lengths")}
    np.savez(file, allow_pickle=False, ratio=ratio, **arrays, **cheap)


def restored(file: Path) -> tuple[Passes, float]:
    with np.load(file) as kept:
        cheap = {name.removeprefix("cheap "): kept[name] for name in kept if name.startswith("cheap ")}
        arrays = [kept[name] for name in ("log_odds", "lengths")]
        return Passes(kept["whole"], cheap, kept["first_order"], *arrays), float(kept["ratio"])


def table(rows: list[list[str]], *head: str) -> str:
    found: str = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    return found


def shares_of(whole: FloatArray, cheap: FloatArray) -> tuple[float, float]:
    """`explained` of passes, and of the means of strata."""
    return explained(whole, cheap), explained(means_of_strata(whole), means_of_strata(cheap))


def of_cheap_passes(found: Passes, ratio: float, depth: int) -> str:
    rows = []
    for name, values in found.cheap.items():
        kind, _, layers = name.partition(" ")
        cost = int(layers) / (depth - 1 + LAST_LAYER) if layers else ratio
        shares = shares_of(found.whole[: len(values)], values)
        what = f"first {layers} of {depth} layers, {kind} head" if layers else f"{name}, {len(values)} passes"
        digits = 2 if layers else 4
        factors = (multilevel(share, cost, prefix=bool(layers)) for share in shares)
        rows.append(
            [what, f"{cost:.2f}", *(f"{x:.{digits}f}" for x in shares), *(f"{x:.2f}" for x in factors)]
        )
    return table(
        rows, "cheap pass", "its cost", "rho², passes", "rho², strata", "cost factor, passes", "of strata"
    )


def of_control_variates(found: Passes) -> str:
    curve, mean = curved(found)
    rows = []
    for name, values in (("first order", found.first_order), ("its logistic function", curve)):
        shares = shares_of(found.whole, values)
        rows.append([name, *(f"{x:.2f}" for x in shares), *(f"{1 - x:.2f}" for x in shares)])
    off = np.sqrt(np.square(curve.mean(axis=0) - mean).mean())
    head = ("control variate", "rho², passes", "rho², strata", "variance left, passes", "of strata")
    return f"{table(rows, *head)}\n\nRoot mean square error of the latter's mean, taken as normal: {off:.4f}."


def with_gradient(found: Passes, spread: Spread) -> Options:
    """Few independent passes with the better control variate of the two, or strata with the curved one."""
    curve, _ = curved(found)
    left = []
    for values in (found.first_order, curve):
        a, b = (x - x.mean(axis=0) for x in (found.whole, values))
        together = (a * b).sum(axis=0) ** 2
        left.append(1 - together / np.maximum((a * a).sum(axis=0) * (b * b).sum(axis=0), 1e-300))
    taken = np.arange(1, STRATUM)
    few = Options(taken + float(GRADIENT), np.minimum(*left) * spread.single / taken[:, None])
    share = explained(means_of_strata(found.whole), means_of_strata(curve))
    strata = in_strata(replace(spread, second=spread.second * (1 - share)), range(1, LARGEST + 1), 1)
    return few + replace(strata, cost=strata.cost + GRADIENT)


def of_allocations(found: Passes) -> str:
    """Passes by tokens with every text's spread known, by the same passes or by others."""
    every_size = range(1, LARGEST + 1)
    kinds: dict[str, Callable[[Spread], Options]] = {
        "independent passes": lambda s: in_strata(Spread(s.single, 0 * s.single, s.single), [1], 1),
        "strata of 10, and beginnings of one": lambda s: in_strata(s, [STRATUM], STRATUM),
        "strata of 1 to 31, and beginnings": lambda s: in_strata(s, every_size, STRATUM),
        "the same, or control variates": lambda s: (
            in_strata(s, every_size, STRATUM) + with_gradient(found, s)
        ),
    }
    spread, half = spread_of(found.whole), len(found.whole) // 2
    error = float(spread.single.mean()) / MATCHED
    halves = [spread_of(found.whole[:half]), spread_of(found.whole[half:])]
    rows = []
    for name, options in kinds.items():
        known = least_cost(options(spread), options(spread), found.lengths, error)
        other = [least_cost(options(a), options(b), found.lengths, error) for a, b in (halves, halves[::-1])]
        rows.append([name, f"{known:.2f}", f"{np.mean(other):.2f}"])
    smooth = smooth_bound(np.sqrt(spread.second), found.lengths, error)
    rows.append(["passes in any fraction, without first order", f"{smooth:.2f}", ""])
    first = 1 - spread.second.sum() / spread.single.sum()
    head = table(rows, "allocation", "spreads of these passes", "of the other half")
    return (
        f"{head}\n\nMatched error {np.sqrt(error):.4f}; of a pass's variance {first:.0%} is of first order."
    )


def report(found: Passes, ratio: float, depth: int) -> str:
    """What each lever explains, and the passes that follow, as markdown."""
    parts = (of_cheap_passes(found, ratio, depth), of_control_variates(found), of_allocations(found))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True, type=Path)
    parser.add_argument("--train", required=True, type=Path)
    parser.add_argument("--column", default="sentence")
    parser.add_argument("--without", type=int)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(options.model, device="cpu")
    if options.keep is None or not options.keep.exists():
        planner = Planner.of(checkpoint, token_budget=400)
        texts, train = (
            planner.plan(*sampled(path, options.column, options.without, count, seed))
            for path, count, seed in ((options.texts, options.limit, 0), (options.train, 1500, 1))
        )
        found, ratio = measured(checkpoint, texts, train), rounded_cost(checkpoint, texts)
        if options.keep is not None:
            stored(found, ratio, options.keep)
    else:
        found, ratio = restored(options.keep)
    print(report(found, ratio, checkpoint.module.config.n_layers))


if __name__ == "__main__":
    main()
