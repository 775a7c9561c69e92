"""PyTorch with the weights and the forward pass in bfloat16, whatever the run's dtype is."""

from __future__ import annotations

import time

import torch

from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.engine import Made
from calibench.runtimes.tapped import Tapped, both


def make(checkpoint: Checkpoint) -> Made:
    """A twin with rounded weights.

    Raises:
        UsageError: the device has no bfloat16.
    """
    names = tuple(example_inputs(checkpoint))
    begin = time.perf_counter()
    module = Tapped(checkpoint, names, "bfloat16")
    load_s = time.perf_counter() - begin
    return Made(
        run=lambda inputs: both(module(*(inputs[name] for name in names))),
        inputs=names,
        head=module.head,
        tolerance=None,
        made_s=None,
        load_s=load_s,
        bytes=None,
        versions={"torch": str(torch.__version__)},
        threads=torch.get_num_threads(),
    )
