"""The study's own code: a transformers pipeline with its model patched by BaaL, called T times on the texts.

    p(y | x) = 1/T sum_t softmax(f(x; m_t)), with m_t the masks of pass t.

The cost baseline: what a user writes by hand, tokenising again in every pass, in data set order, padding each
batch to its longest text. The masks have the law of `mc-dropout-baal`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, pipeline

from calibench.errors import CalibenchError, RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import standard_error
from calibench.types import IntArray, Plan, Predictive, Text
from calibench_methods.peers.mc_dropout_baal import baal_coverage, load_patch_module
from calibench_methods.peers.own_batches import Peer
from calibench_methods.sampling.live import seeded


class HfPipelineBaal(Peer):
    """T calls of `pipeline("text-classification", top_k=None)` whose model BaaL has patched.

    Args:
        checkpoint: the model; the pipeline gets a twin of it.
        passes: T, at least 1.
        batch_size: of the pipeline, at least 1.
        order: "dataset", or "sorted" by the length of the texts.
        dtype: of the weights, or "same" for the checkpoint's.

    Raises:
        UsageError: a parameter is out of range.
        RefusedError: the model has no dropout, BaaL's patch reaches none of it, or two classes share a name.
        CalibenchError: BaaL is not installed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        passes: int = 20,
        batch_size: int = 32,
        order: str = "dataset",
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint, passes=passes, batch_size=batch_size, order=order, dtype=dtype)
        self._column = {label: column for column, label in enumerate(checkpoint.labels)}
        if len(self._column) < len(checkpoint.labels):
            raise RefusedError(
                f"Two classes of {checkpoint.name} share a name, and a pipeline tells classes apart by name "
                "alone; give them different names in id2label of its config.json."
            )
        patch_module = load_patch_module()
        self.coverage = baal_coverage(checkpoint, method="hf-pipeline-baal")
        classifier: Any = pipeline(
            "text-classification",
            model=cast(PreTrainedModel, checkpoint.twin(dtype)),
            tokenizer=self._tokenizer,
            device=self._device,
            top_k=None,
            function_to_apply="softmax",
        )
        classifier.model = patch_module(classifier.model)
        self._pipeline = classifier
        self.modules = (classifier.model,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        order = self._positions(plan)
        inputs = [_pipeline_input(plan.texts[position]) for position in order]
        options = _truncation(plan)
        samples = np.empty((self.passes, len(plan), len(self._column)), dtype=np.float32)
        with seeded(seed, self._device):  # the pipeline turns gradients off for itself
            for sample in samples:
                outputs = self._pipeline(inputs, batch_size=self._batch_size, **options)
                self._fill(sample, order, outputs)
        finite = np.isfinite(samples).all(axis=(0, 2))
        if not finite.all():
            raise CalibenchError(
                f"The model's probabilities are not finite for row {plan.rows[~finite].min()} of the data "
                "set; run it with --dtype float32, or check the checkpoint."
            )
        mean = samples.mean(axis=0, dtype=np.float64)
        return Predictive(
            probs=mean / mean.sum(axis=1, keepdims=True),
            passes=np.full(len(plan), self.passes, dtype=np.int64),
            samples=samples,
            standard_error=standard_error(mean, samples.var(axis=0, dtype=np.float64), self.passes),
            notes=self._notes,
        )

    def _fill(
        self, sample: NDArray[np.float32], order: IntArray, outputs: list[list[dict[str, Any]]]
    ) -> None:
        # With top_k=None the pipeline sorts the classes of each text by score.
        for position, scores in zip(order, outputs, strict=True):
            for score in scores:
                sample[position, self._column[score["label"]]] = score["score"]


def _pipeline_input(text: Text) -> str | dict[str, str]:
    return text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _truncation(plan: Plan) -> dict[str, Any]:
    """Cut texts where the plan cut them: by default a pipeline cuts nothing and long texts fail."""
    if not plan.truncated:
        return {}
    return {"truncation": True, "max_length": max(map(len, plan.token_ids))}
