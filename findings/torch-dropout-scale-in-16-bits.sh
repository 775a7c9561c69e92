#!/usr/bin/env bash
# torch 2.13.0, CPU: in 16 bits dropout does not keep the mean, and the two kinds of dropout differ.
#
# What dropout keeps it multiplies by 1/(1-p). `F.dropout` rounds that factor to the tensor's own dtype: at p = .1 it is
# 1.109375 in bfloat16, .16% less than 1.1111, at every site, so that a pass through twelve sites loses 1.9% of its
# scale on average. The attention of `scaled_dot_product_attention` uses the factor in float32 and rounds the product.
# One guessed that both compute in float32 and round once.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 numpy==2.4.6
cat > seen.py <<'PY'
import torch
import torch.nn.functional as F

torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    kept = F.dropout(torch.ones(1000, dtype=dtype), 0.1)
    print(f"F.dropout, {dtype}: kept units are {sorted(set(kept.float().tolist()))[-1]:.7f}")
# 256 equal keys, a diagonal for values: what comes out of attention is each value times its dropped weight.
numbers = (1 + torch.rand(256)).bfloat16()
keys = torch.zeros(1, 1, 256, 8, dtype=torch.bfloat16)
values = torch.diag(numbers * 256)[None, None]
queries = torch.zeros(1, 1, 4096, 8, dtype=torch.bfloat16)
out = F.scaled_dot_product_attention(queries, keys, values, dropout_p=0.1)[0, 0].float()
dropped = F.dropout(numbers.expand(4096, 256), 0.1).float()
for name, found in (("F.dropout", dropped), ("scaled_dot_product_attention", out)):
    kept = found > 0
    print(f"{name}, bfloat16: mean of kept / number {(found / numbers.float())[kept].mean():.4f}")
PY
env/bin/python seen.py | tee seen
diff - seen <<'TXT'
F.dropout, torch.float32: kept units are 1.1111112
F.dropout, torch.bfloat16: kept units are 1.1093750
F.dropout, torch.float16: kept units are 1.1113281
F.dropout, bfloat16: mean of kept / number 1.1093
scaled_dot_product_attention, bfloat16: mean of kept / number 1.1111
TXT
