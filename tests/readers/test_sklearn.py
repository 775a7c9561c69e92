"""What scikit-learn predicts, saved with its classes, is read back and matched by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression

from calibench.errors import UsageError
from calibench.metrics.scoring import ACCURACY
from calibench.readers.asked import Asked
from calibench.readers.files import source_of
from calibench.readers.sklearn import read
from calibench.types import Evaluation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
KINDS = {
    "words": np.array(["ham", "eggs", "spam"]),
    "numbers": np.array([3, 10, 7]),
    "truth": np.array([False, True]),
    "floats": np.array([0.0, 1.0]),
    "signs": np.array([-1, 1]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_classifier_is_read(kind: str, tmp_path: Path) -> None:
    """Whatever its labels are, the accuracy is that of scikit-learn."""
    y = KINDS[kind][RNG.integers(0, len(KINDS[kind]), len(X))]
    model = LogisticRegression().fit(X, y)
    path = tmp_path / "model.npz"
    np.savez(path, proba=model.predict_proba(X), classes=model.classes_, labels=y)
    found = read(source_of(str(path)), Asked(), "A")
    assert_array_equal(found.probs, model.predict_proba(X))
    assert found.classes.names == tuple(map(str, model.classes_.tolist()))
    assert ACCURACY.evaluate(Evaluation(found.probs, found.labels)) == pytest.approx(model.score(X, y))


def test_labels_of_another_type_with_the_same_values_are_the_same(tmp_path: Path) -> None:
    """1.0 is the class 1; a value that is no class is refused."""
    path = tmp_path / "model.npz"
    arrays: dict[str, Any] = {"proba": np.eye(2), "classes": np.array([0, 1])}
    np.savez(path, labels=np.array([1.0, 0.0]), **arrays)
    assert_array_equal(read(source_of(str(path)), Asked(), "A").labels, [1, 0])
    np.savez(path, labels=np.array([1, 2]), **arrays)
    with pytest.raises(UsageError, match=r"The label .2. of .model.npz. is no class"):
        read(source_of(str(path)), Asked(), "A")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"classes": np.array(["a", "b"], object)}, "would run them"),
        ({"classes": np.arange(3)}, r"classes \[3\]"),
        ({"proba": np.log([[0.5, 0.5]] * 2)}, "is no probability"),
        ({"proba": np.full((2, 2), 0.4)}, "sums to 0.8"),
        ({"labels": np.zeros(5, int)}, "not of one length"),
        ({"proba": np.full((3, 2, 2), 0.5)}, "several"),
    ],
)
def test_what_does_not_fit_is_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Naming what was found; an object array of classes is what pandas gives."""
    path = tmp_path / "model.npz"
    good = {"proba": np.eye(2), "classes": np.array([0, 1]), "labels": np.array([0, 1])}
    np.savez(path, **(good | arrays))
    with pytest.raises(UsageError, match=message):
        read(source_of(str(path)), Asked(), "A")
