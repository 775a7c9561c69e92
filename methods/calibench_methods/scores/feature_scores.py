"""What the scores of features share: a fit on the features of the training texts, then one pass per text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from calibench.errors import CalibenchError
from calibench.models.checkpoint import Checkpoint
from calibench.models.encoder import Encoded
from calibench.models.train_features import TrainFeatures, train_features
from calibench.types import FloatArray, LabelledPlan
from calibench_methods.scores.base import OnePassScores


class FeatureScore(OnePassScores):
    """A method that adds scores of the features before the last linear layer to the plain softmax."""

    needs_train: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._checkpoint = checkpoint
        self._without = 0
        self._fitted = False

    def fit(self, train: LabelledPlan) -> None:
        found = train_features(self._checkpoint, self.encoder, train)
        self._without = len(self._checkpoint.labels) - len(np.unique(found.labels))
        self.learn(found)
        self._fitted = True

    def scores(self, encoded: Encoded, probs: FloatArray) -> Mapping[str, FloatArray]:
        if not self._fitted:
            raise CalibenchError(f"{type(self).__name__} learns from training data; call fit before predict.")
        return self.of_features(encoded.features, probs)

    def notes(self) -> tuple[str, ...]:
        if not self._without:
            return ()
        total = len(self._checkpoint.labels)
        return (f"{self._without} of {total} classes have no training text and take no part in the score.",)

    @abstractmethod
    def learn(self, train: TrainFeatures) -> None:
        """Keep what the scores need."""

    @abstractmethod
    def of_features(self, features: Tensor, probs: FloatArray) -> Mapping[str, FloatArray]:
        """Named scores, each float64 [B], of features [B, D] on the model's device, and of the softmax."""


def on_host(features: Tensor) -> FloatArray:
    """Features in float64 on the host: densities lose too much in less."""
    values: FloatArray = features.to("cpu", torch.float64).numpy()
    return values
