#!/usr/bin/env bash
# transformers 5.23.0: a training pass of BigBird reseeds numpy's global generator, and a short text changes the model.
#
# Block-sparse attention calls `np.random.seed` with the number of its layer, in training mode: whatever a user draws
# from `np.random` afterwards (a shuffle, an augmentation, a split) is the same after every step. One guessed that a
# forward pass draws from generators and does not seed them. And the first text of at most (5 + 2 r) b tokens, 704 by
# default, replaces block-sparse by full attention for good, in eval mode too: what the model says of a long text
# depends on which texts it met before.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > seen.py <<'PY'
import numpy as np
import torch
from transformers import BigBirdConfig, BigBirdForSequenceClassification

torch.manual_seed(0)
config = BigBirdConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       max_position_embeddings=128, attention_type="block_sparse", block_size=4, num_random_blocks=1, initializer_range=0.5)
model = BigBirdForSequenceClassification(config)
long, short = torch.randint(5, 30, (1, 64)), torch.randint(5, 30, (1, 16))

def drawn(training, seed):
    np.random.seed(seed)
    with torch.no_grad():
        model.train(training)(input_ids=long)
    return np.random.random(3).tolist()

print("numpy's numbers after a training pass, seeds 1 and 2: the same", drawn(True, 1) == drawn(True, 2))
print("numpy's numbers after a pass in eval mode, seeds 1 and 2: the same", drawn(False, 1) == drawn(False, 2))
with torch.no_grad():
    before, kind = model(input_ids=long).logits, model.bert.attention_type
    model(input_ids=short)
    after = model(input_ids=long).logits
print(f"attention before and after a short text: {kind}, {model.bert.attention_type}")
print("the long text's answer is another afterwards", not torch.allclose(before, after, atol=1e-4))
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
numpy's numbers after a training pass, seeds 1 and 2: the same True
numpy's numbers after a pass in eval mode, seeds 1 and 2: the same False
attention before and after a short text: block_sparse, original_full
the long text's answer is another afterwards True
TXT
