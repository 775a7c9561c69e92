"""Scores of how unfamiliar a text is; the probabilities stay those of the softmax."""
