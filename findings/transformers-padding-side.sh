#!/usr/bin/env bash
# transformers 5.23.0: a padding side that is set on a tokenizer is lost when it is saved.
#
# `tokenizer.padding_side = "left"` is how model cards say to prepare a decoder. In memory the tokenizer then pads on
# the left; `save_pretrained` writes what its constructor was given, and the reloaded tokenizer pads on the right
# again, without a word. Given to the constructor, the side is kept. `truncation_side` behaves alike.
# One guessed that what is set is what is saved.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet transformers==5.23.0
cat > seen.py <<'PY'
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

def made(**sides):
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", **sides)

later = made()
later.padding_side = later.truncation_side = "left"
at_once = made(padding_side="left", truncation_side="left")
for name, tokenizer in (("set later", later), ("given to the constructor", at_once)):
    tokenizer.save_pretrained("saved")
    again = AutoTokenizer.from_pretrained("saved")
    print(f"{name}: in memory {tokenizer.padding_side}, {tokenizer.truncation_side};",
          f"reloaded {again.padding_side}, {again.truncation_side}")
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
set later: in memory left, left; reloaded right, right
given to the constructor: in memory left, left; reloaded left, left
TXT
