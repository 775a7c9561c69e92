"""The distance of the features from the nearest class, one pass: a score for what is out of scope.

    s(x) = min_c (h - m_c)^T S^-1 (h - m_c),

with h what the last linear layer is given, m_c the mean over training texts of class c, and S the covariance
within classes, one for all of them.

Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"
(NeurIPS 2018), of whose layers it takes the last, without input preprocessing. Relative: the squared
distance from the mean of all texts, by the covariance of all texts, is subtracted; Ren et al., "A Simple Fix
to Mahalanobis Distance for Improving Near-OOD Detection" (2021). Higher means less certain. The probabilities
are those of the plain softmax: the score is all that the method adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from calibench.models.checkpoint import Checkpoint
from calibench.models.train_features import TrainFeatures
from calibench.types import FloatArray
from calibench_methods.scores.feature_scores import FeatureScore, on_host
from calibench_methods.scores.gaussians import ByClass, Whitening, covariance, squared_distances


class Mahalanobis(FeatureScore):
    """The score `mahalanobis`, a squared distance, or the difference of two where it is relative.

    S is that of maximum likelihood, divided by the number of texts, and pseudo-inverted where it is singular.
    Classes without training texts take no part, and `notes` say so.

    Args:
        checkpoint: the model.
        relative: whether to subtract the distance from all texts.

    Raises:
        RefusedError: the logits are not the output of a linear layer of one vector per text.
        CalibenchError: `fit`: features are not finite, or do not vary within classes.
    """

    score: ClassVar[str] = "mahalanobis"

    def __init__(self, checkpoint: Checkpoint, *, relative: bool = False) -> None:
        super().__init__(checkpoint)
        self._relative = relative

    def learn(self, train: TrainFeatures) -> None:
        groups = ByClass(train.features, train.labels)
        centre: FloatArray = train.features.mean(axis=0, dtype=np.float64)
        self._within = Whitening(centre, covariance(train.features, groups.means, groups.place))
        self._means = self._within(groups.means)
        if self._relative:
            nowhere = np.zeros(len(train.features), dtype=np.int64)
            self._overall = Whitening(centre, covariance(train.features, centre[None], nowhere))

    @property
    def learnt(self) -> Mapping[str, Any]:
        return {"classes": len(self._means), "rank": self._within.rank}

    def of_features(self, features: Tensor, probs: FloatArray) -> Mapping[str, FloatArray]:  # noqa: ARG002
        points = on_host(features)
        nearest = squared_distances(self._within(points), self._means).min(axis=1)
        if self._relative:
            nearest -= (self._overall(points) ** 2).sum(axis=1)
        return {self.score: nearest}
