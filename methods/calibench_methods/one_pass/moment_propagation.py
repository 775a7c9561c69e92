"""MC-Dropout without sampling: first-order variance of the log-odds, from one pass and its gradient.

    g(m) ~ N(g(1) - h/2, V g),    p(top | x) = E sigmoid(g),
    V a = sum_i p_i / (1 - p_i) (da/dm_i)^2 at m = 1,
    h = V(u' f),    u_k = sqrt(q_k) s_k - q_k sum_j sqrt(q_j) s_j,

with f the logits, top the class they favour, g its log-odds log (softmax(f)_top / (1 - softmax(f)_top)), q
the softmax of the other classes alone, s_k = 1, -1, 1, ... in order of q, and m_i the mask of unit i: 0 with
probability p_i, else 1 / (1 - p_i). The other classes share 1 - p(top | x) in proportion to q.

After Postels et al., "Sampling-free epistemic uncertainty estimation using approximated variance propagation"
(ICCV 2019), and Wang and Manning, "Fast dropout training" (ICML 2013). They push variances forward, layer by
layer; here derivatives are pulled back, so that correlations between units are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from calibench.errors import CalibenchError, RefusedError
from calibench.method import Method
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.passes import at_least, checked_softmax
from calibench.models.plan import longest, map_batches
from calibench.types import Batch, FloatArray, IntArray, Plan, Predictive
from calibench_methods.sampling.first_token import keep_first_token
from calibench_methods.sampling.footprint import MIB, peak_bytes
from calibench_methods.sampling.keyed_dropout import Intercept
from calibench_methods.sampling.live import LiveDropout
from calibench_methods.sampling.sites import batch_axes, measure_coverage, require_sites

NODES = 64


@dataclass(frozen=True, eq=False)
class _Output:
    """What a dropout returns: the units, what the model was handed, and the variance of a mask of mean 1."""

    values: Tensor
    handed: Tensor
    factor: float


class MomentPropagation(Method):
    """One forward pass and one backward pass per text, two for more than two classes; nothing is drawn.

    The variance is that of the additive part of the log-odds in the masks, taken at the deterministic pass:
    exact where the log-odds are linear in the masks. Noise in the logits also favours the many classes that
    are not predicted, as the log of a sum of exponentials is convex; h is its second-order mean, of which one
    direction u with fixed signs is a probe (with random signs it would be unbiased). What is missed:

    - Masks also move the mean of the logits, usually towards 0, and no part of that is seen. On 251 sentences
      of SST-2 it makes up most of the error that is left, which is that of about 10 independent passes, as
      is that on 150 texts with CLINC150's 150 classes.
    - The classes that are not predicted keep their proportions.

    `scores` holds "standard_deviation", float64 [N]: of the probability of the class that the deterministic
    pass favours, over masks. It says how much passes would differ, not how far `probs` are from their mean,
    and is too small where that mean is nearer to 0 or 1 than it should be.

    Every architecture whose dropout is `F.dropout` or attention dropout is covered, whatever its layers.
    Where the batch is not the first axis of a mask (DeBERTa-v2's `pos_dropout` has none, XLNet has another),
    texts are run one by one, and `notes` say so.

    Args:
        checkpoint: the model; the method works on a twin of it.
        memory_budget_mb: MiB of tensors that a forward and a backward pass may make. What a text needs is
            measured; at least one is run at a time, whatever it takes.

    Raises:
        UsageError: the budget is below 1.
        RefusedError: the model has no dropout, or draws in a way that no derivative can be taken of.
        CalibenchError: a logit or a variance is not finite.
    """

    def __init__(self, checkpoint: Checkpoint, *, memory_budget_mb: int = 1024) -> None:
        super().__init__(checkpoint)
        self._budget = at_least(1, "memory_budget_mb", memory_budget_mb) * MIB
        self._device = checkpoint.device
        inputs = example_inputs(checkpoint)
        sites = require_sites(checkpoint, inputs, method="moment-propagation")
        self._module = checkpoint.twin()
        axes = batch_axes(self._module, inputs)
        self._shared = (*axes.none, *axes.elsewhere)
        keep_first_token(self._module, inputs)
        LiveDropout(self._module, sites)
        _freeze(self._module)
        self._outputs: list[_Output] = []
        self._intercept = Intercept(self._pass_through)
        self._copied = True
        with self._intercept:
            drawing = [
                site.name for site in measure_coverage(self._module, sites, inputs).sites if site.active
            ]
        if drawing:
            raise RefusedError(
                "moment-propagation reaches F.dropout and scaled_dot_product_attention only, but "
                f"{len(drawing)} of the sites of {type(checkpoint.module).__name__} draw otherwise "
                f"({drawing[0]}, ...); use mc-dropout."
            )
        self._copied = self._writes(inputs)
        self._notes = [f"First-order variance over all {len(sites)} dropout sites; nothing is sampled."]
        if self._shared:
            self._notes.append(
                f"One text per forward pass: the masks of {len(self._shared)} sites ({self._shared[0]}, ...) "
                "do not have the batch as their first axis."
            )
        self._measured_length, self._bytes_per_position = 0, math.nan
        self.modules = (self._module,)

    def predict(self, plan: Plan, *, seed: int) -> Predictive:  # noqa: ARG002 - nothing is drawn
        def moments(batch: Batch) -> FloatArray:
            rows = self._rows_at_once(batch.inputs)
            parts = [slice(first, first + rows) for first in range(0, len(batch), rows)]
            return np.concatenate(
                [
                    self._predict({k: v[part] for k, v in batch.inputs.items()}, plan.rows[batch.index[part]])
                    for part in parts
                ]
            )

        with torch.inference_mode(mode=False), torch.enable_grad():
            self._measure(longest(plan).inputs)
            result = map_batches(plan, moments)
        return Predictive(
            probs=result[:, :-1],
            passes=np.ones(len(plan), dtype=np.int64),
            scores={"standard_deviation": result[:, -1]},
            notes=tuple(self._notes),
        )

    def _predict(self, inputs: Mapping[str, Tensor], rows: IntArray) -> FloatArray:
        """Probabilities and the predicted class's standard deviation: float64 [B, C + 1]."""
        logits, variance = self._moments(inputs)
        probs = checked_softmax(logits[None], rows)[0]
        finite = np.isfinite(variance).all(axis=0)
        if not finite.all():
            raise CalibenchError(
                f"The variance of the logits is not finite for row {rows[~finite].min()} of the data set; "
                "run it with --dtype float32."
            )
        log_odds, top = (value.numpy() for value in _log_odds(logits))
        mean, deviation = sigmoid_moments(log_odds - variance[1] / 2, variance[0])
        others = probs.copy()
        np.put_along_axis(others, top[:, None], 0.0, axis=1)
        left = others.sum(axis=1, keepdims=True)
        # All of the mass may have been rounded to the top class.
        share = np.divide(others, left, out=np.full_like(others, 1 / (others.shape[1] - 1)), where=left > 0)
        result = share * (1 - mean[:, None])
        np.put_along_axis(result, top[:, None], mean[:, None], axis=1)
        return np.column_stack([result, deviation])

    def _moments(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, FloatArray]:
        """Logits [B, C], float64 on the host, and V g and h, float64 [2, B]."""
        self._outputs.clear()  # left over where a pass was interrupted
        with self._intercept:
            logits = self._module(**inputs).logits.double()
        variance = np.zeros((2, len(logits)))
        variance[0] = self._variance(_log_odds(logits)[0], keep=logits.shape[1] > 2)
        if logits.shape[1] > 2:
            variance[1] = self._variance((_probe(logits.detach()) * logits).sum(dim=1), keep=False)
        self._outputs.clear()
        return logits.detach().cpu(), variance

    def _variance(self, values: Tensor, *, keep: bool) -> FloatArray:
        """First-order variance over masks of values [B], each a function of its own text: float64 [B]."""
        outputs = [output.values for output in self._outputs]
        gradients = torch.autograd.grad(values.sum(), outputs, retain_graph=keep, materialize_grads=True)
        texts = len(values)
        variance = torch.zeros(texts, dtype=torch.float64, device=values.device)
        for output, gradient in zip(self._outputs, gradients, strict=True):
            # A mask m multiplies a unit u: the derivative by m is u times that by what dropout returns.
            slopes = (output.values.detach() * gradient).float()
            variance += output.factor * slopes.square_().reshape(texts, -1).sum(dim=1).double()
        result: FloatArray = variance.cpu().numpy()
        return result

    def _pass_through(self, values: Tensor, p: float, scale: float) -> Tensor:
        """What dropout returns on average, as a tensor of its own that a derivative can be taken by."""
        if p == 1:
            return torch.zeros_like(values)
        mean = scale * (1 - p)  # but for a scale that is rounded to 16 bits, 1
        output = values * mean if abs(mean - 1) > 1e-5 else values.clone()
        if not output.requires_grad:
            output.requires_grad_()
        handed = output.clone() if self._copied else output
        self._outputs.append(_Output(output, handed, p / (1 - p)))
        return handed

    def _writes(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether the model writes into what a dropout returns (XLM), which a derivative is taken by."""
        with torch.inference_mode(mode=False), torch.enable_grad(), self._intercept:
            self._outputs.clear()
            self._module(**inputs)
        written = any(output.handed._version for output in self._outputs)
        self._outputs.clear()
        return written

    def _measure(self, inputs: Mapping[str, Tensor]) -> None:
        """Measure what a position (one token of one text) needs, if no text of this length was met before."""
        length = inputs["input_ids"].shape[1]
        if length > self._measured_length:
            one = {name: value[:1] for name, value in inputs.items()}
            self._bytes_per_position = peak_bytes(lambda: self._moments(one), self._device) / length
            self._measured_length = length

    def _rows_at_once(self, inputs: Mapping[str, Tensor]) -> int:
        if self._shared:
            return 1
        length = inputs["input_ids"].shape[1]
        return max(1, int(self._budget / self._bytes_per_position / length))


def sigmoid_moments(mean: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the sigmoid of normal variables, by Gauss-Hermite quadrature.

    Args:
        mean, variance: float64 [N].

    Returns:
        Two arrays, float64 [N]; without variance the sigmoid itself and 0.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    values = 0.5 * (1 + np.tanh(0.5 * (mean[:, None] + np.sqrt(variance)[:, None] * nodes)))
    expected = values @ weights
    spread = np.sqrt((values - expected[:, None]) ** 2 @ weights)
    return expected, spread


def _log_odds(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds [B] of the class with the largest logit against all others, and which it is, int64 [B]."""
    top = logits.argmax(dim=1)
    chosen = torch.nn.functional.one_hot(top, logits.shape[1]).bool()
    others = logits.masked_fill(chosen, -torch.inf).logsumexp(dim=1)
    return logits[chosen] - others, top


def _probe(logits: Tensor) -> Tensor:
    """The directions u in the logits, float64 [B, C], 0 for the class with the largest one."""
    top = logits.argmax(dim=1, keepdim=True)
    q = logits.scatter(1, top, -torch.inf).softmax(dim=1)
    order = q.argsort(dim=1, descending=True, stable=True)
    signs = torch.ones_like(q).scatter(
        1, order, (1 - 2 * (torch.arange(q.shape[1], device=q.device) % 2)).to(q.dtype).expand_as(q)
    )
    probe = q.sqrt() * signs
    return probe - q * probe.sum(dim=1, keepdim=True)


def _freeze(module: nn.Module) -> None:
    """Put parameters that need no gradient, of the same storage, in the place of a twin's."""
    frozen: dict[nn.Parameter, nn.Parameter] = {}
    for child in module.modules():
        for name, parameter in [*child.named_parameters(recurse=False)]:
            if parameter not in frozen:
                frozen[parameter] = nn.Parameter(parameter.detach(), requires_grad=False)
            setattr(child, name, frozen[parameter])
