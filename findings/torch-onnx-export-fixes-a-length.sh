#!/usr/bin/env bash
# torch 2.13.0, onnxscript 0.7.2: torch.onnx.export makes a length fixed that it was told is dynamic, and says nothing.
#
# `torch.export.export` refuses a model that needs a number where a dimension was declared dynamic. `torch.onnx.export`,
# which takes the same `dynamic_shapes` and goes through it, returns a graph instead: the number of texts is dynamic,
# their length that of the example. It fails at the first text of another length. Of the architectures of transformers
# 5.23.0 that were tried it is so for CANINE and Funnel. One guessed that what raises in the one raises in the other.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy
cat > seen.py <<'PY'
import logging
import warnings

import torch

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

class Counting(torch.nn.Module):
    def forward(self, x):
        return x + torch.tensor([float(place) for place in range(int(x.shape[1]))])

example = (torch.ones(2, 5),)
sizes = ({0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")},)
try:
    torch.export.export(Counting().eval(), example, dynamic_shapes=sizes)
    print("torch.export.export: a graph")
except Exception as error:
    print("torch.export.export:", str(error).partition("!")[0])
program = torch.onnx.export(Counting().eval(), example, dynamic_shapes=sizes, dynamo=True, verbose=False)
print("torch.onnx.export: a graph of", *(given.shape for given in program.model.graph.inputs))
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
torch.export.export: Constraints violated (tokens)
torch.onnx.export: a graph of [texts,5]
TXT
