"""Engines built from an ONNX file: TensorRT, OpenVINO as its stand-in, ONNX Runtime as the baseline."""
