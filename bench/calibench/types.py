"""The shapes that travel between the stages, defined once.

N is the number of examples, C of classes, S of stored passes, B of examples in a batch, L the padded length.
Arrays are numpy; only a `Batch` holds torch tensors, and this module does not import torch to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


Text = str | tuple[str, str]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
#: What the order of class names says: their ids declared, or the ids themselves, or nothing.
Order = Literal["declared", "ids", "none"]
#: Who is told what is done, by its title.
Told = Callable[[str], object]


def nobody(title: str) -> None:
    """Is told, and does nothing about it."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled texts, in the order in which results are reported.

    Attributes:
        texts: N texts, or pairs of texts.
        labels: int64 [N], indices into `label_names`.
        label_names: the C class names, in the order of the data set's own ids.
        rows: int64 [N], each example's row in the split before any limit was applied.
        name, config, split, revision: what was loaded, free of machine paths.
        source: "hub", "folder", "embedded", "generated", or "plugin" of a third party's loader.
        sha256: hash of texts, labels, label names and split name.
        posterior: float64 [N, C], the true P(label | text) where it is known, else None.
        order: what the order of `label_names` says; see `calibench.data.classes`.
        unlabelled: rows of the split that were left out because they have no label.
    """

    texts: tuple[Text, ...]
    labels: IntArray
    label_names: tuple[str, ...]
    rows: IntArray
    name: str
    config: str | None
    split: str
    revision: str | None
    source: Literal["hub", "folder", "embedded", "generated", "plugin"]
    sha256: str
    posterior: FloatArray | None = None
    order: Order = "declared"
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class Batch:
    """One padded batch on the checkpoint's device.

    Attributes:
        inputs: the model's keyword arguments: `input_ids` int64 [B, L], `attention_mask` int64 [B, L], and
            `token_type_ids` int64 [B, L] where the tokenizer makes them. Padding is on the tokenizer's side.
        index: int64 [B], the position of each example in its plan.
    """

    inputs: Mapping[str, torch.Tensor]
    index: IntArray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class Plan:
    """Texts, tokenised once, and the batches every method runs; see `calibench.models.plan`.

    Attributes:
        texts: N texts in plan order, which is data set order for a whole plan.
        rows: int64 [N], each example's row in the data set: what randomness may be keyed by.
        token_ids: N lists of token ids, special tokens included, without padding.
        batches: cover every example once.
        tokens: number of real tokens over all batches.
        padding_ratio: padding positions / all positions, over all batches.
        truncated: number of texts cut to the model's maximum length.
    """

    texts: tuple[Text, ...]
    rows: IntArray
    token_ids: tuple[tuple[int, ...], ...]
    batches: tuple[Batch, ...]
    tokens: int
    padding_ratio: float
    truncated: int

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class DropoutSite:
    """One place at which a training pass draws random numbers.

    Attributes:
        name: qualified name of the innermost module that draws.
        kind: "hidden" for a dropout module, "attention" for dropout inside an attention function, else the
            class name.
        p: drop probability, or None where it cannot be read.
        active: whether the method draws there.
    """

    name: str
    kind: str
    p: float | None
    active: bool


@dataclass(frozen=True)
class Coverage:
    """How many of the sites that are stochastic in training the method makes stochastic at prediction."""

    sites: tuple[DropoutSite, ...]

    @property
    def active(self) -> int:
        return sum(site.active for site in self.sites)

    @property
    def expected(self) -> int:
        return len(self.sites)


@dataclass(frozen=True, eq=False)
class Predictive:
    """What a method says about each example of a plan, in plan order.

    Attributes:
        probs: float64 [N, C], rows sum to 1: the mean over passes of the softmax, unless a parameter of the
            method says otherwise.
        passes: int64 [N], forward passes spent on each example.
        samples: float32 [S, N, C], the softmax of each pass, or None where they were not kept.
        standard_error: float64 [N], standard error over passes of the predicted class's probability, or None.
        scores: named scores, each float64 [N]; higher means less certain.
        sets: bool [N, C], prediction sets, or None.
        notes: sentences for the record, such as a chunk size that had to be halved.
    """

    probs: FloatArray
    passes: IntArray
    samples: NDArray[np.float32] | None = None
    standard_error: FloatArray | None = None
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    sets: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelledPlan:
    """A plan with its labels, int64 [N] in plan order: what a method may be fitted on."""

    plan: Plan
    labels: IntArray


@dataclass(frozen=True)
class Member:
    """A checkpoint that a method takes besides the run's own.

    Attributes:
        name: hub id, or the base name of the folder.
        revision: hub commit, or None.
        sha256: hash of the weights as stored, as of `calibench.models.loading.Checkpoint`.
        config_sha256: hash of what its config says, as of `calibench.models.identity`.
    """

    name: str
    revision: str | None
    sha256: str
    config_sha256: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a metric sees.

    With C = 1 there are no classes: the one column is the confidence of the answer that was given, and the
    label is 0 where that is right and 1 where it is wrong. Only metrics that need no more are given it.

    Attributes:
        probs: float64 [N, C].
        labels: int64 [N]; -1 for an example out of scope, which only metrics that say so are given.
        posterior: float64 [N, C] true P(label | text), or None where it is unknown.
        scores: named scores, each float64 [N]; higher means less certain.
        score: the one by which the method ranks texts; None for the largest probability.
        optimism: by name of metric, what is added to it because the probabilities were cross-fitted: how much
            more it is expected to read on new examples; see `calibench.metrics.crossfitting`.
    """

    probs: FloatArray
    labels: IntArray
    posterior: FloatArray | None = None
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    score: str | None = None
    optimism: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def by_confidence(self) -> bool:
        """Whether there are no classes."""
        return bool(self.probs.shape[1] == 1)

    def in_scope(self) -> Evaluation:
        """The examples whose label the model can output."""
        inside = self.labels >= 0
        return self if inside.all() else self.take(np.flatnonzero(inside))

    def take(self, index: IntArray | slice) -> Evaluation:
        """The same for the examples at `index`, repeats allowed: one bootstrap resample."""
        return Evaluation(
            self.probs[index],
            self.labels[index],
            None if self.posterior is None else self.posterior[index],
            {name: score[index] for name, score in self.scores.items()},
            self.score,
            self.optimism,
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """A metric as a function of sums over examples, so that resampling is one matrix product.

    Attributes:
        features: float64 [N, K], an array or, for sums over groups, a `scipy.sparse` array in CSR form; of
            many examples a `calibench.stats.resampling.InParts`.
        finish: maps sums over examples, float64 [R, K], and the number of examples to R values, float64 [R].
        interval: maps the sums, float64 [K], the number of examples, the level and a function that makes sums
            over bootstrap resamples, float64 [R, K], to the ends of an interval; None for the quantiles of
            the resampled values, which is right for smooth metrics only.
    """

    features: FloatArray | Any
    finish: Callable[[FloatArray, int], FloatArray]
    interval: Callable[[FloatArray, int, float, Callable[[], FloatArray]], tuple[float, float]] | None = None


@dataclass(frozen=True, eq=False)
class Weighted:
    """A metric that is no function of sums, where examples count more than once or not at all.

    Attributes:
        resampled: maps how often each example was drawn, float64 [N, R], to the metric of the R resamples,
            float64 [R].
        influence: what each example adds to the metric, float64 [N], summing to about zero: N times the
            derivative in its weight, from which the spread of the metric over many examples follows.
    """

    resampled: Callable[[FloatArray], FloatArray]
    influence: Callable[[], FloatArray]


@dataclass(frozen=True)
class Metric:
    """A number computed from predictions and labels.

    Attributes:
        name: as in a record, for instance "ece_15".
        title: as in a table heading.
        better: which direction is better.
        evaluate: the value, float; NaN where it is undefined.
        moments: the same metric in the form of sums, or None where it has no such form.
        weighted: the same metric of resamples, where it is no sum, or None where it has no such form.
        self_drawn: maps probabilities, float64 [N, C], a number R and a generator to the metric on R sets of
            labels drawn from them, float64 [R]; None where each set has to be evaluated.
        definition: what fixes the estimator (bins, norm, ...), copied into the record.
        needs_posterior: True where the metric is defined only when the true posterior is known.
        needs_out_of_scope: True where it is about all examples, some of which are out of scope; other metrics
            are about those in scope.
        needs_classes: True where the probability of every class is needed, and not of the answer alone.
        bootstrap: maps the examples, a number R and a generator to the metric on R resamples, float64 [R],
            where resampling all examples alike would be wrong; it draws the same resamples for every method.
        no_interval: why no interval is given, where none would hold or make sense; None where one is.
        optimism: maps the examples and the probabilities that the calibrator of each fold gives them, F of
            float64 [N, C], to how much more the metric is expected to read on new examples; None where
            cross-fitting hides nothing.
    """

    name: str
    title: str
    better: Literal["lower", "higher", "zero"]
    evaluate: Callable[[Evaluation], float]
    moments: Callable[[Evaluation], Moments] | None = None
    weighted: Callable[[Evaluation], Weighted] | None = None
    self_drawn: Callable[[FloatArray, int, np.random.Generator], FloatArray] | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)
    needs_posterior: bool = False
    no_interval: str | None = None
    needs_out_of_scope: bool = False
    needs_classes: bool = False
    bootstrap: Callable[[Evaluation, int, np.random.Generator], FloatArray] | None = None
    optimism: Callable[[Evaluation, Sequence[FloatArray]], float] | None = None

    def of(self, evaluation: Evaluation) -> Evaluation:
        """The examples that the metric is about."""
        return evaluation if self.needs_out_of_scope else evaluation.in_scope()


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; what could not be had is None, and `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """The four fields, as in a record."""
        return asdict(self)


@dataclass(frozen=True)
class Raced:
    """What one cell took in two builds or with two checkpoints, which took turns at the same work.

    Attributes:
        base_blocks, new_blocks: seconds of timing blocks, by turn.
        base_requests, new_requests: seconds of single texts, by turn.
    """

    base_blocks: tuple[float, ...]
    new_blocks: tuple[float, ...]
    base_requests: tuple[float, ...]
    new_requests: tuple[float, ...]
