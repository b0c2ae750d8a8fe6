"""ONNX: export, proof against torch, inference with ONNX Runtime."""
