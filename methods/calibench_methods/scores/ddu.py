"""The density of the features under a Gaussian per class, one pass: deep deterministic uncertainty.

    s(x) = -log sum_c (N_c / N) Normal(h; m_c, S_c), S_c = (1 - a) C_c + a W,

with h what the last linear layer is given, and over the training texts m_c and C_c the mean and covariance of
class c, N_c of N texts, and W the covariance within classes. Beside it the entropy of the softmax, which
stands for what no more data would settle.

Mukhoti et al., "Deep Deterministic Uncertainty: A New Simple Baseline" (CVPR 2023), on a model that was not
trained with their spectral normalisation. C_c is singular where a class has fewer texts than there are
features; the paper adds a multiple of the identity, just large enough for the arithmetic. Here C_c is drawn
towards W, as in Friedman, "Regularized Discriminant Analysis" (JASA 1989), which needs no scale of its own:
the score does not change under affine maps of the features, and a class with one text has the covariance a W.
Higher means less certain. The probabilities are those of the plain softmax: the scores are all that the
method adds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor

from calibench.errors import UsageError
from calibench.models.checkpoint import Checkpoint
from calibench.models.train_features import TrainFeatures
from calibench.types import FloatArray
from calibench_methods.scores.feature_scores import FeatureScore, on_host
from calibench_methods.scores.gaussians import ByClass, Whitening, covariance, squared_distances


class Ddu(FeatureScore):
    """The scores `ddu`, the negative log density, and `entropy`, of the softmax, both in nats.

    In coordinates that whiten W, S_c is a multiple of the identity but for the directions in which the texts
    of class c vary, of which there are fewer than N_c: the method keeps these, in float32 where the model
    runs, min(D, largest N_c) for every class, instead of a D x D matrix. Directions in which no class varies
    are left out. Classes without training texts take no part, and `notes` say so.

    Args:
        checkpoint: the model.
        shrinkage: a, above 0 and up to 1, where all classes have the covariance W.

    Raises:
        UsageError: `shrinkage` is out of range.
        RefusedError: the logits are not the output of a linear layer of one vector per text.
        CalibenchError: `fit`: features are not finite, or do not vary within classes.
    """

    score: ClassVar[str] = "ddu"

    def __init__(self, checkpoint: Checkpoint, *, shrinkage: float = 0.5) -> None:
        super().__init__(checkpoint)
        if not 0.0 < shrinkage <= 1.0:
            raise UsageError(f"shrinkage is {shrinkage:g}, but must be above 0 and at most 1.")
        self._shrinkage = shrinkage
        self._device = checkpoint.device

    def learn(self, train: TrainFeatures) -> None:
        groups = ByClass(train.features, train.labels)
        centre: FloatArray = train.features.mean(axis=0, dtype=np.float64)
        self._white = Whitening(centre, covariance(train.features, groups.means, groups.place))
        self._means = self._white(groups.means)
        rank, a = self._white.rank, self._shrinkage
        width = int(min(rank, groups.counts.max()))
        directions = np.zeros((len(self._means), width, rank), dtype=np.float32)
        constants = np.empty(len(self._means))
        for k, mean in enumerate(self._means):
            values, vectors = _principal(self._white(train.features[groups.place == k]) - mean)
            # |w|^2 / a counts these directions with 1 / a instead of one over their own variance.
            variances = (1.0 - a) * values + a
            directions[k, : len(values)] = np.sqrt(1.0 / a - 1.0 / variances)[:, None] * vectors
            constants[k] = np.log(variances).sum() + (rank - len(values)) * math.log(a)
        constants += self._white.log_determinant + rank * math.log(2.0 * math.pi)
        self._constants = np.log(groups.counts / groups.counts.sum()) - 0.5 * constants
        self._directions = torch.from_numpy(directions).to(self._device)
        self._offsets = torch.einsum("kwr,kr->kw", self._directions, self._as_tensor(self._means))

    @property
    def learnt(self) -> Mapping[str, Any]:
        return {"classes": len(self._means), "rank": self._white.rank}

    def of_features(self, features: Tensor, probs: FloatArray) -> Mapping[str, FloatArray]:
        points = self._white(on_host(features))
        squares = squared_distances(points, self._means) / self._shrinkage - self._along(points)
        densities = np.logaddexp.reduce(self._constants - 0.5 * squares, axis=1)
        return {self.score: -densities, "entropy": entr(probs).sum(axis=1)}

    def _along(self, points: FloatArray) -> FloatArray:
        """[B, K]: what the squares count too much along the directions of each class."""
        with torch.inference_mode():
            along = self._as_tensor(points) @ self._directions.flatten(0, 1).T
            along = along.reshape(len(points), *self._offsets.shape) - self._offsets
            found: FloatArray = along.square().sum(dim=2).to("cpu", torch.float64).numpy()
        return found

    def _as_tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(values).float().to(self._device)


def _principal(centred: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """Variances [r] and orthonormal directions [r, R] of centred points [n, R], r = min(n, R)."""
    count, width = centred.shape
    if count > width:
        values, vectors = np.linalg.eigh(centred.T @ centred / count)
        return np.maximum(values, 0.0), vectors.T
    _, spreads, directions = np.linalg.svd(centred, full_matrices=False)
    return spreads**2 / count, directions
