"""BaaL's own loop: `ModelWrapper.predict_on_dataset` on a model patched by BaaL.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Atighehchian et al., "Bayesian active learning for production" (2020); driven as BaaL's documentation does, in
one process. A peer, to be compared with: the masks have the law of `mc-dropout-baal`.
"""

from __future__ import annotations

from typing import Any

from transformers import DataCollatorWithPadding

from calibench.models.checkpoint import Checkpoint
from calibench.types import Plan, Predictive
from calibench_methods.peers.mc_dropout_baal import baal_coverage, load_patch_module
from calibench_methods.peers.own_batches import EncodedTexts, LogitsOf, Peer, by_pass, predictive_of, silent
from calibench_methods.sampling.live import seeded


class BaalWrapper(Peer):
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
        super().__init__(checkpoint, passes=passes, batch_size=batch_size, order=order, dtype=dtype)
        patch_module = load_patch_module()
        self.coverage = baal_coverage(checkpoint, method="baal-wrapper")
        from baal.modelwrapper import ModelWrapper, TrainingArgs

        pad = DataCollatorWithPadding(self._tokenizer)

        def collate(items: list[dict[str, list[int]]]) -> tuple[dict[str, Any], None]:
            return dict(pad(items)), None

        model = LogitsOf(patch_module(checkpoint.twin(dtype)))
        self._wrapper: Any = ModelWrapper(
            model,
            TrainingArgs(
                batch_size=self._batch_size,
                use_cuda=self._device.type == "cuda",
                workers=0,
                collate_fn=collate,
                replicate_in_memory=replicate,
            ),
        )
        self.modules = (model,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        order = self._positions(plan)
        texts = EncodedTexts(plan, self._tokenizer, order)
        with seeded(seed, self._device), silent():
            logits = self._wrapper.predict_on_dataset(texts, iterations=self.passes, verbose=False)
        return predictive_of(by_pass(logits), plan, order, self._notes)
