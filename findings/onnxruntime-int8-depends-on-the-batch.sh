#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: in a graph of quantize_dynamic a row's answer depends on the rows beside it.
#
# quantize_dynamic puts a DynamicQuantizeLinear before every product. It takes one scale from the whole tensor, so
# over all texts of a batch and their padding: a text beside one with large activations is rounded more coarsely than
# by itself. Accuracy that was measured in batches is then not that of a server that answers texts one by one.
# One guessed a scale for each row, as other libraries' dynamic activations have it, and equal answers but for float
# rounding.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy
cat > seen.py <<'PY'
import logging
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
rng = np.random.default_rng(0)
weights = rng.standard_normal((64, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
    "one layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
    [onnx.numpy_helper.from_array(weights, "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx", weight_type=QuantType.QInt8)
row, loud = rng.standard_normal((2, 1, 64)).astype(np.float32)
for name in ("float", "int8"):
    run = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"]).run
    alone = run(None, {"x": row})[0]
    for times in (1, 10, 100):
        beside = run(None, {"x": np.concatenate([row, times * loud])})[0][:1]
        far = np.abs(beside - alone).max()
        seen = "same" if far < 1e-5 else "a little" if far < 0.5 else "far" if far < 5 else "another answer"
        print(f"{name}, beside a row {times} times as large: {seen}")
nodes = onnx.load("int8.onnx").graph.node
print("nodes:", *sorted({node.op_type for node in nodes} & {"DynamicQuantizeLinear", "MatMulInteger"}))
PY
env/bin/python seen.py 2>/dev/null | tee seen
diff - seen <<'TXT'
float, beside a row 1 times as large: same
float, beside a row 10 times as large: same
float, beside a row 100 times as large: same
int8, beside a row 1 times as large: a little
int8, beside a row 10 times as large: far
int8, beside a row 100 times as large: another answer
nodes: DynamicQuantizeLinear MatMulInteger
TXT
