"""What of a checkpoint changes its answers beside its weights: config and tokenizer, as content hashes.

Left out is what differs between machines and copies and changes no answer: where the files were, which
version wrote them, and the precision and attention that were asked for, which keys name for themselves.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

_SAYS_NOTHING = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "dtype",
    "label2id",  # classes are those of id2label
    "torch_dtype",
    "transformers_version",
}


def config_sha256(config: Any) -> str:
    """SHA-256 of where a `transformers` config differs from its kind's defaults: labels, dropout, ..."""
    return _digest(_telling(config.to_diff_dict()))


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 of what a tokenizer makes of texts.

    Of a fast one its serialised backend, without the padding and truncation that calls leave set; of one that
    reads characters or bytes its class and its special tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: dict[str, Any] = {"class": type(tokenizer).__name__}
    else:
        content = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    content["special"] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    content["inputs"] = list(tokenizer.model_input_names)
    return _digest(content)


def _telling(content: Any) -> Any:
    """A config without what says nothing, that of parts of the model too."""
    if not isinstance(content, dict):
        return content
    return {str(key): _telling(value) for key, value in content.items() if key not in _SAYS_NOTHING}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
