#!/usr/bin/env bash
# torch 2.13.0, CPU (x86-64, glibc): exact GELU keeps something of every size that it has been given, and it costs what
# was freed beside it.
#
# `F.gelu` of float32, as BERT, DistilBERT and RoBERTa call it, is oneDNN's, which keeps a primitive for each of the last
# 1,024 sizes. One is small, but it is allocated behind the answer and stays: once the answer is freed, a hole is left
# that the next larger answer does not fit into. Sizes that grow, as of batches sorted by length, thus keep about the sum
# of all answers, sizes in any order some hundred MiB; falling ones next to nothing, and neither does the tanh variant,
# which is torch's own. With ONEDNN_PRIMITIVE_CACHE_CAPACITY=0, or a fixed MALLOC_MMAP_THRESHOLD_, it is gone. A small
# DistilBERT that answers 400 batches of 1 to 32 texts of 8 to 64 tokens grows by hundreds of MiB; with `gelu_pytorch_tanh` not.
# One guessed that an elementwise function keeps nothing, and that a service's memory is that of its largest batch.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > grow.py <<'PY'
import random
import sys

import torch
from torch.nn import functional

variant, order = sys.argv[1:]
torch.set_num_threads(1)
sizes = list(range(2, 1602, 2))
if order == "random":
    random.Random(0).shuffle(sizes)
elif order == "falling":
    sizes.reverse()


def resident() -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


with torch.inference_mode():
    values = torch.randn(1602, 768)
    functional.gelu(values, approximate=variant)
    before = resident()
    for size in sizes:
        functional.gelu(values[:size], approximate=variant)
    kept, largest = resident() - before, values.numel() * 4 / 2**20
    every = sum(sizes) * 768 * 4 / 2**20
print(f"{kept:,.0f} MiB more; the largest answer has {largest:.1f} MiB, all together {every:,.0f}", file=sys.stderr)
print("most of the sum" if kept > every / 2 else "many answers" if kept > 10 * largest else "a few answers")
PY
cat > serve.py <<'PY'
import random
import sys

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification


def resident() -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


torch.set_num_threads(1)
draw = random.Random(0)
config = DistilBertConfig(vocab_size=1000, dim=384, hidden_dim=1536, n_heads=12, activation=sys.argv[1])
model = DistilBertForSequenceClassification(config).eval()
with torch.inference_mode():
    model(input_ids=torch.randint(5, 1000, (32, 64)))
    before = resident()
    for _ in range(400):
        model(input_ids=torch.randint(5, 1000, (draw.randint(1, 32), draw.randint(8, 64))))
    kept = resident() - before
print(f"{kept:,.0f} MiB more than after the largest batch", file=sys.stderr)
print("over 100 MiB more" if kept > 100 else "no more to speak of" if kept < 50 else "in between")
PY
{
  for order in growing random falling; do echo "exact, $order: $(env/bin/python grow.py none $order)"; done
  echo "tanh, growing: $(env/bin/python grow.py tanh growing)"
  echo "exact, growing, no cache: $(ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 env/bin/python grow.py none growing)"
  echo "exact, growing, fixed threshold: $(MALLOC_MMAP_THRESHOLD_=131072 env/bin/python grow.py none growing)"
  for activation in gelu gelu_pytorch_tanh; do echo "DistilBERT, $activation: $(env/bin/python serve.py $activation)"; done
} | tee seen
diff - seen <<'TXT'
exact, growing: most of the sum
exact, random: many answers
exact, falling: a few answers
tanh, growing: a few answers
exact, growing, no cache: a few answers
exact, growing, fixed threshold: a few answers
DistilBERT, gelu: over 100 MiB more
DistilBERT, gelu_pytorch_tanh: no more to speak of
TXT
