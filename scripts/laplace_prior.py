"""What the last layer's Laplace approximation is worth, and under which prior -> results/laplace.md.

    python scripts/make_tasks.py tasks; python scripts/make_tasks.py tasks --recipe well
    python scripts/make_tasks.py tasks --recipe badly; python scripts/make_tasks.py tasks --recipe between
    python scripts/laplace_prior.py --models models --data data --tasks tasks     a quarter of an hour

Needs laplace-torch, beside which ours is put. Quality only; the structure is "kron" where none is named.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from make_tasks import RECIPES
from scipy.special import softmax

from calibench.compare.verdicts import Difference, compare
from calibench.data import generated, huggingface
from calibench.data.labels import align, labelled
from calibench.data.subset import in_scope, limit, take
from calibench.metrics.calibration import ECE
from calibench.metrics.detection import OOS_AUROC
from calibench.metrics.scoring import ACCURACY, NLL
from calibench.models.encoder import Encoder
from calibench.models.loading import load_checkpoint
from calibench.models.plan import Planner
from calibench.models.train_features import train_features
from calibench.types import Dataset, Evaluation, FloatArray, IntArray, LabelledPlan, Metric
from calibench_methods.one_pass.laplace_last import (
    COMPARED,
    STRUCTURES,
    Posterior,
    Texts,
    best_precision,
    confident_precision,
    effective,
    narrowed,
)

RESULT = Path(__file__).resolve().parents[1] / "results" / "laplace.md"
GRID = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000)
FOLDS = 5
DRAWS = 100
#: Texts on which ours is put beside laplace-torch.
BESIDE = 100


@dataclass(frozen=True, eq=False)
class Task:
    """A checkpoint's last layer, the texts that it was trained on, and those that it is judged by.

    Attributes:
        weight, bias: float64 [C, D] and [C].
        train, held, scored: held are not scored, unless there are no others.
    """

    name: str
    weight: FloatArray
    bias: FloatArray
    train: Texts
    held: Texts
    scored: Texts

    @property
    def norm(self) -> float:
        return float((self.weight**2).sum() + (self.bias**2).sum())


def task(name: str, model: Path, load: Callable[[str], Dataset], splits: tuple[str, str], seen: int) -> Task:
    """Run a checkpoint; `seen` training texts are drawn at random, or are the first where it is negative."""
    checkpoint = load_checkpoint(str(model), device="cpu")
    encoder, planner = Encoder(checkpoint), Planner.of(checkpoint)

    def texts(dataset: Dataset) -> Texts:
        found = train_features(
            checkpoint, encoder, LabelledPlan(planner.plan(dataset.texts, dataset.rows), dataset.labels)
        )
        phi = np.pad(found.features.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        return Texts(phi, found.logits.astype(np.float64), dataset.labels, dataset.rows)

    train = in_scope(align(load("train"), checkpoint.labels, out_of_scope=("oos",)))
    train = limit(train, seen, 0) if seen > 0 else take(train, np.arange(min(-seen, len(train))))
    held, scored = (align(load(split), checkpoint.labels, out_of_scope=("oos",)) for split in splits)
    weight, bias = (value.detach().double().numpy() for value in encoder.head.linear.parameters())
    return Task(name, weight, bias, texts(train), texts(in_scope(held)), texts(scored))


def tasks(models: Path, data: Path, folder: Path) -> Iterator[Task]:
    """SST-2 by three checkpoints, CLINC150, and the generated tasks by each recipe."""
    sst2 = partial(huggingface.load, str(data / "sst2"))
    for seed in ("", "-seed1", "-seed2"):
        yield task(
            f"sst2{seed}", models / f"sst2-minilm{seed}", lambda s: sst2(split=s), ("validation",) * 2, 10_000
        )

    def clinc(split: str) -> Dataset:
        found = huggingface.load(
            str(data / "clinc_oos"), split=split, text_columns=["text"], label_column="intent"
        )
        return labelled(found, None, ("oos",))

    yield task("clinc", models / "clinc-minilm", clinc, ("validation", "test"), 15_000)
    for how, recipe in RECIPES.items():
        for name in generated.TASKS:
            load = partial(generated.load, name)
            yield task(
                f"{name}-{how}",
                folder / f"{name}-{how}",
                lambda split, load=load: load(split=split),
                ("validation", "test"),
                -recipe.texts,
            )


# What a prior precision is chosen by.


def kron(of: Texts) -> Posterior:
    return STRUCTURES["kron"](of.phi, softmax(of.logits, axis=1))


def by_evidence(of: Task, posterior: Posterior) -> float:
    return best_precision(posterior.eigenvalues, of.norm)


def by_weights(of: Task, posterior: Posterior) -> float:
    """Under which a prior's weights are as large as the trained ones are."""
    return len(posterior.eigenvalues) / of.norm


def by_folds(of: Task, _: Posterior) -> float:
    """Of the grid, by the NLL of training texts under the curvature of the other folds."""
    texts = of.train
    fold = np.random.default_rng(0).permutation(len(texts.labels)) % FOLDS
    totals = np.zeros(len(GRID))
    for k in range(FOLDS):
        others, here = (part(texts, np.flatnonzero(chosen)) for chosen in (fold != k, fold == k))
        posterior = kron(others)
        for at, precision in enumerate(GRID):
            posterior.settle(precision)
            totals[at] += value(NLL, probit(posterior, here), here) * len(here.labels)
    return float(GRID[totals.argmin()])


def by_confidence(of: Task, posterior: Posterior) -> float:
    count = len(of.train.labels)
    chosen = np.linspace(0, count - 1, min(count, COMPARED)).astype(np.int64)
    return confident_precision(posterior, part(of.train, chosen), by_evidence(of, posterior))


# What becomes of the Gaussian.


def probit(posterior: Posterior, texts: Texts) -> FloatArray:
    found: FloatArray = softmax(narrowed(texts.logits, posterior.variances(texts.phi)), axis=1)
    return found


def centred(posterior: Posterior, texts: Texts) -> FloatArray:
    """Probit of the logits less their mean, which a constant added to all of them does not change."""
    classes = texts.logits.shape[1]
    found = []
    for index in chunks(texts):
        phi, logits = texts.phi[index], texts.logits[index]
        root = posterior.deviations(
            phi, np.broadcast_to(np.eye(classes)[:, None], (classes, len(phi), classes))
        )
        variances = np.square(root - root.mean(axis=2, keepdims=True)).sum(axis=0)
        found.append(softmax(narrowed(logits - logits.mean(axis=1, keepdims=True), variances), axis=1))
    return np.concatenate(found)


def sampled(posterior: Posterior, texts: Texts) -> FloatArray:
    rng = np.random.default_rng(0)
    found = []
    for index in chunks(texts):
        normal = rng.standard_normal((DRAWS, len(index), texts.logits.shape[1]))
        moved = texts.logits[index] + posterior.deviations(texts.phi[index], normal)
        found.append(softmax(moved, axis=2).mean(axis=0))
    return np.concatenate(found)


def chunks(texts: Texts) -> list[IntArray]:
    return np.array_split(np.arange(len(texts.labels)), -(-len(texts.labels) // 100))


def part(texts: Texts, index: IntArray) -> Texts:
    return Texts(texts.phi[index], texts.logits[index], texts.labels[index], texts.rows[index])


def value(metric: Metric, probs: FloatArray, texts: Texts) -> float:
    return metric.evaluate(metric.of(Evaluation(probs, texts.labels)))


PRIORS = {
    "evidence": by_evidence,
    "weights": by_weights,
    "folds": by_folds,
    "confidence": by_confidence,
}
WAYS = {"probit": probit, "centred": centred, "sampled": sampled}
#: What is judged, as (prior, predictive).
CANDIDATES = (
    ("evidence", "probit"),
    ("evidence", "centred"),
    ("evidence", "sampled"),
    ("weights", "probit"),
    ("weights", "sampled"),
    ("folds", "probit"),
    ("folds", "centred"),
    ("confidence", "probit"),
    ("confidence", "sampled"),
)
HEAD = "| {} |\n|---|{}|"


def heading(*names: str) -> str:
    return HEAD.format(" | ".join(names), "|".join(["---:"] * (len(names) - 1)))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


# The tables.


def variance_row(of: Task, posterior: Posterior) -> str:
    """Where the variance of the logits comes from, under the evidence's prior."""
    precision = by_evidence(of, posterior)
    posterior.settle(precision)
    classes, count = of.scored.logits.shape[1], len(posterior.eigenvalues)
    whole = posterior.variances(of.scored.phi).sum(axis=1)
    # Of curvature there is none along (1, ..., 1), so that the variance there is the prior's.
    common = np.square(of.scored.phi).sum(axis=1) / precision
    train = softmax(of.train.logits, axis=1)
    return row(
        of.name,
        f"{classes}",
        f"{value(ACCURACY, train, of.train):.4f}",
        f"{train.max(axis=1).mean():.4f}",
        f"{effective(posterior.eigenvalues, precision):,.0f} of {count:,}",
        f"{precision:.1f}",
        f"{by_weights(of, posterior):.0f}",
        f"{np.median(whole) / classes:.2f}",
        f"{np.median(common / whole):.1%}",
    )


def grid_lines(of: Task, posterior: Posterior) -> list[str]:
    """NLL and ECE of the held texts by prior precision."""
    plain = softmax(of.held.logits, axis=1)
    lines = [f"### {of.name}", "", heading("delta", "probit: NLL", "ECE", "sampled: NLL", "ECE")]
    for precision in GRID:
        posterior.settle(precision)
        probs = [WAYS[way](posterior, of.held) for way in ("probit", "sampled")]
        lines.append(
            row(f"{precision:,}", *(f"{value(m, p, of.held):.4f}" for p in probs for m in (NLL, ECE)))
        )
    both = [f"{value(m, plain, of.held):.4f}" for m in (NLL, ECE)]
    return [*lines, row("plain softmax", *both, *both), ""]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the candidates are worth on one task: by (prior, predictive)."""

    name: str
    plain: dict[str, float]
    differences: dict[tuple[str, str], dict[str, Difference]]
    values: dict[tuple[str, str], dict[str, float]]
    precisions: dict[str, float]


def judge(of: Task, posterior: Posterior) -> Judged:
    """Each candidate against the softmax, in a family of its own: its losses have the most power then."""
    plain = softmax(of.scored.logits, axis=1)
    precisions = {name: choose(of, posterior) for name, choose in PRIORS.items()}
    metrics = (NLL, ECE, *([OOS_AUROC] if (of.scored.labels < 0).any() else []))
    differences, values = {}, {}
    for prior, way in CANDIDATES:
        posterior.settle(precisions[prior])
        probs = WAYS[way](posterior, of.scored)
        found = compare(plain, {way: probs}, of.scored.labels, resamples=1000, seed=0)
        differences[prior, way] = {item.metric: item for item in found}
        values[prior, way] = {metric.name: value(metric, probs, of.scored) for metric in metrics}
    base = {metric.name: value(metric, plain, of.scored) for metric in metrics}
    return Judged(of.name, base, differences, values, precisions)


#: As they are counted, each with its mark in a table.
MARKS = {"better": " (b)", "no difference shown": "", "worse": " (w)"}


def nll_lines(judged: list[Judged]) -> list[str]:
    """By task, the difference in NLL of each candidate, with its verdict."""
    lines = [heading("", "softmax", *(f"{prior}, {way}" for prior, way in CANDIDATES))]
    for one in judged:
        found = [one.differences[candidate]["nll"] for candidate in CANDIDATES]
        cells = [f"{item.difference.value:+.4f}{MARKS[item.verdict]}" for item in found]
        lines.append(row(one.name, f"{one.plain['nll']:.4f}", *cells))
    return lines


def count_lines(judged: list[Judged]) -> list[str]:
    """How often each candidate is shown better, not shown to differ, and shown worse."""
    metrics = {"nll": "NLL", "ece_debiased": "debiased ECE²", "brier": "Brier", "accuracy": "accuracy"}
    lines = [heading("", *metrics.values())]
    for candidate in CANDIDATES:
        counts = [Counter(one.differences[candidate][name].verdict for one in judged) for name in metrics]
        lines.append(row(", ".join(candidate), *(" - ".join(str(c[v]) for v in MARKS) for c in counts)))
    return lines


def value_lines(one: Judged) -> list[str]:
    """What every candidate reads on a task."""
    lines = [
        heading(one.name, "delta", *one.plain),
        row("softmax", "", *(f"{v:.4f}" for v in one.plain.values())),
    ]
    for prior, way in CANDIDATES:
        found = [f"{v:.4f}" for v in one.values[prior, way].values()]
        lines.append(row(f"{prior}, {way}", f"{one.precisions[prior]:,.1f}", *found))
    return [*lines, ""]


def beside(of: Task, structure: str) -> str:
    """Ours and laplace-torch's at its default prior precision, in float64, and what either tunes it to."""
    from laplace import Laplace

    layer = torch.nn.Linear(of.weight.shape[1], len(of.weight)).double()
    layer.load_state_dict({"weight": torch.from_numpy(of.weight), "bias": torch.from_numpy(of.bias)})
    model = torch.nn.Sequential(torch.nn.Identity(), layer)
    theirs = Laplace(model, "classification", "last_layer", structure, last_layer_name="1")
    features, labels = (torch.from_numpy(values) for values in (of.train.phi[:, :-1].copy(), of.train.labels))
    data = torch.utils.data.TensorDataset(features, labels)
    theirs.fit(torch.utils.data.DataLoader(data, batch_size=1000))
    few = part(of.scored, np.arange(BESIDE))
    chosen = torch.from_numpy(few.phi[:, :-1].copy())
    found = [
        (theirs._glm_predictive_distribution(x)[1], theirs(x, link_approx="probit")) for x in chosen.split(10)
    ]
    variances = torch.cat([s.diagonal(dim1=1, dim2=2) for s, _ in found]).numpy()
    ours = STRUCTURES[structure](of.train.phi, softmax(features.numpy() @ of.weight.T + of.bias, axis=1))
    ours.settle(float(theirs.prior_precision))
    logits = few.phi[:, :-1] @ of.weight.T + of.bias
    probs = softmax(narrowed(logits, ours.variances(few.phi)), axis=1)
    theirs.optimize_prior_precision(pred_type="glm", method="marglik")
    return row(
        f"{of.name}, {structure}",
        f"{np.abs(ours.variances(few.phi) / variances - 1).max():.0e}",
        f"{np.abs(probs - torch.cat([p for _, p in found]).numpy()).max():.0e}",
        f"{float(theirs.prior_precision):.2f}",
        f"{best_precision(ours.eigenvalues, of.norm):.2f}",
    )


TEXT = """# The last layer's Laplace approximation, and its prior

`python scripts/laplace_prior.py`, on {count} checkpoints: three of SST-2 and one of CLINC150, and the
generated tasks of `scripts/make_tasks.py`, each trained by three recipes. Quality only. Curvature is
"kron", from the texts that the checkpoint was trained on (of SST-2 a random 10,000). "evidence, probit" was
the method's default until it was measured here, "confidence, probit" is its default now.

Guessed before: that nearly all of the variance on CLINC150 is along the common direction (1, ..., 1), which
no softmax sees. It is 3%. That folds of the training texts would choose next to no variance, that
laplace-torch is ours but for the bias in "kron", and that its defaults are worse still on CLINC150. They
do, it is, and they are.

## Beside laplace-torch

Both from the same features and layer, in float64, at its default prior precision of 1: the largest relative
difference of a logit's variance over {beside} texts, the largest difference of a probability, and the prior
precision that either's tuning takes for the one of most evidence.

{peers}

"full" and "diag" are the same posterior; laplace-torch's "full" has its inverse from Cholesky factors, ours
from eigenvectors. In "kron" its bias is a block of its own, so that it has no covariance with the weights,
and ours is one more feature; of a layer without bias the two agree to 1e-10
(`tests/methods/one_pass/test_laplace_last.py`). Neither damps, both factors are normalised alike, and the
batches of the fit make no difference. Its `optimize_prior_precision` takes a hundred steps of Adam, which
end a few per cent away from the maximum. Served as it comes, with a prior precision of 1, it is the row `1`
of the grids below: on CLINC150 worse still than the evidence's.

## Where the variance comes from

Under the prior of most evidence, over the scored texts: the accuracy of the training texts and the mean
probability that the softmax gives its answers there, the parameters that the data determine, delta by the
evidence and as M / |theta*|^2, the median variance of a logit, and the share of it along (1, ..., 1).

{variances}

With two classes the common direction is all but everything: "probit" is a temperature in disguise, and that
is what improves SST-2. With 150 it is a few hundredths, and leaving it out mends nothing. What spoils
CLINC150 is that the model is certain of its training texts. Their curvature is next to nothing, so that the
data determine 1 parameter in 27, and all other directions keep the prior's variance. And that prior is
wide, because the evidence sets delta = (parameters determined) / |theta*|^2: the more directions the data
leave open, the wider it is. The weights themselves are far smaller than draws from it, by a factor of
sqrt(delta_weights / delta_evidence), 5 on CLINC150.

## By prior precision

Of texts that the model was not trained on: the validation split, which for SST-2 is what is scored below
too.

{grids}
A model that is calibrated already, as on CLINC150, is best left with next to no variance, and one that is
too sure, as on SST-2, wants more than even the evidence gives. Nothing in the training texts tells the two
apart.

## Candidates

*evidence*: delta of most evidence. *weights*: M / |theta*|^2. *folds*: of 1 to 100,000, by the NLL of
{folds} folds of the training texts, each under the curvature of the others. *confidence*: the smallest from
the evidence's up with which "probit" says of the training texts at most a point less than their accuracy.
*probit*, *sampled* ({draws} draws): as in the method. *centred*: probit of the logits less their mean, with
their variances, which no constant added to all changes.

Each is compared with the plain softmax on the same texts, in a family of its own, so that its losses have
the most power. How often it is shown better, not shown to differ, and shown worse:

{counts}

Folds of training texts choose next to no variance, because the encoder has fitted them all: that is the
plain softmax, dearer, shown better by .0074 at the most, and shown worse once in Brier score. What is worse
nowhere, in any metric, is "confidence", by either way, and "probit" gains more. The rule was chosen after
the other rows had been seen on the tasks by "well" and "badly", and its one number, a point, was set then;
the checkpoints by "between" were trained afterwards, and had no say in it.

Difference in NLL from the plain softmax, (b) shown better, (w) shown worse:

{nlls}

What it costs: "confidence" leaves on SST-2 some of what "evidence" gains, and ranks texts out of scope
hardly better than the softmax, where "evidence, probit" is best. For ranking, ask for `prior=evidence`.

{values}"""


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("models", "data", "tasks"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    judged, grids, values = [], [], []
    peers = [heading("", "variance", "probability", "its delta", "ours")]
    names = (
        "",
        "classes",
        "accuracy",
        "confidence",
        "determined",
        "delta",
        "M / norm²",
        "S_yy",
        "common",
    )
    variances = [heading(*names)]
    for of in tasks(given.models, given.data, given.tasks):
        posterior = kron(of.train)
        judged.append(judge(of, posterior))
        variances.append(variance_row(of, posterior))
        if of.name in ("sst2", "clinc"):
            grids += grid_lines(of, posterior)
            values += value_lines(judged[-1])
            peers += [beside(of, name) for name in (STRUCTURES if of.name == "sst2" else ["kron"])]
        print(of.name, flush=True)
    text = TEXT.format(
        count=len(judged),
        beside=BESIDE,
        folds=FOLDS,
        draws=DRAWS,
        peers="\n".join(peers),
        variances="\n".join(variances),
        grids="\n".join(grids),
        counts="\n".join(count_lines(judged)),
        nlls="\n".join(nll_lines(judged)),
        values="\n".join(values),
    )
    RESULT.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
