#!/usr/bin/env bash
# peft 0.21.2: LoRA on a DistilBERT classifier trains and stores a hidden layer in full besides the classifier.
#
# For SEQ_CLS peft adds "classifier" to the modules that are trained in full, and compares the ends of names, so that
# DistilBERT's `pre_classifier`, 768 x 768 with a bias, is among them: with rank 8 on two projections of each of six
# layers most of what is trained and stored is no LoRA weight. One guessed that the head alone is added.
# The adapter also brings no label names: who loads it has to know them.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6
cat > seen.py <<'PY'
import json
import pathlib
import peft
from safetensors.torch import load_file
from transformers import DistilBertConfig, DistilBertForSequenceClassification

names = {0: "calm", 1: "glad", 2: "sad"}
model = DistilBertForSequenceClassification(DistilBertConfig(num_labels=3, vocab_size=100, id2label=names))
config = peft.LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_lin", "v_lin"])
whole = peft.get_peft_model(model, config)
whole.save_pretrained("adapter")
stored = load_file("adapter/adapter_model.safetensors")
lora = sum(tensor.numel() for name, tensor in stored.items() if "lora_" in name)
full = {name.removeprefix("base_model.model."): tensor.numel() for name, tensor in stored.items() if "lora_" not in name}
print("stored in full:", ", ".join(sorted(full)))
print(f"numbers: LoRA {lora:,}, in full {sum(full.values()):,}")
print("label names in the adapter's folder:", any("glad" in p.read_text(errors="ignore") for p in pathlib.Path("adapter").iterdir()))
print("modules_to_save:", json.loads(pathlib.Path("adapter/adapter_config.json").read_text())["modules_to_save"])
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
stored in full: classifier.bias, classifier.weight, pre_classifier.bias, pre_classifier.weight
numbers: LoRA 147,456, in full 592,899
label names in the adapter's folder: False
modules_to_save: ['classifier', 'score']
TXT
