"""ONNX Runtime on the CPU: the checkpoint's graph, in float32 or with the weights of its layers in int8."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calibench.errors import CalibenchError, RefusedError
from calibench.models.checkpoint import Checkpoint
from calibench.models.engine import Made
from calibench.models.head import find_head
from calibench.runtimes.onnx_export import Exported, exported, kept, quiet_log


def make(checkpoint: Checkpoint) -> Made:
    """The graph in float32.

    Raises:
        RefusedError: the exporter has no graph of the model, or it is not on a CPU.
    """
    _require_cpu(checkpoint)
    return _made(checkpoint, exported(checkpoint), 1e-4, 0.0)


def make_int8(checkpoint: Checkpoint) -> Made:
    """The graph with weights in int8, those of the last layer apart, and activations rounded as they come.

    Weights have a scale per output of a layer: with one per layer, which is what `quantize_dynamic` does by
    itself, logits are twice as far off. Where the CPU has no instructions for 8-bit products (VNNI), weights
    take 7 bits, since sums of two products would be cut off at 16 bits there. Activations have one scale per
    batch and layer, so that a text's answer depends on those beside it.

    Raises:
        RefusedError: as of `make`.
        CalibenchError: no weight of the graph could be rounded.
    """
    _require_cpu(checkpoint)
    whole = exported(checkpoint)
    bits = 8 if torch.cpu._is_vnni_supported() else 7
    rounded = kept(whole.file.parents[1], f"int{bits}", lambda file: _quantise(whole, file, bits))
    return _made(checkpoint, rounded, None, whole.seconds, weight_bits=bits)


def _require_cpu(checkpoint: Checkpoint) -> None:
    if checkpoint.device.type != "cpu":
        raise RefusedError(
            f"The runtimes onnxruntime and onnxruntime-int8 run on the CPU, and this run is on "
            f"{checkpoint.device}; pass --device cpu, or leave them out."
        )


def _made(
    checkpoint: Checkpoint, graph: Exported, tolerance: float | None, before_s: float, **options: Any
) -> Made:
    threads = torch.get_num_threads()
    begin = time.perf_counter()
    session = _session(graph.file, threads)
    load_s = time.perf_counter() - begin
    outputs = ["logits", "features"] if graph.features else ["logits"]

    def run(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        given = {name: inputs[name].numpy() for name in graph.inputs}
        found = [torch.from_numpy(array) for array in session.run(outputs, given)]
        return found[0], found[1] if graph.features else None

    return Made(
        run=run,
        inputs=graph.inputs,
        head=find_head(checkpoint) if graph.features else None,
        tolerance=tolerance,
        made_s=before_s + graph.seconds,
        load_s=load_s,
        bytes=graph.bytes,
        versions={name: version(name) for name in ("onnxruntime", "onnx", "onnxscript", "torch")},
        threads=threads,
        options={"execution": "sequential", "spinning": False} | options,
    )


def _session(file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after a pass take the cores from whatever is measured next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _quantise(whole: Exported, file: Path, bits: int) -> dict[str, Any]:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(whole.file, load_external_data=False).graph
    last = {node.name for node in graph.node if "logits" in node.output}
    # A Gemm is cut in two before names are compared, and its product gets a name of its own.
    last |= {f"{name}_MatMul" for name in last}
    external = any(path.suffix == ".data" for path in whole.file.parent.iterdir())
    with quiet_log(""):  # it recommends to prepare the graph, which the exporter has done
        quantize_dynamic(
            whole.file,
            file,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=bits < 8,
            nodes_to_exclude=sorted(last),
            use_external_data_format=external,
        )
    made = onnx.load(file, load_external_data=False).graph
    rounded = sum(node.op_type == "MatMulInteger" for node in made.node)
    if not rounded:
        raise CalibenchError(
            "onnxruntime's quantize_dynamic has rounded no layer of the graph; expected its linear layers: "
            "leave the runtime onnxruntime-int8 out."
        )
    return {"inputs": list(whole.inputs), "features": whole.features}
