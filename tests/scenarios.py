"""Problems with known answers: classifiers whose MC-Dropout distribution can be written down in full."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.models import Checkpoint
from calibench.registry import METHODS
from calibench.types import LabelledPlan, Method, Plan
from tiny_models import SPECIAL, WORDS, plan_of, sentences, tiny_tokenizer, wrap

UNITS = 6
P = 0.3


class EnumerableConfig(PretrainedConfig):
    """Configuration of `EnumerableModel`."""

    model_type = "enumerable"


class EnumerableModel(PreTrainedModel):
    """Mean of word vectors, dropout on its 6 units, a linear layer: 64 masks in all.

    With `shared` the dropout acts on a vector of ones that scales the units, a tensor without a batch axis:
    the distribution for one text is the same, but all texts of a forward pass share the mask.
    """

    config_class = EnumerableConfig

    def __init__(self, config: EnumerableConfig, shared: bool = False) -> None:
        super().__init__(config)
        self.words = nn.Embedding(len(SPECIAL) + len(WORDS), UNITS)
        self.dropout = nn.Dropout(P)
        self.classifier = nn.Linear(UNITS, config.num_labels)
        self.shared = shared
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter)

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        real = attention_mask[..., None].float()
        return 3 * (self.words(input_ids) * real).sum(1) / real.sum(1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        features = self.features(input_ids, attention_mask)
        dropped = features * self.dropout(torch.ones(UNITS)) if self.shared else self.dropout(features)
        return SequenceClassifierOutput(logits=self.classifier(dropped))


def ready(name: str, checkpoint: Checkpoint, count: int = 80) -> Method:
    """The registered method, fitted on tiny sentences with labels at random where it learns from them.

    None of them holds the word "a", which a test makes a model return NaN for.
    """
    method = METHODS.load(name)(checkpoint)
    if method.needs_train:
        method.fit(labelled(checkpoint, count))
    return method


def labelled(checkpoint: Checkpoint, count: int) -> LabelledPlan:
    """Tiny sentences with labels at random, without the word "a"."""
    texts = [" ".join(word for word in text.split() if word != "a") for text in sentences(count, seed=5)]
    labels = np.random.default_rng(6).integers(0, len(checkpoint.labels), size=count)
    return LabelledPlan(plan_of(checkpoint, [text or "the" for text in texts], token_budget=1024), labels)


@dataclass(frozen=True, eq=False)
class Known:
    """A problem and its answer.

    Attributes:
        checkpoint, plan: what a method is given.
        mean: float64 [N, C], the predictive distribution with infinitely many passes.
        deviation: float64 [N, C], standard deviation over passes of each probability.
    """

    checkpoint: Checkpoint
    plan: Plan
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def enumerable(classes: int = 3, *, shared: bool = False, count: int = 8) -> Known:
    """A classifier with one dropout of six units, and its exact distribution over all 64 masks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = EnumerableModel(EnumerableConfig(num_labels=classes), shared).eval()
    checkpoint = wrap(model, tiny_tokenizer(), classes)
    plan = plan_of(checkpoint, [*sentences(count, seed=2)])
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=UNITS)))
    weights = np.prod(np.where(masks > 0, 1 - P, P), axis=1)
    features = np.empty((count, UNITS))
    for batch in plan.batches:
        features[batch.index] = model.features(**batch.inputs).detach().numpy()
    weight, bias = (value.detach().double().numpy() for value in model.classifier.parameters())
    logits = (masks[:, None] * features / (1 - P)) @ weight.T + bias
    probs = np.exp(logits - logits.max(axis=2, keepdims=True))
    probs /= probs.sum(axis=2, keepdims=True)
    mean = np.einsum("m,mnc->nc", weights, probs)
    variance = np.einsum("m,mnc->nc", weights, (probs - mean) ** 2)
    return Known(checkpoint, plan, mean, np.sqrt(variance))


def disturbance(module: nn.Module) -> dict[str, Any]:
    """Everything about a module that a method must leave as it was; compare two of these with `same`."""
    return {
        "tensors": {name: value.clone() for name, value in module.state_dict(keep_vars=True).items()},
        "identities": [id(value) for value in (*module.parameters(), *module.buffers())],
        "modules": [(name, id(child), child.training) for name, child in module.named_modules()],
        "hooks": [(len(child._forward_hooks), len(child._forward_pre_hooks)) for child in module.modules()],
        "gradients": [value.grad for value in module.parameters()],
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two states agree bit for bit."""
    tensors = before["tensors"].keys() == after["tensors"].keys() and all(
        torch.equal(before["tensors"][name], after["tensors"][name]) for name in before["tensors"]
    )
    return tensors and all(before[key] == after[key] for key in before if key != "tensors")
