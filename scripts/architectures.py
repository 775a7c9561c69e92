"""The architectures of `tests/support/zoo.py` as a table of what the sampling methods do on each.

python scripts/architectures.py            # write docs/architectures.md
python scripts/architectures.py --check    # exit with 1 where it is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import transformers

from calibench.errors import RefusedError
from calibench.models.checkpoint import example_inputs
from calibench.models.padding import padded, settle_padding
from calibench.models.plan import Planner
from calibench.runtimes.start import start_checked
from calibench_methods.dropout.mc_dropout import McDropout
from calibench_methods.dropout.mc_dropout_stratified import McDropoutStratified
from calibench_methods.sampling.live import seeded
from calibench_methods.sampling.sites import find_sites

ROOT = Path(__file__).resolve().parents[1]
# The models are those of the tests, which are no package.
sys.path.insert(0, str(ROOT / "tests" / "support"))
import zoo  # noqa: E402

PAGE = ROOT / "docs" / "architectures.md"
TEXT = """# Architectures

Tiny models of many architectures, with random weights and every dropout probability that their
configurations have, as `scripts/architectures.py` finds them with transformers {version}.
`tests/methods/sampling/test_zoo.py` and `tests/models/test_padding.py` test what the table says. What is
found is found by running the model: an architecture that is not listed is tried in the same way, and is
refused in a sentence where a method cannot be right on it.

- **Sites** are the places where a training pass draws random numbers, by kind: `hidden` for a dropout
  module, `attention` for dropout inside an attention function, `layerdrop` for one that skips whole layers,
  else the class that draws. Attention dropout that is a module of its own counts as hidden.
- **train()**: the logits of `mc-dropout` have the bits of `train()` over the same batches after one seed.
- **Padding**: the side on which texts are padded, as `settle_padding` finds it, or none where batches hold
  texts of one length because the model sees padding; and the largest difference between a text in a plan's
  batch and alone, in float32.
- **Keyed masks**: what `mc-dropout-batch`, `-stratified`, `-adaptive` and `MCDropout` need, in each
  attention that the architecture has on a CPU. Where they are refused, `mc-dropout` and `patch_module`
  work, unless it says otherwise.
- **ONNX**: the largest difference of a logit between ONNX Runtime and PyTorch on texts of 1 to 20 words, with
  onnxruntime {onnxruntime} and torch {torch}; or why there is no graph, or none that runs.

{table}

BigBird and its kin start with block-sparse attention, and replace it for good by full attention at their
first text of up to (5 + 2 `num_random_blocks`) `block_size` tokens, 704 by default. What they say of a
longer text then depends on what they were asked before. Here a checkpoint is settled when it is made: it
always runs in full attention, and the caller's model is left as it is.
"""


def made_by(name: str) -> str:
    """The class of the classifier."""
    return f"`{zoo.model_class(name).__name__}`"


def sites(name: str) -> str:
    """How many sites there are of each kind."""
    checkpoint = zoo.checkpoint(name, zoo.attentions(name)[0])
    kinds = Counter(site.kind for site in find_sites(checkpoint.module, example_inputs(checkpoint)))
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"


def equals_train(name: str) -> str:
    """Whether `mc-dropout` has the bits of a loop under `train()`, in every attention."""
    try:
        found = {_equals_train(name, attention) for attention in zoo.attentions(name)}
    except RefusedError as error:
        return _reason(error)
    return "yes" if found == {True} else "no"


def _equals_train(name: str, attention: str) -> bool:
    checkpoint = zoo.checkpoint(name, attention)
    plan = zoo.plan(checkpoint)
    predicted = McDropout(checkpoint, passes=2).predict(plan, seed=1).probs
    twin = checkpoint.twin().train()
    samples = np.empty((2, len(plan), zoo.CLASSES))
    with torch.no_grad(), seeded(1, checkpoint.device):
        for batch in plan.batches:
            for sample in samples:
                sample[batch.index] = twin(**batch.inputs).logits.double().softmax(dim=-1).numpy()
    return np.array_equal(predicted, samples.mean(axis=0))


def padding(name: str) -> str:
    """Where texts are padded, and what a batch changes."""
    checkpoint = zoo.checkpoint(name)
    settled = settle_padding(checkpoint, zoo.TEXTS)
    found = zoo.beside_alone(padded(checkpoint, settled.padding))
    if np.isnan(found):
        return f"{settled.padding.side}; fails on the shortest texts"
    # To a power of ten: the last bits are those of the machine.
    most = "below 1e-6" if found < 1e-6 else f"{found:.0e}" if found < 1e-3 else "no two answers are alike"
    return f"{settled.padding.side}, {most}"


def keyed(name: str) -> str:
    """In which attentions masks are keyed, or why not."""
    refusals: dict[str, str] = {}
    for attention in zoo.attentions(name):
        try:
            checkpoint = zoo.checkpoint(name, attention)
            McDropoutStratified(checkpoint, passes=2).predict(zoo.plan(checkpoint), seed=1)
        except RefusedError as error:
            refusals[attention] = _reason(error)
    if not refusals:
        return ", ".join(zoo.attentions(name))
    works = [attention for attention in zoo.attentions(name) if attention not in refusals]
    return "; ".join([*works, *dict.fromkeys(refusals.values())])


def exported(name: str) -> str:
    """How far ONNX Runtime is from PyTorch, or why there is no graph."""
    checkpoint = zoo.checkpoint(name, zoo.attentions(name)[0])
    checkpoint = padded(checkpoint, settle_padding(checkpoint, zoo.TEXTS).padding)
    planner = Planner.of(checkpoint, token_budget=64)
    plan = planner.plan(zoo.TEXTS, np.arange(len(zoo.TEXTS), dtype=np.int64))
    try:
        _, facts = start_checked(checkpoint, "onnxruntime", plan, planner)
    except RefusedError as error:
        said = str(error)
        return "no: " + (
            "other logits" if "other logits" in said else said[said.find("(") + 1 : said.rfind(")")]
        )
    except RuntimeError as error:  # PyTorch itself fails on these texts
        return f"no: {type(error).__name__}"
    # To a power of ten: the last bits are those of the machine.
    return "below 1e-5" if facts.difference < 1e-5 else f"{facts.difference:.0e}"


def _reason(error: RefusedError) -> str:
    """What was found, of a sentence that says who asked, what was found, and what works instead."""
    reason = str(error).rpartition("; ")[0]
    reason = reason.partition(", but ")[2] or reason.partition(": ")[2]
    return f"no: {reason}".replace("|", "\\|")


#: A column is its title and what stands in it for an architecture: add one by adding a line.
COLUMNS: dict[str, Callable[[str], str]] = {
    "Architecture": str,
    "Class": made_by,
    "Sites": sites,
    "train()": equals_train,
    "Padding": padding,
    "Keyed masks": keyed,
    "ONNX": exported,
}


def page() -> str:
    """The whole page as markdown."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[cell(name) for cell in COLUMNS.values()] for name in zoo.ZOO]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    versions = {"version": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    return TEXT.format(table=table, onnxruntime=version("onnxruntime"), **versions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    checking = parser.parse_args().check
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    written = page()
    if not checking:
        PAGE.write_text(written, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != written:
        print(f"{PAGE.relative_to(ROOT)} is not current; run: python scripts/architectures.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
