"""The distance of the features from the k-th nearest training text, one pass: out-of-scope detection.

    s(x) = |z - z_(k)|, z = h / |h|,

with h what the last linear layer is given, and z_(k) the k-th nearest among the training texts.

Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors" (ICML 2022). Higher means less
certain. The probabilities are those of the plain softmax: the score is all that the method adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from calibench.errors import CalibenchError
from calibench.models.checkpoint import Checkpoint
from calibench.models.passes import at_least
from calibench.models.train_features import TrainFeatures
from calibench.types import FloatArray
from calibench_methods.scores.feature_scores import FeatureScore

#: Similarities held at a time, 4 bytes each.
BLOCK = 2**22


class Knn(FeatureScore):
    """The score `knn`, a distance between unit vectors: 0 to 2.

    The search is exact but for rounding: neighbours are ranked by inner products in float32, whose error of
    about 1e-7 can exchange two that are as good as equally far. It runs where the model runs, and holds the
    training features there, 4 N D bytes.

    Args:
        checkpoint: the model.
        k: which neighbour. The paper chooses it on a validation set: 50 for CIFAR-10 with 5,000 images per
            class, 200 for CIFAR-100 with 500, 1000 for ImageNet with 1,300, and 10 with 13 of these. It must
            be smaller than the classes, or a text in the middle of its class has its k-th neighbour in
            another; `notes` say where it is not.

    Raises:
        UsageError: `k` is below 1.
        RefusedError: the logits are not the output of a linear layer of one vector per text.
        CalibenchError: `fit`: features are not finite, or there are fewer than k training texts.
    """

    score: ClassVar[str] = "knn"

    def __init__(self, checkpoint: Checkpoint, *, k: int = 10) -> None:
        super().__init__(checkpoint)
        self._k = at_least(1, "k", k)
        self._device = checkpoint.device

    def learn(self, train: TrainFeatures) -> None:
        if len(train.features) < self._k:
            raise CalibenchError(
                f"k is {self._k}, but there are only {len(train.features)} training texts; set a smaller k "
                "or take more training texts."
            )
        self._smallest = int(np.unique(train.labels, return_counts=True)[1].min())
        self._bank = _unit(torch.from_numpy(train.features).to(self._device))

    @property
    def learnt(self) -> Mapping[str, Any]:
        return {"vectors": len(self._bank)}

    def notes(self) -> tuple[str, ...]:
        if self._k <= self._smallest:
            return super().notes()
        note = f"k is {self._k}, but the smallest class has only {self._smallest} training texts."
        return (*super().notes(), note)

    def of_features(self, features: Tensor, probs: FloatArray) -> Mapping[str, FloatArray]:  # noqa: ARG002
        with torch.inference_mode():
            points = _unit(features.float())
            # The inner product loses half of its digits on the way to a small distance: subtract instead.
            distances = (points - self._bank[self._neighbour(points)]).double().norm(dim=1)
        return {self.score: distances.cpu().numpy()}

    def _neighbour(self, points: Tensor) -> Tensor:
        """Which training text is the k-th nearest: int64 [B]."""
        best = torch.empty(len(points), 0, device=self._device)
        which = torch.empty(len(points), 0, dtype=torch.int64, device=self._device)
        size = max(1, BLOCK // len(points))
        for start in range(0, len(self._bank), size):
            near = points @ self._bank[start : start + size].T
            values, places = near.topk(min(self._k, near.shape[1]), dim=1, sorted=False)
            best = torch.cat([best, values], dim=1)
            which = torch.cat([which, places + start], dim=1)
            best, kept = best.topk(min(self._k, best.shape[1]), dim=1, sorted=True)
            which = which.gather(1, kept)
        return which[:, self._k - 1]


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors.float(), dim=1)
