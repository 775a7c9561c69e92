"""torch-uncertainty's own loop: its `mc_dropout` wrapper around the model.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Lafage et al., "Torch-Uncertainty: a deep learning framework for uncertainty quantification" (2025); driven as
its documentation does, in one process. A peer, to be compared with: the wrapper switches on dropout modules,
so that attention dropout which a model computes as a function stays off, as in `mc-dropout-baal`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DataCollatorWithPadding

from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.types import Plan, Predictive
from calibench_methods.peers.own_batches import EncodedTexts, LogitsOf, Peer, predictive_of
from calibench_methods.sampling.live import seeded
from calibench_methods.sampling.sites import measure_coverage, require_sites


class TorchUncertainty(Peer):
    """`mc_dropout(model, num_estimators=T)` in eval mode, over a data set that is tokenised once.

    The wrapper repeats one tensor, so that a module which takes a stack of inputs apart stands between.
    Padding is to the longest text of a batch.

    Args:
        checkpoint: the model; the wrapper gets a twin of it.
        passes: T, at least 1.
        batch_size: of the data loader, at least 1.
        replicate: the T copies of a batch in one forward pass (its `on_batch`, the default), or in a loop.
        order: "dataset", or "sorted" by the length of the texts.
        dtype: of the weights, or "same" for the checkpoint's; logits are float32.

    Raises:
        UsageError: a parameter is out of range.
        RefusedError: the model has no dropout, or none that the wrapper reaches, or torch-uncertainty is
            missing or cannot be imported.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        batch_size: int = 32,
        replicate: bool = True,
        order: str = "dataset",
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint, passes=passes, batch_size=batch_size, order=order, dtype=dtype)
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs, method="torch-uncertainty")
        mc_dropout = _load_mc_dropout()
        twin = checkpoint.twin(dtype)
        try:
            self._wrapper: Any = mc_dropout(
                _Unstacked(twin, tuple(inputs)), num_estimators=passes, on_batch=replicate
            ).eval()
        except ValueError as error:
            raise RefusedError(f"torch-uncertainty refuses {checkpoint.name}: {error}") from error
        self.coverage = measure_coverage(twin, sites, inputs)
        self._names = tuple(inputs)
        self.modules = (self._wrapper,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        order = self._positions(plan)
        texts = EncodedTexts(plan, self._tokenizer, order)
        pad = DataCollatorWithPadding(self._tokenizer)

        def collate(items: list[dict[str, list[int]]]) -> Tensor:
            padded = pad(items)
            return torch.stack([padded[name] for name in self._names], dim=1)

        loader = torch.utils.data.DataLoader(texts, batch_size=self._batch_size, collate_fn=collate)
        with torch.no_grad(), seeded(seed, self._device):
            logits = [
                self._wrapper(batch.to(self._device)).view(self.passes, len(batch), -1) for batch in loader
            ]
        return predictive_of(torch.cat(logits, dim=1), plan, order, self._notes)


class _Unstacked(LogitsOf):
    """A model as a module from one tensor [B, K, L], of its K inputs, to float32 logits [B, C]."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__(model)
        self._names = names

    def forward(self, stacked: Tensor) -> Tensor:  # type: ignore[override] # one tensor is what is repeated
        return super().forward(dict(zip(self._names, stacked.unbind(dim=1), strict=True)))


def _load_mc_dropout() -> Callable[..., nn.Module]:
    """torch-uncertainty's wrapper.

    Raises:
        RefusedError: it is not installed, or something that it imports fails.
    """
    line = 'pip install "calibench[torch-uncertainty]"'
    try:
        from torch_uncertainty.methods import mc_dropout
    except ModuleNotFoundError as error:
        raise RefusedError(
            f"{error.name} is not installed, which torch-uncertainty needs; run: {line}"
        ) from error
    except (ImportError, RuntimeError) as error:  # torchvision's operators, built for another torch
        raise RefusedError(
            f"torch-uncertainty cannot be imported ({error}); it needs the torchvision that was built for "
            f"torch {torch.__version__}: install that one, then run: {line}"
        ) from error
    found: Callable[..., nn.Module] = mc_dropout
    return found
