"""BaaL's own loop: `ModelWrapper.predict_on_dataset` on a model patched by BaaL.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Atighehchian et al., "Bayesian active learning for production" (2020); driven as BaaL's documentation does, in
one process. A peer, to be compared with: the masks have the law of `mc-dropout-baal`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

from transformers import DataCollatorWithPadding

from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, dtype_notes
from calibench.models.passes import at_least
from calibench.types import Plan, Predictive
from calibench_methods.peers.mc_dropout_baal import baal_coverage, load_patch_module
from calibench_methods.peers.own_batches import EncodedTexts, LogitsOf, check_order, predictive_of, silent
from calibench_methods.sampling.live import seeded


class BaalWrapper(Method):
    """`predict_on_dataset(dataset, iterations=T)`, with a data set that tokenises once.

    BaaL passes its model one argument, so that a module which unpacks a dict stands between. Padding is to
    the longest text of a batch.

    Args:
        checkpoint: the model; the wrapper gets a twin of it.
        passes: T, at least 1.
        batch_size: of the data loader, at least 1.
        replicate: the T copies of a batch in one forward pass (BaaL's `replicate_in_memory`), or in a loop.
        order: "dataset", or "sorted" by the length of the texts.
        dtype: of the weights, or "same" for the checkpoint's; logits are float32.

    Raises:
        UsageError: a parameter is out of range.
        RefusedError: the model has no dropout, or BaaL's patch reaches none of it.
        CalibenchError: BaaL is not installed.
    """

    tokenises: ClassVar[bool] = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        batch_size: int = 32,
        replicate: bool = False,
        order: str = "dataset",
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._order = check_order(order)
        self._device = checkpoint.device
        self._tokenizer = copy.deepcopy(checkpoint.tokenizer)
        patch_module = load_patch_module()
        self.coverage = baal_coverage(checkpoint, method="baal-wrapper")
        self._notes = dtype_notes(checkpoint, dtype)
        from baal.modelwrapper import ModelWrapper, TrainingArgs

        pad = DataCollatorWithPadding(self._tokenizer)

        def collate(items: list[dict[str, list[int]]]) -> tuple[dict[str, Any], None]:
            return dict(pad(items)), None

        model = LogitsOf(patch_module(checkpoint.twin(dtype)))
        self._wrapper: Any = ModelWrapper(
            model,
            TrainingArgs(
                batch_size=at_least(1, "batch_size", batch_size),
                use_cuda=checkpoint.device.type == "cuda",
                workers=0,
                collate_fn=collate,
                replicate_in_memory=replicate,
            ),
        )
        self.modules = (model,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        texts = EncodedTexts(plan, self._tokenizer, self._order)
        with seeded(seed, self._device), silent():
            logits = self._wrapper.predict_on_dataset(texts, iterations=self.passes, verbose=False)
        return replace(predictive_of(logits, plan, texts.order), notes=self._notes)
