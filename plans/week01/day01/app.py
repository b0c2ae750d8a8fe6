"""A model small enough to build while the container starts: y = relu(x), exported as ONNX and run by ONNX Runtime."""

import numpy
import onnx
import onnxruntime


def model() -> onnx.ModelProto:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(model().SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": numpy.array([-1, 2], dtype=numpy.float32)})
    print("relu([-1, 2]) =", answer.tolist())
