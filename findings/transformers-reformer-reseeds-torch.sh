#!/usr/bin/env bash
# transformers 5.23.0: a training pass of Reformer gives torch's global generator a new seed from the clock.
#
# Its reversible layers call `torch.seed()` to be able to repeat their dropout in the backward pass. After a step nothing
# that is drawn from torch's generator depends on `torch.manual_seed` any more: two runs of one script differ, and so do
# two passes after the same seed. One guessed that one seed gives one training pass.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > seen.py <<'PY'
import torch
from transformers import BertConfig, BertForSequenceClassification, ReformerConfig, ReformerForSequenceClassification

reformer = ReformerForSequenceClassification(ReformerConfig(
    vocab_size=30, hidden_size=16, num_attention_heads=2, attention_head_size=8, feed_forward_size=32,
    attn_layers=["local", "local"], axial_pos_embds=False, max_position_embeddings=64, local_attn_chunk_length=8,
    is_decoder=False, hidden_dropout_prob=0.3))
bert = BertForSequenceClassification(BertConfig(
    vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32))
ids = torch.randint(5, 30, (1, 16))

for name, model in (("BERT", bert), ("Reformer", reformer)):
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        with torch.no_grad():
            model.train()(input_ids=ids)
        found.append(torch.rand(1).item())
    print(f"{name}: the number drawn after a training pass is the same after the same seed: {found[0] == found[1]}")
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
BERT: the number drawn after a training pass is the same after the same seed: True
Reformer: the number drawn after a training pass is the same after the same seed: False
TXT
