#!/usr/bin/env bash
# onnxruntime 1.32.0: after a pass its threads go on spinning, and take the cores from whatever comes next.
#
# A session with two threads or more keeps the others busy for some thirty milliseconds after `run` has returned, waiting
# for more work. A process that runs something else then, such as PyTorch beside it in one benchmark or service, finds
# its cores taken; `session.intra_op.allow_spinning` = "0" ends that. One guessed that threads sleep once a pass is over.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env && env/bin/python -m pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy
cat > seen.py <<'PY'
import time
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

weights = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "one layer",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 512])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 512])],
    [onnx.numpy_helper.from_array(weights, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()

def idle(spinning):
    """Processor seconds of 20 times 200 ms of sleep, each after a pass."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows, spent = np.ones((256, 512), np.float32), 0.0
    for _ in range(20):
        session.run(None, {"x": rows})
        before = time.process_time()
        time.sleep(0.2)
        spent += time.process_time() - before
    return spent / 20

with_spinning, without = idle(True), idle(False)
print(f"(after a pass: {1e3 * with_spinning:.1f} ms, and without spinning {1e3 * without:.1f} ms)")
print("as it comes, busy for milliseconds:", with_spinning > 2e-3)
print("without spinning, busy for milliseconds:", without > 2e-3)
PY
env/bin/python seen.py 2>/dev/null | tee all
grep -v '^(' all > seen
diff - seen <<'TXT'
as it comes, busy for milliseconds: True
without spinning, busy for milliseconds: False
TXT
