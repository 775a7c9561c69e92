"""Rows that Weights & Biases keeps offline are read back from its own files as the records have them."""
