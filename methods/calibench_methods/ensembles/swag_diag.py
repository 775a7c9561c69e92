"""SWAG with a diagonal covariance: networks whose weights are drawn around the mean of a training run's.

    p(y | x) = 1/S sum_s softmax(f(x; theta_s)),  theta_s ~ N(mean, scale * diag(v)),
    mean = 1/T sum_i theta_i,  v = 1/T sum_i theta_i^2 - mean^2, element by element, over T checkpoints.

Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning" (NeurIPS 2019). Its SWAG-Diagonal
is N(mean, diag(v)), the default scale of 1; the factor 1/2 belongs to full SWAG, which adds a low-rank
covariance to the diagonal one, and scale=0.5 gives the diagonal half of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from calibench.errors import RefusedError, UsageError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.seeds import derived_seed
from calibench.types import Batch, Plan, Predictive
from calibench_methods.ensembles.members import Network, load_network, mean_of_models
from calibench_methods.ensembles.trajectory import checkpoints_in
from calibench_methods.sampling.footprint import MIB, free_bytes

#: Of what is free, how much all weights together may take.
SHARE_OF_DEVICE, SHARE_OF_HOST = 0.8, 0.5


class SwagDiag(Method):
    """S networks, each with weights drawn once for all texts.

    The errors of the texts are therefore correlated within a sample: with few samples a whole evaluation
    leans to one side, and `standard_error` is right for each text but not independent between texts.

    Weights are keyed by (seed, number of the sample) and drawn on the host, so that batches and S change no
    sample. As a server would, the method draws them once and holds them: S + 2 sets of weights, of which two
    are the mean and the deviations. The first prediction with a seed draws, later ones with it do not; the
    harness gives all predictions of a cell the same seed, and draws before its clocks start.

    The moments are taken in float32 (float64 where the run is in float64) by Welford's updates, which equal
    the difference of moments above without its cancellation, and v is no less than 0. Buffers are those of
    the last checkpoint. Layer normalisation has no state that depends on the weights, so that a sample needs
    no pass over training data; a model with batch normalisation, which does, is refused.

    Args:
        checkpoint: whose labels, dtype and device the samples are held to, and whose tokenizer stands in
            where a checkpoint was saved without one; its weights count only where they are among those of the
            folder.
        folder: as of `snapshot`.
        last: how many of the last checkpoints to use, at least 2, or 0 for all.
        passes: S, at least 1.
        scale: what v is multiplied by, 0 or more; 0 gives S times the network with the mean weights.

    Raises:
        UsageError: a parameter is out of range, no such folder, fewer than two checkpoints in it, a name
            without a step, or the samples take more memory than half (on CUDA 80%) of what is free.
        RefusedError: batch normalisation, checkpoints of unlike models, other labels or another tokenizer; on
            `predict`, a text is too long.
        CalibenchError: a checkpoint's files cannot be read.
    """

    draws_once: ClassVar[bool] = True

    def __init__(
        self, checkpoint: Checkpoint, *, folder: str, last: int = 0, passes: int = 20, scale: float = 1.0
    ) -> None:
        super().__init__(checkpoint)
        self.passes = at_least(1, "passes", passes)
        if not (scale >= 0 and math.isfinite(scale)):
            raise UsageError(f"scale is {scale}, but must be a number of at least 0.")
        names = self.members({"folder": folder, "last": last})
        self._network, self._means, self._deviations = _moments(names, checkpoint)
        for deviation in self._deviations.values():
            deviation.mul_(math.sqrt(scale))
        self._network.module.to(checkpoint.dtype)
        self._parameters = dict(self._network.module.named_parameters())
        self._require_room(checkpoint.device)
        self._held: tuple[int, list[dict[str, Tensor]]] | None = None
        self.modules = (self._network.module,)

    @classmethod
    def members(cls, params: Mapping[str, Any]) -> Sequence[str]:
        last = params["last"]
        return checkpoints_in(params["folder"], at_least(2, "last", last) if last else 0)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:
        self._network.check(plan)
        self._draw(seed)
        with torch.inference_mode():
            return mean_of_models(plan, self._samples(), independent=True, notes=self._network.notes)

    def _samples(self) -> Iterator[Callable[[Batch], Tensor]]:
        """The network with each set of weights in turn."""
        assert self._held is not None
        for weights in self._held[1]:
            for name, parameter in self._parameters.items():
                parameter.data = weights[name]
            yield self._network.logits

    def _draw(self, seed: int) -> None:
        """Hold the samples of this seed, and no others."""
        if self._held is None or self._held[0] != seed:
            self._held = None  # first, so that two seeds' samples are never there at once
            for name, parameter in self._parameters.items():
                parameter.data = self._means[name].to(parameter.dtype)
            self._held = (seed, [self._sample(seed, number) for number in range(self.passes)])

    def _sample(self, seed: int, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(derived_seed(seed, "weights", number))
        weights = {}
        for name, mean in self._means.items():
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
            weights[name] = noise.mul_(self._deviations[name]).add_(mean).to(self._parameters[name].dtype)
        return weights

    def _require_room(self, device: torch.device) -> None:
        one = sum(value.numel() * value.element_size() for value in self._parameters.values())
        share = SHARE_OF_DEVICE if device.type == "cuda" else SHARE_OF_HOST
        room = share * free_bytes(device)
        if self.passes * one > room:
            raise UsageError(
                f"{self.passes} samples of the weights take {self.passes * one // MIB} MiB, and "
                f"{room / MIB:.0f} may be used; lower passes to {max(1, int(room // one))}, or free some."
            )


def _moments(
    names: Sequence[str], checkpoint: Checkpoint
) -> tuple[Network, dict[str, Tensor], dict[str, Tensor]]:
    """The last network, and mean and standard deviation of each parameter over all of them."""
    wide = "float64" if checkpoint.dtype == torch.float64 else "float32"
    means: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    for count, name in enumerate(names, start=1):
        network = load_network(name, checkpoint, dtype=wide, tokenizer=checkpoint.tokenizer)
        weights = {key: value.detach() for key, value in network.module.named_parameters()}
        if count == 1:
            _refuse_batch_norm(network)
            means = {key: torch.zeros_like(value) for key, value in weights.items()}
            squares = {key: torch.zeros_like(value) for key, value in weights.items()}
        if {key: value.shape for key, value in weights.items()} != {k: v.shape for k, v in means.items()}:
            raise RefusedError(
                f"{network.name} is another model than the checkpoints before it; pass a folder with the "
                "checkpoints of one training run."
            )
        for key, value in weights.items():
            before = value - means[key]
            means[key] += before / count
            squares[key] += before * (value - means[key])
    return network, means, {key: (value.clamp(min=0) / len(names)).sqrt() for key, value in squares.items()}


def _refuse_batch_norm(network: Network) -> None:
    for name, module in network.module.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise RefusedError(
                f"{network.name} has batch normalisation ({name}), whose statistics each sample of weights "
                "would have to take anew from training data; use snapshot or deep-ensemble."
            )
