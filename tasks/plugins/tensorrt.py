"""The plugin in TensorRT 10 and later: its library built by nvcc and g++, its creator asked of the registry (V3)."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.cuda import toolchain
from tasks.engines import cuda
from tasks.engines.tensorrt import deserialize, strongly_typed
from tasks.plugins.contract import Network

NAME, VERSION, NAMESPACE = "MyReluPlugin", "1", ""
KINDS = {"relu": 0, "swish": 1, "mish": 2}
BUILD_S = 300
PLACES = ("/usr/include/x86_64-linux-gnu", "/usr/include", "/usr/local/tensorrt/include", "/opt/tensorrt/include")


def start(day: Path, sources: Sequence[str], work: Path) -> TensorRtBackend:
    return TensorRtBackend(library([day / name for name in sources], work))


def include() -> Path | None:
    """The folder of NvInfer.h: $TENSORRT_HOME/include, else the usual places."""
    home = os.environ.get("TENSORRT_HOME", "")
    places = [*([Path(home) / "include"] if home else []), *map(Path, PLACES)]
    return next((place for place in places if (place / "NvInfer.h").is_file()), None)


def command(sources: Sequence[Path], headers: Path, out: Path) -> list[str]:
    """nvcc's argv for the plugin's library; getPluginRegistry is found in libnvinfer, which the process has loaded."""
    return [str(toolchain.tool("nvcc")), "-std=c++17", "-O3", "-arch=native", "-shared", "-Xcompiler", "-fPIC,-Wall",
            f"-I{headers}", *map(str, sources), "-o", str(out)]  # fmt: skip


def library(sources: Sequence[Path], work: Path) -> Path:
    """The plugin's shared library. UserError with file and line when it does not compile."""
    headers = include()
    if headers is None:
        raise UserError(
            "TensorRT's headers (NvInfer.h) are not here",
            remedy="apt-get install libnvinfer-headers-dev, or unpack TensorRT and set TENSORRT_HOME",
        )
    out = work / "libmy_relu_plugin.so"
    argv = command(sources, headers, out)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S)
    if done.returncode:
        raise toolchain.complaint(done.stderr + done.stdout, sources[0].name)
    return out


@dataclass
class TensorRtSession:
    engine: Any
    context: Any = field(init=False)
    stream: Any = field(init=False)

    def __post_init__(self) -> None:
        self.context, self.stream = self.engine.create_execution_context(), cuda.stream()

    def infer(self, array: Any) -> Any:
        given, answer = cuda.place(array), cuda.empty(array.shape)
        self.context.set_input_shape("x", tuple(array.shape))
        for name, tensor in (("x", given), ("y", answer)):
            self.context.set_tensor_address(name, tensor.data_ptr() or 1)  # an empty tensor's address is not read
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise UserError(f"TensorRT could not run the shape {array.shape}", remedy="see its log above")
        self.stream.synchronize()
        return answer.cpu().numpy()

    def another(self) -> TensorRtSession:
        return TensorRtSession(self.engine)


class TensorRtBackend:
    def __init__(self, plugin: Path) -> None:
        import tensorrt as trt

        self.trt, self.version = trt, f"TensorRT {trt.__version__}, {cuda.name()}"
        ctypes.CDLL(str(plugin))  # loading it registers its creator
        self.creator = trt.get_plugin_registry().get_creator(NAME, VERSION, NAMESPACE)
        if self.creator is None:
            raise UserError(f"its library registers no creator {NAME} {VERSION}", where=plugin.name)

    def session(self, network: Network, instances: int = 1) -> TensorRtSession:
        return self.loaded(self.saved(network))

    def saved(self, network: Network) -> bytes:
        """The plan file of the engine: the plugin's fields are in it, not its code."""
        trt = self.trt
        builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
        definition = builder.create_network(strongly_typed(trt))
        entry = definition.add_input("x", trt.float32, network.shape)
        layer = self.native if network.impl == "native" else self.ours
        answer = layer(definition, entry, network)
        answer.name = "y"
        definition.mark_output(answer)
        config = builder.create_builder_config()
        if -1 in network.shape:
            profile = builder.create_optimization_profile()
            profile.set_shape("x", *bounds(network.shape))
            config.add_optimization_profile(profile)
        blob = builder.build_serialized_network(definition, config)
        if blob is None:
            raise UserError(f"TensorRT built no engine for {network}", remedy="its log above says why")
        return bytes(blob)

    def again(self, blob: bytes) -> bytes:
        return bytes(deserialize(blob).serialize())

    def loaded(self, blob: bytes) -> TensorRtSession:
        return TensorRtSession(deserialize(blob))

    def ours(self, definition: Any, entry: Any, network: Network) -> Any:
        import numpy

        trt = self.trt
        told = {"kind": KINDS[network.op], "cached": int(network.cached)}
        values = {name: numpy.array([value], "int32") for name, value in told.items()}
        fields = [trt.PluginField(name, value, trt.PluginFieldType.INT32) for name, value in values.items()]
        collection = trt.PluginFieldCollection(fields)
        plugin = self.creator.create_plugin(network.op, collection, trt.TensorRTPhase.BUILD)
        if plugin is None:
            raise UserError(f"the creator refused {told}")
        return definition.add_plugin_v3([entry], [], plugin).get_output(0)

    def native(self, definition: Any, entry: Any, network: Network) -> Any:
        """Swish = x sigmoid(x), Mish = x tanh(softplus(x)), of TensorRT's own layers; its builder may fuse them."""
        kinds, product = self.trt.ActivationType, self.trt.ElementWiseOperation.PROD
        if network.op == "swish":
            gate = definition.add_activation(entry, kinds.SIGMOID).get_output(0)
        else:
            soft = definition.add_activation(entry, kinds.SOFTPLUS)
            soft.alpha, soft.beta = 1.0, 1.0
            gate = definition.add_activation(soft.get_output(0), kinds.TANH).get_output(0)
        return definition.add_elementwise(entry, gate, product).get_output(0)


def bounds(shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The profile's smallest, usual and largest shape; a dynamic axis may be empty."""
    return tuple(tuple(size if axis < 0 else axis for axis in shape) for size in (0, 16, 256))
