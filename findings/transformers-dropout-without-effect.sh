#!/usr/bin/env bash
# transformers 5.23.0: dropout settings that have no effect: MPT's resid_pdrop and emb_pdrop, Falcon's attention_dropout.
#
# Both configurations take the settings and store them. A training pass of MPT draws no random number at all, so that
# fine-tuning is unregularised and MC-Dropout is deterministic; Falcon's training passes differ by its hidden dropout
# only. One guessed that a documented dropout probability drops something.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > seen.py <<'PY'
import torch
from transformers import (FalconConfig, FalconForSequenceClassification, GPT2Config, GPT2ForSequenceClassification,
                          MptConfig, MptForSequenceClassification)

common = {"vocab_size": 30, "num_labels": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
models = {
    "GPT-2, resid_pdrop and embd_pdrop .5": GPT2ForSequenceClassification(GPT2Config(
        n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.0, **common)),
    "MPT, resid_pdrop and emb_pdrop .5": MptForSequenceClassification(MptConfig(
        d_model=16, n_heads=2, n_layers=2, resid_pdrop=0.5, emb_pdrop=0.5, **common)),
    "GPT-2, attn_pdrop .5": GPT2ForSequenceClassification(GPT2Config(
        n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.5, **common)),
    "Falcon, attention_dropout .5": FalconForSequenceClassification(FalconConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, attention_dropout=0.5, hidden_dropout=0.0, **common)),
}
ids = torch.randint(5, 30, (1, 12))
for name, model in models.items():
    before = torch.get_rng_state()
    with torch.no_grad():
        first, second = (model.train()(input_ids=ids).logits for _ in range(2))
    drew = not torch.equal(before, torch.get_rng_state())
    print(f"{name}: a training pass draws numbers {drew}, two passes differ {not torch.equal(first, second)}")
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
GPT-2, resid_pdrop and embd_pdrop .5: a training pass draws numbers True, two passes differ True
MPT, resid_pdrop and emb_pdrop .5: a training pass draws numbers False, two passes differ False
GPT-2, attn_pdrop .5: a training pass draws numbers True, two passes differ True
Falcon, attention_dropout .5: a training pass draws numbers False, two passes differ False
TXT
