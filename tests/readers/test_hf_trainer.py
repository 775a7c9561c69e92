"""What the Trainer of transformers predicts, saved as its output says, is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from calibench.errors import UsageError
from calibench.readers.asked import Asked
from calibench.readers.files import source_of
from calibench.readers.hf_trainer import read
from tiny_models import sentences, tiny_model, tiny_tokenizer

CLASSES = 3


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "trainer.npz"
    np.savez(path, **arrays)
    return path


def test_a_real_output_is_read(tmp_path: Path) -> None:
    """`numpy.savez(file, **output._asdict())`: its metrics are pickled, and left alone."""
    pytest.importorskip("accelerate", reason="the Trainer needs accelerate, an extra")
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = tiny_model("distilbert", classes=CLASSES).eval(), tiny_tokenizer()
    examples = [tokenizer(text) | {"labels": i % CLASSES} for i, text in enumerate(sentences(7))]
    settings = TrainingArguments(
        output_dir=str(tmp_path), report_to=[], disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False
    )
    trainer = Trainer(model=model, args=settings, data_collator=DataCollatorWithPadding(tokenizer))
    output = trainer.predict(examples)  # type: ignore[arg-type] # a list is a data set too
    found = read(source_of(str(saved(tmp_path, **output._asdict()))), Asked(), "A")
    assert_array_equal(found.labels, [i % CLASSES for i in range(7)])
    with torch.inference_mode():
        for row, example in enumerate(examples):
            inputs = {key: torch.tensor([example[key]]) for key in ("input_ids", "attention_mask")}
            expected = model(**inputs).logits.double().softmax(-1)[0]
            assert_allclose(found.probs[row], expected, atol=1e-6)


def test_ignored_labels_are_missing(tmp_path: Path) -> None:
    """-100 is what the Trainer's losses take for no label; other ids below 0 are refused."""
    logits = np.random.default_rng(0).normal(size=(3, CLASSES)).astype("f4")
    path = saved(tmp_path, predictions=logits, label_ids=np.array([0, -100, 2]))
    assert_array_equal(read(source_of(str(path)), Asked(), "A").lacking, [False, True, False])
    for wrong in (-1, 3):
        path = saved(tmp_path, predictions=logits, label_ids=np.array([0, wrong, 2]))
        with pytest.raises(UsageError, match=f"The label {wrong} in row 2"):
            read(source_of(str(path)), Asked(), "A")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"predictions": np.zeros((2, 3))}, "no array 'label_ids'"),
        ({"predictions": np.zeros((2, 1)), "label_ids": np.zeros(2, int)}, "expected logits"),
        ({"predictions": np.zeros((2, 4, 3)), "label_ids": np.zeros((2, 4), int)}, "save the logits alone"),
        ({"predictions": np.zeros((2, 3)), "label_ids": np.zeros(3, int)}, "not of one length"),
        ({"predictions": np.zeros((2, 3)), "label_ids": np.zeros(2)}, "label_ids .* are float64"),
        ({"predictions": np.full((2, 2), 0.5), "label_ids": np.zeros(2, int)}, "are probabilities"),
    ],
)
def test_outputs_of_other_models_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Regression, one prediction per token, no labels, and probabilities."""
    with pytest.raises(UsageError, match=message):
        read(source_of(str(saved(tmp_path, **arrays))), Asked(), "A")


def test_columns_are_not_named(tmp_path: Path) -> None:
    """What is what is known here."""
    path = saved(tmp_path, predictions=np.eye(2), label_ids=np.zeros(2, int))
    with pytest.raises(UsageError, match="--label has no meaning with --from hf-trainer"):
        read(source_of(str(path)), Asked(label="y"), "A")
