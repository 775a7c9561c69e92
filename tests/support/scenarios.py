"""Problems with known answers: classifiers whose MC-Dropout distribution can be written down in full."""

from __future__ import annotations

import atexit
import copy
import itertools
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from calibench.data.hub import quiet
from calibench.errors import RefusedError
from calibench.hashing import weights_sha256
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.registry import METHODS
from calibench.types import LabelledPlan, Plan
from tiny_models import SPECIAL, WORDS, plan_of, sentences, tiny_checkpoint, tiny_tokenizer, wrap

UNITS = 6
P = 0.3


def _imports(name: str) -> bool:
    """Whether the package behind a peer is there, which for some only trying tells."""
    if name not in {"torch-uncertainty", "laplace-torch"}:
        return True
    try:
        METHODS.load(name)(tiny_checkpoint())
    except RefusedError:
        return False
    return True


#: The methods that can be made here.
PRESENT = [name for name in METHODS.names() if _imports(name)]
#: Every registered method; those that cannot be made here are skipped, saying so.
EVERY = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in PRESENT, reason=f"no {name} that imports"))
        for name in METHODS.names()
    ],
)


def make(name: str, checkpoint: Checkpoint, *, train: LabelledPlan | None = None, **params: Any) -> Method:
    """A registered method on a checkpoint, with what it cannot be made without, fitted where it learns.

    Args:
        train: what it is fitted on, instead of `labelled`.
        params: set above what is supplied.
    """
    method: Method = METHODS.load(name)(checkpoint, **{**needs(name, checkpoint), **params})
    if method.needs_train:
        method.fit(train or labelled(checkpoint))
    return method


def needs(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """The required parameters of a registered method: for those of ours that have any."""
    if name == "deep-ensemble":
        return {"members": tuple(map(str, sorted(trajectory(checkpoint).iterdir())))}
    if name in {"snapshot", "swag-diag"}:
        return {"folder": str(trajectory(checkpoint))}
    return {}


def trajectory(checkpoint: Checkpoint, count: int = 3) -> Path:
    """A folder of checkpoints whose weights lie around the given one's, made once for the same weights."""
    digest = weights_sha256(checkpoint.module.state_dict())[:16]
    kind = f"{type(checkpoint.module).__name__}-{checkpoint.attention}-{count}-{digest}"
    folder = _session_folder() / kind
    if not folder.exists():
        generator = torch.Generator().manual_seed(5)
        for step in range(1, count + 1):
            moved = copy.deepcopy(checkpoint.module)
            with torch.no_grad():
                for value in moved.parameters():
                    value += 0.02 * torch.randn(value.shape, generator=generator)
            save(moved, checkpoint.tokenizer, folder / f"checkpoint-{step}")
    return folder


def save(module: nn.Module, tokenizer: Any, folder: Path) -> Path:
    """A checkpoint folder as `save_pretrained` writes it, without its progress bar."""
    with quiet("transformers"):
        module.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    return folder


@cache
def _session_folder() -> Path:
    """Removed when the tests end."""
    folder = tempfile.TemporaryDirectory(prefix="calibench-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


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


def labelled(checkpoint: Checkpoint, count: int = 80) -> LabelledPlan:
    """Tiny sentences with labels at random, none with the word "a", which a test makes models answer NaN."""
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
