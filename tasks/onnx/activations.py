"""One ReLU written in four ways: as torch's own, as an autograd.Function, as a custom operator, and translated."""

from __future__ import annotations

from typing import Any, Literal

Activation = Literal["relu", "autograd_function", "custom_op", "custom_op+symbolic"]
UNKNOWN, TRANSLATED = "infra90::relu", "infra90::known_relu"  # two operators: a translation stays for the process


def network(activation: Activation, trained: Any) -> Any:
    """A copy of the trained MLP with its ReLU replaced, eval mode."""
    import copy

    model = copy.deepcopy(trained)
    model[2] = layer(activation)
    return model.eval()


def layer(activation: Activation) -> Any:
    import torch

    if activation == "relu":
        return torch.nn.ReLU()
    if activation == "autograd_function":
        call = autograd_function()
    else:
        call = custom_operator(UNKNOWN if activation == "custom_op" else TRANSLATED)

    class Custom(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return call(x)

    return Custom()


def autograd_function() -> Any:
    """Own forward and backward: the exporters see the torch operators inside."""
    import torch

    class Clamp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * (ctx.saved_tensors[0] > 0)

    return Clamp.apply


def custom_operator(name: str) -> Any:
    """An operator of its own in torch's registry, computed by numpy: nothing in it that an exporter could see."""
    import numpy
    import torch

    def relu(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(numpy.maximum(x.detach().numpy(), 0))

    relu.__annotations__ = {"x": torch.Tensor, "return": torch.Tensor}  # torch reads the types, not their names
    operator = torch.library.custom_op(name, relu, mutates_args=())
    operator.register_fake(lambda x: torch.empty_like(x))
    return operator


def translate(target: str, opset: int) -> None:
    """Tell the tracing exporter what the operator is in ONNX: `Relu`, or a name in a domain of one's own."""
    import torch

    def symbolic(graph: Any, x: Any) -> Any:
        return graph.op(target, x).setType(x.type())

    torch.onnx.register_custom_op_symbolic(TRANSLATED, symbolic, opset)


def translation() -> dict[Any, Any]:
    """The same for the newer exporter: its table from torch operators to ONNX functions."""
    import torch
    from onnxscript import opset18

    def relu(x: Any) -> Any:
        return opset18.Relu(x)

    return {torch.ops.infra90.known_relu.default: relu}
