"""Labelled texts from the hub, a folder or the package, and the batches in which they are run."""
