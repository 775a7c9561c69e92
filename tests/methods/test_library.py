"""The methods in an application: a wrapped model, and a patched one."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import pipeline

import zoo
from calibench.errors import RefusedError, UsageError
from calibench_methods import MCDropout, patch_module, unpatch
from tiny_models import EXACT, tiny_model, tiny_tokenizer

TEXTS = ["the film was very good", "not bad", "the plot is dull and the cast was slow but bright"]


def ids() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[2, 5, 7, 9, 3], [2, 4, 6, 3, 0]]), "attention_mask": torch.ones(2, 5)}


@pytest.mark.parametrize(("architecture", "attention"), EXACT)
def test_a_patched_model_gives_the_bits_of_train(architecture: str, attention: str) -> None:
    """Also after `eval()`, and the deterministic bits again once it is unpatched."""
    model = tiny_model(architecture, attention)
    inputs = ids()
    with torch.no_grad():
        plain = model(**inputs).logits
        torch.manual_seed(3)
        expected = copy.deepcopy(model).train()(**inputs).logits
        patched = patch_module(patch_module(model)).eval()
        assert patched is model
        torch.manual_seed(3)
        assert torch.equal(model(**inputs).logits, expected)
        assert not torch.equal(expected, plain)
        assert unpatch(unpatch(model)) is model
        assert torch.equal(model(**inputs).logits, plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_module_of_ones_own_is_patched_by_its_inputs() -> None:
    """Whatever draws is found by running it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    patch_module(model, {"input": torch.ones(2, 4)})
    assert not torch.equal(model(torch.ones(1, 4)), model(torch.ones(1, 4)))


def test_a_model_that_draws_nothing_is_not_patched() -> None:
    """All passes would be equal."""
    with pytest.raises(RefusedError, match="draws no random numbers"):
        patch_module(tiny_model("modernbert"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("architecture", ["distilbert", "bert", "roberta", "electra", "deberta-v2"])
def test_the_wrapper_answers_for_every_architecture(architecture: str, training: bool) -> None:
    """Rows sum to one, every text has its error and passes, and the caller's model is as it was."""
    attention = "eager" if architecture == "deberta-v2" else "sdpa"
    model = tiny_model(architecture, attention, classes=3).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer = MCDropout(model, tiny_tokenizer(architecture), tolerance=0.05)(TEXTS)
    assert answer.probs.shape == (3, 3)
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1)
    assert (answer.standard_error > 0).all()
    assert (answer.passes >= 2).all()
    assert answer.labels == tuple(model.config.id2label.values())
    assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_text_gets_its_own_masks_whoever_is_beside_it() -> None:
    """One text and one seed: one answer, alone, among others, and asked again."""
    ask = MCDropout(tiny_model("distilbert"), tiny_tokenizer(), tolerance=0.02)
    together = ask(TEXTS)
    again = ask(TEXTS[::-1])
    alone = ask(TEXTS[1])
    np.testing.assert_allclose(together.probs[1], alone.probs[0], atol=1e-6)
    np.testing.assert_allclose(together.probs, again.probs[::-1], atol=1e-6)
    np.testing.assert_array_equal(together.passes, again.passes[::-1])
    assert not np.allclose(ask(TEXTS, seed=1).probs, together.probs, atol=1e-6)


def test_a_pipeline_brings_its_tokenizer() -> None:
    """The same answer as from its parts; a number of passes can be asked for; pairs and no texts work."""
    model, tokenizer = tiny_model("bert"), tiny_tokenizer("bert")
    classifier = pipeline("text-classification", model=model, tokenizer=tokenizer)
    ask, parts = MCDropout(classifier, passes=10), MCDropout(model, tokenizer, passes=10)
    np.testing.assert_array_equal(ask(TEXTS).probs, parts(TEXTS).probs)
    assert (ask(TEXTS).passes == 10).all()
    assert ask([("the film", "was good")]).probs.shape == (1, 2)
    assert ask([]).probs.shape == (0, 2)
    assert np.isnan(MCDropout(model, tokenizer, passes=1)(TEXTS).standard_error).all()


def test_weights_trained_further_count() -> None:
    """The wrapper shares them."""
    model = tiny_model("distilbert")
    ask = MCDropout(model, tiny_tokenizer(), passes=4)
    before = ask(TEXTS).probs
    with torch.no_grad():
        model.classifier.bias += torch.tensor([0.0, 3.0])
    assert (ask(TEXTS).probs[:, 1] > before[:, 1]).all()


def test_a_tokenizer_is_needed() -> None:
    """Said in one sentence."""
    with pytest.raises(UsageError, match="fast tokenizer"):
        MCDropout(tiny_model("distilbert"))


@pytest.mark.parametrize(
    "name", ["bart", "mbart", "t5", "umt5", "plbart", "funnel", "opt, LayerDrop", "big_bird"]
)
def test_models_of_many_kinds_are_patched_without_inputs(name: str) -> None:
    """Models with a decoder get the end that they look for; the bits are those of `train()`."""
    model, inputs = zoo.raw(name), ids()
    patch_module(model)
    with torch.no_grad():
        torch.manual_seed(3)
        expected = copy.deepcopy(unpatch(model)).train()(**inputs).logits
        patch_module(model)
        torch.manual_seed(3)
        assert torch.equal(model(**inputs).logits, expected)
        assert not torch.equal(model(**inputs).logits, expected)


def test_a_model_that_token_ids_do_not_run_says_what_to_pass() -> None:
    """Whatever the model raises becomes one sentence."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    with pytest.raises(
        UsageError, match=r"^patch_module cannot run Sequential .*; pass example_inputs, .*[.]$"
    ):
        patch_module(model)


@pytest.mark.parametrize(
    ("outputs", "problem", "found"),
    [
        (1, None, "regression model with 1 output"),
        (1, "regression", "regression model with 1 output"),
        (3, "regression", "regression model with 3 output"),
        (3, "multi_label_classification", "multi label classification model with 3 output"),
    ],
)
def test_heads_that_a_softmax_says_nothing_about(outputs: int, problem: str | None, found: str) -> None:
    """The wrapper refuses what the command refuses, in the same words."""
    model = tiny_model("distilbert", classes=outputs, problem_type=problem)
    with pytest.raises(UsageError, match=rf"{found}.*: pass a classifier"):
        MCDropout(model, tiny_tokenizer())


def test_what_the_wrapper_cannot_do_points_to_patch_module() -> None:
    """It names itself, and what works in an application."""
    model = zoo.raw("bart, LayerDrop")
    for passes in (None, 10):
        with pytest.raises(
            RefusedError, match=r"^MCDropout does not apply: .*layerdrop.*; use patch_module[.]$"
        ):
            MCDropout(model, zoo.tokenizer(zoo.ZOO["bart"]), passes=passes)


# peft 0.21 asks for an attribute that transformers 5.23 has renamed.
def test_an_adapted_model_is_asked_with_all_that_it_takes() -> None:
    """A PeftModel's own signature does not show token types, which the model that it adapts takes."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = tiny_model("bert")
    with torch.random.fork_rng(devices=[]):
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    ask = MCDropout(adapted.eval(), tiny_tokenizer("bert"), passes=4)
    straight, swapped = (ask([pair]).probs for pair in (("the film", "was good"), ("was good", "the film")))
    assert not np.allclose(straight, swapped)
    assert "token_type_ids" in ask._planner.tokenizer.model_input_names


def test_the_package_imports_without_torch() -> None:
    """Its public names come when they are asked for, and others do not exist."""
    code = (
        "import sys, calibench_methods as m; assert 'torch' not in sys.modules; assert not hasattr(m, 'x'); "
        "m.patch_module; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
