"""What runs a model: PyTorch as it is, compiled or in bfloat16, and ONNX Runtime; a module per runtime."""
