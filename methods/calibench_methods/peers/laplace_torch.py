"""laplace-torch's own loop: its Laplace approximation of the last layer, fitted on training texts.

    probit:  p(y | x) = softmax(f_y / sqrt(1 + pi/8 S_yy))
    mc:      p(y | x) = mean over 100 draws f ~ N(f(x), S(x)) of softmax(f)

with S(x) = J(x) (H + delta I)^-1 J(x)^T the covariance of the logits, as in `laplace-last`. Daxberger et al.,
"Laplace Redux: Effortless Bayesian Deep Learning" (NeurIPS 2021); driven as its documentation does, in one
process. A peer, to be compared with: at the same delta "full" and "diag" are those of `laplace-last`; in
"kron" the bias is a block of its own, and has no covariance with the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import DataCollatorWithPadding

from calibench.errors import RefusedError, UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.head import find_head
from calibench.models.passes import checked_softmax
from calibench.types import FloatArray, IntArray, LabelledPlan, Plan, Predictive
from calibench_methods.peers.own_batches import EncodedTexts, LogitsOf, Peer
from calibench_methods.sampling.live import seeded

STRUCTURES = ("kron", "full", "diag")
PRIORS = ("default", "marglik")
LINKS = ("probit", "mc")
#: Most parameters of a full posterior, whose curvature it makes of as many products with one of them each.
MOST_FULL = 4096


class LaplaceTorch(Peer):
    """`Laplace(model, "classification", "last_layer", structure)`, fitted and asked in batches of dicts.

    It makes the derivative of every logit by every weight of the last layer, [B, C, C D]: 35 MB a text for
    150 classes and 384 features, in float32. Padding is to the longest text of a batch.

    Args:
        checkpoint: the model; laplace-torch gets a twin of it.
        structure: "kron" (its default), "full" or "diag".
        prior: "default" for a prior precision of 1, or "marglik" for what its `optimize_prior_precision`
            takes for the one of most evidence, with the steps that it takes by default.
        link_approx: "probit" (its default) or "mc".
        batch_size: of the data loaders, at least 1.
        order: "dataset", or "sorted" by the length of the texts.
        dtype: of the weights, or "same" for the checkpoint's; logits are float32.

    Raises:
        UsageError: a parameter is out of range, or `predict` comes before `fit`.
        RefusedError: the logits are not the output of a linear layer of one vector per text, a full posterior
            would be too large, or laplace-torch is missing or cannot be imported.
    """

    needs_train: ClassVar[bool] = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        structure: str = "kron",
        prior: str = "default",
        link_approx: str = "probit",
        batch_size: int = 32,
        order: str = "dataset",
        dtype: str = "same",
    ) -> None:
        super().__init__(checkpoint, passes=1, batch_size=batch_size, order=order, dtype=dtype)
        for name, value, choices in (
            ("structure", structure, STRUCTURES),
            ("prior", prior, PRIORS),
            ("link_approx", link_approx, LINKS),
        ):
            if value not in choices:
                raise UsageError(f"{name} is {value!r}: choose {', '.join(choices)}.")
        self._tuned, self._link = prior == "marglik", link_approx
        laplace = _load_laplace()
        head = find_head(checkpoint)
        count = sum(value.numel() for value in head.linear.parameters())
        if structure == "full" and count > MOST_FULL:
            raise RefusedError(
                f"A full posterior over the last layer of {checkpoint.name} takes a matrix of {count} x "
                f"{count}, and {MOST_FULL} parameters are the most it is made for; use structure=kron."
            )
        model = _OfDicts(checkpoint.twin(dtype), tuple(self._tokenizer.model_input_names))
        # Of a frozen parameter no derivative is made.
        model.requires_grad_(False)
        model.get_submodule(f"model.{head.name}").requires_grad_(True)
        self._laplace: Any = laplace(
            model, "classification", "last_layer", structure, last_layer_name=f"model.{head.name}"
        )
        self.modules = (self._laplace.model,)
        self._fitted = False

    def fit(self, train: LabelledPlan) -> None:
        loader = self._loader(train.plan, np.arange(len(train.plan)), "labels", train.labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script, below it
            warnings.filterwarnings("ignore", message="By default `link_approx`")  # whatever one says
            self._laplace.fit(loader)
            if self._tuned:
                self._laplace.optimize_prior_precision(pred_type="glm", method="marglik")
        self._fitted = True

    @property
    def learnt(self) -> dict[str, float]:
        """Prior precision, and log Z by laplace-torch."""
        if not self._fitted:
            return {}
        return {
            "prior_precision": float(self._laplace.prior_precision),
            "log_marginal_likelihood": float(self._laplace.log_marginal_likelihood()),
        }

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        if not self._fitted:
            raise UsageError("laplace-torch learns from training data: call fit before predict.")
        order = self._positions(plan)
        loader = self._loader(plan, order, "rows", plan.rows)
        with torch.no_grad(), seeded(seed, self._device):
            found = [self._laplace(batch, pred_type="glm", link_approx=self._link) for batch in loader]
        probs: FloatArray = np.empty((len(plan), found[0].shape[1]))
        probs[order] = torch.cat(found).double().cpu().numpy()
        probs /= probs.sum(axis=1, keepdims=True)
        return Predictive(probs, passes=np.ones(len(plan), dtype=np.int64), notes=self._notes)

    def _loader(
        self, plan: Plan, order: IntArray, name: str, values: IntArray
    ) -> torch.utils.data.DataLoader[Any]:
        """Batches of what the tokenizer makes, on the device, with `values` of the plan's texts as `name`."""
        pad = DataCollatorWithPadding(self._tokenizer)
        texts = EncodedTexts(plan, self._tokenizer, order)
        items: Any = [(texts[at], int(values[position])) for at, position in enumerate(order)]

        def collate(chosen: list[tuple[dict[str, list[int]], int]]) -> dict[str, Tensor]:
            batch = {**pad([item for item, _ in chosen]), name: torch.tensor([value for _, value in chosen])}
            return {key: value.to(self._device) for key, value in batch.items()}

        # With a generator of its own a loader does not draw from torch's.
        return torch.utils.data.DataLoader(
            items, batch_size=self._batch_size, collate_fn=collate, generator=torch.Generator()
        )


class _OfDicts(LogitsOf):
    """A model as a module from the dict that laplace-torch hands on, labels and all, to float32 logits."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__(model)
        self._names = names

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        logits = super().forward({name: inputs[name] for name in self._names})
        if "rows" in inputs:
            checked_softmax(logits.detach()[None], inputs["rows"].cpu().numpy())
        return logits


def _load_laplace() -> Callable[..., Any]:
    """laplace-torch's entry to its classes.

    Raises:
        RefusedError: it is not installed, or something that it imports fails.
    """
    line = 'pip install "calibench[laplace]"'
    try:
        with warnings.catch_warnings():
            # One of its dependencies compiles by `torch.jit.script`, which torch no longer recommends.
            warnings.simplefilter("ignore", DeprecationWarning)
            from laplace import Laplace
    except ModuleNotFoundError as error:
        raise RefusedError(
            f"{error.name} is not installed, which laplace-torch needs; run: {line}"
        ) from error
    except (ImportError, RuntimeError) as error:
        raise RefusedError(
            f"laplace-torch cannot be imported ({error}); in a new environment, run: {line}"
        ) from error
    found: Callable[..., Any] = Laplace
    return found
