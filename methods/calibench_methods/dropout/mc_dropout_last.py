"""MC-Dropout in the classifier head alone: one encoder pass, then T stochastic passes of the head.

    p(y | x) = 1/T sum_t softmax(g(h(x); m_t)), with h the encoder without dropout, g the head, m_t its masks.

Gal and Ghahramani, "Dropout as a Bayesian Approximation" (ICML 2016), kept to the last layers as in Brosse et
al., "On Last-Layer Algorithms for Classification" (2020). All T passes read one encoder output, so that they
cost little beyond a deterministic pass; what the encoder's own dropout would add to the spread is given up,
and the coverage says how many sites that is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from calibench.data.hub import one_line
from calibench.errors import RefusedError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.encoder import Encoder
from calibench.models.passes import at_least, predict_passes
from calibench.types import Batch, Plan, Predictive
from calibench_methods.sampling.live import LiveDropout, seeded
from calibench_methods.sampling.sites import Inputs, measure_coverage, require_sites, sites_without_batch_axis

#: Rows of one forward call of the head, at most: 16 MiB of features 512 wide in float32.
MOST_ROWS = 8192


class McDropoutLast(Method):
    """T passes of the head over the encoder's output for each batch, before the next batch.

    A head that reads the first token alone, as most do, runs on T copies of that token in few forward calls;
    this is tried when the method is made, not looked up. Any other head runs T times in a row, and so does
    one with a mask that all rows of a call share: then the logits are bit for bit those of a head under
    `train()` after one `torch.manual_seed(seed)`. The law of each pass is the same either way. Masks come
    from torch's generators, so that another batch plan gives other draws of the same law.

    Args:
        checkpoint: the model; the head runs on a twin of it.
        passes: T, at least 1.
        keep_samples: whether to keep the softmax of each pass, 4 T N C bytes.

    Raises:
        UsageError: `passes` is below 1.
        RefusedError: the model has no dropout, none behind its encoder, no encoder of its own, or its logits
            are not the output of a linear layer of one vector per text.
    """

    encoder: Encoder

    def __init__(self, checkpoint: Checkpoint, *, passes: int = 20, keep_samples: bool = True) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        self._keep_samples = keep_samples
        self._device = checkpoint.device
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs, method="mc-dropout-last")
        self.encoder = Encoder(checkpoint)
        encoded = self.encoder(Batch(inputs, np.arange(2)))
        hidden = encoded.hidden
        if not isinstance(hidden, ModelOutput):
            raise RefusedError(
                f"mc-dropout-last runs an encoder once for all passes, but {checkpoint.name} has no encoder "
                "apart from its head; use mc-dropout or mc-dropout-batch."
            )
        base = self.encoder.base_name
        behind = tuple(site for site in sites if not f"{site.name}.".startswith(f"{base}."))
        if not behind:
            raise RefusedError(
                f"mc-dropout-last draws in the head alone, but the head of {checkpoint.name} has no dropout, "
                "so that every pass would be the same; use mc-dropout or mc-dropout-batch."
            )
        self._module = checkpoint.twin()
        self._replay = _Replay()
        self._module.set_submodule(base, self._replay)
        self._require_same(self._tried(inputs, hidden), encoded.logits)
        self._together = self._reads_first_token(inputs, hidden) and not {site.name for site in behind} & set(
            sites_without_batch_axis(checkpoint.module, inputs)
        )
        LiveDropout(self._module, behind)
        self._replay.output = hidden
        self.coverage = measure_coverage(self._module, sites, inputs)
        self._replay.output = None
        self.modules = (checkpoint.module, self._module)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        try:
            with torch.inference_mode(), seeded(seed, self._device):
                return predict_passes(plan, self._logits, keep_samples=self._keep_samples)
        finally:
            self._replay.output = None

    def _logits(self, batch: Batch) -> Tensor:
        hidden = self.encoder(batch).hidden
        if not self._together:
            return torch.stack([self._head(batch.inputs, hidden) for _ in range(self.passes)])
        inputs, first = _first_token(batch.inputs, hidden)
        rows = len(batch)
        most = max(1, MOST_ROWS // rows)
        chunks = [min(most, self.passes - start) for start in range(0, self.passes, most)]
        return torch.cat(
            [self._head(_copied(inputs, n), _copied(first, n)).view(n, rows, -1) for n in chunks]
        )

    def _head(self, inputs: Inputs, hidden: Any) -> Tensor:
        self._replay.output = hidden
        logits: Tensor = self._module(**inputs).logits
        return logits

    def _tried(self, inputs: Inputs, hidden: Any) -> Tensor | str:
        """The head's logits, or why it has none."""
        try:
            with torch.inference_mode():
                return self._head(inputs, hidden)
        except Exception as error:  # whatever the model raises
            return one_line(error)

    def _require_same(self, found: Tensor | str, expected: Tensor) -> None:
        if isinstance(found, Tensor) and torch.allclose(found, expected, rtol=0, atol=1e-6, equal_nan=True):
            return
        reason = "gives other logits" if isinstance(found, Tensor) else f"fails ({found})"
        raise RefusedError(
            f"mc-dropout-last runs the head by itself on what the encoder returned, but that of "
            f"{type(self._module).__name__} {reason}; use mc-dropout or mc-dropout-batch."
        )

    def _reads_first_token(self, inputs: Inputs, hidden: Any) -> bool:
        """Whether the logits stay the same, bit for bit, when other tokens are noise, and then go."""
        states = hidden.get("last_hidden_state")
        if states is None:
            return False
        noise = torch.linspace(-3, 3, states.numel(), dtype=states.dtype, device=self._device)
        noise = torch.cat([states[:, :1], noise.view_as(states)[:, 1:]], dim=1)
        disturbed = replace(hidden, last_hidden_state=noise)
        with torch.inference_mode():
            expected = self._head(inputs, hidden)
            if not torch.equal(self._head(inputs, disturbed), expected):
                return False
            try:
                alone = self._head(*_first_token(inputs, hidden))
            except (RuntimeError, IndexError, ValueError):  # the head needs the whole sequence's shape
                return False
        return alone.shape == expected.shape


class _Replay(nn.Module):
    """Stands in for the encoder and returns what the encoder has returned."""

    output: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.output


def _first_token(inputs: Inputs, hidden: Any) -> tuple[Inputs, Any]:
    """Inputs [B, 1] and the encoder's tensors for the first token; a vector per text stays what it is."""
    kept = {
        name: value[:, :1] if value.dim() > 2 else value
        for name, value in hidden.items()
        if isinstance(value, Tensor)
    }
    return {name: value[:, :1] for name, value in inputs.items()}, type(hidden)(**kept)


def _copied(values: Any, copies: int) -> Any:
    """The same mapping with each tensor [B, ...] repeated to [copies * B, ...], copy by copy."""
    return type(values)(**{name: torch.cat([value] * copies) for name, value in values.items()})
