"""One deterministic pass, and what is made of its logits."""
