"""PyTorch's compiler: the forward pass as one graph of fused kernels, for texts of any number and length."""

from __future__ import annotations

import time

import torch

from calibench.errors import RefusedError
from calibench.models.checkpoint import Checkpoint, example_inputs
from calibench.models.engine import Made
from calibench.runtimes.tapped import Tapped, both


def make(checkpoint: Checkpoint) -> Made:
    """Compile a twin, for one text and for several: a graph is made for each, and none later.

    Raises:
        RefusedError: the compiler has no graph of the whole model.
    """
    inputs = example_inputs(checkpoint)
    names = tuple(inputs)
    module = Tapped(checkpoint, names)
    # In parts or after too many attempts the compiler would go back to the model as it is, and say nothing.
    compiled = torch.compile(module, dynamic=True, fullgraph=True)
    start = time.perf_counter()
    try:
        with torch.inference_mode():
            for count in (2, 1):
                compiled(*(inputs[name][:count] for name in names))
    except Exception as error:  # the compiler's own, and those of the C++ compiler that it calls
        first = (str(error).splitlines() or [""])[0]
        raise RefusedError(
            f"torch.compile has no graph of {checkpoint.name} ({type(error).__name__}: {first}); use another "
            "runtime."
        ) from error
    return Made(
        run=lambda inputs: both(compiled(*(inputs[name] for name in names))),
        inputs=names,
        head=module.head,
        tolerance=1e-4,
        made_s=time.perf_counter() - start,
        load_s=0.0,
        bytes=None,
        versions={"torch": str(torch.__version__)},
        threads=torch.get_num_threads(),
    )
