#!/usr/bin/env bash
# transformers 5.23.0: every forward pass with a padding mask asks the device whether the mask is all ones, and waits.
#
# `masking_utils` decides in Python whether the mask can be left out: `if padding_mask.all()`. On an accelerator that
# is a copy to the host, for which all kernels that were launched before have to finish. So passes that run one after
# the other, as those of MC-Dropout, cannot be queued ahead of the device: each begins with an empty queue. Padding or
# not makes no difference, nor does eager attention; where no mask is given nothing is asked.
# One guessed that a forward pass of an encoder only launches kernels, so that a loop waits once, for its results; and
# then that eager attention, which always adds the mask, does not ask.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy
cat > seen.py <<'PY'
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForSequenceClassification

#: What gives the host a value of the device.
WAITS = {torch.ops.aten.is_nonzero.default, torch.ops.aten._local_scalar_dense.default}


class Waits(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in WAITS
        return func(*args, **(kwargs or {}))


def waits(model, **inputs):
    with torch.inference_mode(), Waits() as mode:
        for _ in range(20):
            model(**inputs)
    return mode.count


for kind, sizes in (
    ("distilbert", {"dim": 16, "hidden_dim": 32, "n_heads": 2, "n_layers": 2}),
    ("bert", {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}),
):
    config = AutoConfig.for_model(kind, vocab_size=50, **sizes)
    ids = torch.ones(2, 8, dtype=torch.long)
    ones, padded = torch.ones_like(ids), torch.ones_like(ids)
    padded[1, 5:] = 0
    for attention in ("sdpa", "eager"):
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).eval()
        print(f"{kind}, {attention}, 20 passes, waits:", end=" ")
        print("mask of ones", waits(model, input_ids=ids, attention_mask=ones), end=", ")
        print("padding", waits(model, input_ids=ids, attention_mask=padded), end=", ")
        print("no mask", waits(model, input_ids=ids))
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
distilbert, sdpa, 20 passes, waits: mask of ones 20, padding 20, no mask 0
distilbert, eager, 20 passes, waits: mask of ones 20, padding 20, no mask 0
bert, sdpa, 20 passes, waits: mask of ones 20, padding 20, no mask 0
bert, eager, 20 passes, waits: mask of ones 20, padding 20, no mask 0
TXT
