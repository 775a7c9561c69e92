"""BaaL's loop for `transformers`: `BaalTransformersTrainer.predict_on_dataset` on a model patched by BaaL.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

Atighehchian et al., "Bayesian active learning for production" (2020); driven as BaaL's documentation does, in
one process. A peer, to be compared with: the masks have the law of `mc-dropout-baal`.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from typing import Any, cast

from transformers import DataCollatorWithPadding, PreTrainedModel, TrainingArguments

from calibench.data.hub import quiet
from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.types import Plan, Predictive
from calibench_methods.peers.mc_dropout_baal import baal_coverage, load_patch_module
from calibench_methods.peers.own_batches import EncodedTexts, Peer, by_pass, predictive_of, silent
from calibench_methods.sampling.live import seeded


class BaalTrainer(Peer):
    """`predict_on_dataset(dataset, iterations=T)`, with a data set that tokenises once.

    Args:
        checkpoint: the model; the trainer gets a twin of it.
        passes: T, at least 1.
        batch_size: of the data loader, at least 1.
        replicate: the T copies of a batch in one forward pass (BaaL's `replicate_in_memory`), or in a loop.
        order: "dataset", or "sorted" by the length of the texts.
        dtype: of the weights, or "same" for the checkpoint's.

    Raises:
        UsageError: a parameter is out of range.
        RefusedError: the model has no dropout, BaaL's patch reaches none of it, or accelerate is missing.
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
        self._replicate = replicate
        if find_spec("accelerate") is None:
            raise RefusedError(
                "The Trainer of transformers needs accelerate, which is not installed; run: "
                'pip install "calibench[peers]"'
            )
        patch_module = load_patch_module()
        self.coverage = baal_coverage(checkpoint, method="baal-trainer")
        self._model = patch_module(checkpoint.twin(dtype))
        self._model.register_forward_hook(_in_float32)
        self.modules = (self._model,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        from baal.transformers_trainer_wrapper import BaalTransformersTrainer

        order = self._positions(plan)
        texts = EncodedTexts(plan, self._tokenizer, order)
        # A trainer wants a folder, though it writes nothing to it while it predicts.
        with (
            tempfile.TemporaryDirectory() as folder,
            seeded(seed, self._device),
            silent(),
            quiet("transformers"),
        ):
            trainer: Any = BaalTransformersTrainer(
                model=cast(PreTrainedModel, self._model),
                args=TrainingArguments(
                    output_dir=folder,
                    per_device_eval_batch_size=self._batch_size,
                    report_to=[],
                    disable_tqdm=True,
                    use_cpu=self._device.type == "cpu",
                    dataloader_pin_memory=False,
                    seed=seed % 2**31,
                ),
                data_collator=DataCollatorWithPadding(self._tokenizer),
                replicate_in_memory=self._replicate,
            )
            logits = trainer.predict_on_dataset(texts, iterations=self.passes)
        return predictive_of(by_pass(logits), plan, order, self._notes)


def _in_float32(_: Any, __: Any, output: Any) -> Any:
    """BaaL turns logits into numpy arrays, which have no bfloat16."""
    output["logits"] = output["logits"].float()
    return output
