"""MC-Dropout around a model in an application: texts in, probabilities with standard errors out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import Pipeline

from calibench.errors import RefusedError, UsageError
from calibench.hashing import text_sha256
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.loading import class_names
from calibench.models.padding import padded, sample_texts, settle_padding, stated
from calibench.models.plan import Planner
from calibench.types import FloatArray, IntArray, Text
from calibench_methods.dropout.mc_dropout_adaptive import McDropoutAdaptive
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified


@dataclass(frozen=True, eq=False)
class Answer:
    """What `MCDropout` says about N texts.

    Attributes:
        probs: float64 [N, C], the mean over passes of the softmax; columns are in the order of `labels`.
        standard_error: float64 [N], of the largest of them: how far it is to be expected from the limit of
            many passes. With a tolerance it is smaller than what texts stop by, see `McDropoutAdaptive`.
        passes: int64 [N], spent on each text.
        labels: the C class names.
    """

    probs: FloatArray
    standard_error: FloatArray
    passes: IntArray
    labels: tuple[str, ...]


class MCDropout:
    """MC-Dropout of a text classifier: `MCDropout(model, tokenizer)(texts)`.

    The model is not changed, and its weights are shared, so that what is trained into it counts. Masks are
    keyed by the text: one text and one seed give one set of masks, whatever is asked beside it.

    Args:
        model: a `transformers` sequence classifier, or a text-classification pipeline.
        tokenizer: its fast tokenizer; left out with a pipeline.
        passes: of every text, in strata as in `mc-dropout-stratified`; None to let the tolerance decide, as
            in `mc-dropout-adaptive`.
        tolerance, target, max_passes: of the adaptive method; without effect where `passes` is given.
        dtype: of the arithmetic before the softmax, or "same" for the model's own. With another one the
            weights are copied, as they are then.
        memory_budget_mb: MiB of tensors that a forward pass may make; 0 for a share of what is free.

    Raises:
        UsageError: no tokenizer, a parameter out of range, or a model that is no single-label classifier.
        RefusedError: the model has no dropout, or draws in a way that keyed masks cannot answer.
    """

    def __init__(
        self,
        model: nn.Module | Pipeline,
        tokenizer: Any = None,
        *,
        passes: int | None = None,
        tolerance: float = 0.0115,
        target: str = "mean",
        max_passes: int = 160,
        dtype: str = "same",
        memory_budget_mb: int = 0,
    ) -> None:
        if isinstance(model, Pipeline):
            model, tokenizer = model.model, tokenizer or model.tokenizer
        if tokenizer is None or not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                "MCDropout needs the model's fast tokenizer: pass it, or a pipeline that has one."
            )
        checkpoint = _checkpoint(model, tokenizer)
        checkpoint = padded(checkpoint, settle_padding(checkpoint, sample_texts(checkpoint)).padding)
        self._labels = checkpoint.labels
        self._planner = Planner.of(checkpoint)
        self._method: Method
        try:
            if passes is None:
                self._method = McDropoutAdaptive(
                    checkpoint,
                    tolerance=tolerance,
                    target=target,
                    max_passes=max_passes,
                    memory_budget_mb=memory_budget_mb,
                    dtype=dtype,
                )
            else:
                self._method = McDropoutStratified(
                    checkpoint,
                    passes=passes,
                    keep_samples=False,
                    memory_budget_mb=memory_budget_mb,
                    dtype=dtype,
                )
        except RefusedError as error:
            # What the command has in its place is another function here.
            reason = str(error).replace("use mc-dropout.", "use patch_module.")
            raise RefusedError(f"MCDropout does not apply: {reason}") from error

    def __call__(self, texts: Text | Sequence[Text], *, seed: int = 0) -> Answer:
        """Probabilities, standard errors and passes of some texts.

        Args:
            texts: a text, or a list of texts or of pairs of texts.
            seed: of all masks.

        Raises:
            CalibenchError: the model's logits are not finite.
        """
        several: Sequence[Text] = [texts] if isinstance(texts, str) else list(texts)
        if not several:
            none = np.zeros(0)
            return Answer(np.zeros((0, len(self._labels))), none, none.astype(np.int64), self._labels)
        rows = np.array([int(text_sha256(text)[:15], 16) for text in several], dtype=np.int64)
        found = self._method.predict(self._planner.plan(several, rows), seed=seed)
        error = found.standard_error
        if error is None:  # one pass shows no spread
            error = np.full(len(several), np.nan)
        return Answer(found.probs, error, found.passes, self._labels)


def _checkpoint(model: Any, tokenizer: Any) -> Checkpoint:
    """The caller's model as the methods take one: another structure around the same tensors, in eval mode."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    name = str(model.config.name_or_path or type(model).__name__)
    labels = class_names(model.config, name)
    module = copy.deepcopy(model, memo).eval()
    # A PeftModel hands on whatever the model that it is made of takes.
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    taken = inspect.signature(inner.forward).parameters
    own = copy.deepcopy(tokenizer)
    own.model_input_names = [name for name in own.model_input_names if name in taken]
    return Checkpoint(
        module=module,
        tokenizer=own,
        labels=labels,
        name=name,
        revision=None,
        sha256="",
        source="folder",
        device=next(module.parameters()).device,
        dtype=module.dtype,
        attention=str(module.config._attn_implementation),
        load_s=0.0,
        padding=stated(module, own),
    )
