"""A rehearsal stage for scripts that use TensorRT's Python API, for machines that cannot run it.

It has the names of TensorRT 10, refuses what TensorRT refuses (no profile for a dynamic input, a shape outside the
profile, a tensor without an address), lets ONNX Runtime do the arithmetic, and writes every call of interest as a JSON
line to the file in $TENSORRT_REHEARSAL_LOG. Nothing timed on it says anything about TensorRT.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
from typing import Any

__version__ = "10.0.0+rehearsal"


def note(call: str, **what: Any) -> None:
    if log := os.environ.get("TENSORRT_REHEARSAL_LOG"):
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"call": call, **what}) + "\n")


class TacticSource(enum.IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class HardwareCompatibilityLevel(enum.IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


class LayerInformationFormat(enum.IntEnum):
    ONELINE = 0
    JSON = 1


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Logger:
    ERROR, WARNING, INFO, VERBOSE = 1, 2, 3, 4

    def __init__(self, severity: int = 2) -> None:
        self.severity = severity


def session(model: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def numpy_type(tensor: Any) -> Any:
    import numpy

    name = tensor.type.removeprefix("tensor(").removesuffix(")")
    return numpy.dtype({"float": "float32", "double": "float64"}.get(name, name)).type


def nptype(dtype: Any) -> Any:
    return dtype


class Tensor:
    """An input of the network; dynamic axes are -1."""

    def __init__(self, tensor: Any) -> None:
        self.name, self.dtype = tensor.name, numpy_type(tensor)
        self.shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)


class Network:
    def __init__(self) -> None:
        self.model = b""
        self.inputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class OnnxParser:
    def __init__(self, network: Network, logger: Logger) -> None:
        self.network = network
        self.errors: list[str] = []

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            self.network.inputs = [Tensor(tensor) for tensor in session(model).get_inputs()]
        except Exception as error:  # whatever ONNX Runtime does not like is a parser error here
            self.errors.append(str(error))
            return False
        self.network.model = model
        return True

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:
            return self.parse(file.read())

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> str:
        return self.errors[index]


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[name] = [list(min), list(opt), list(max)]


class TimingCache:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def serialize(self) -> bytes:
        return self.blob or b"timings"


class Config:
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE
    builder_optimization_level = 3

    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.cache = TimingCache(b"")
        self.sources, self.workspace = -1, -1  # TensorRT's defaults

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        note("set_memory_pool_limit", pool=MemoryPoolType(pool).name, size=size)
        self.workspace = size

    def set_tactic_sources(self, mask: int) -> bool:
        note("set_tactic_sources", mask=mask)
        self.sources = mask
        return True

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, blob: bytes) -> TimingCache:
        return TimingCache(blob)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        note("set_timing_cache", size=len(cache.blob))
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Builder:
    def __init__(self, logger: Logger) -> None:
        pass

    def create_network(self, flags: int = 0) -> Network:
        note("create_network", flags=flags)
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        profiles = [profile.shapes for profile in config.profiles]
        dynamic = [tensor.name for tensor in network.inputs if -1 in tensor.shape]
        if any(name not in shapes for shapes in profiles or [{}] for name in dynamic):
            return None
        told = {
            "profiles": profiles,
            "workspace": config.workspace,
            "sources": config.sources,
            "detailed": config.profiling_verbosity == ProfilingVerbosity.DETAILED,
            "hardware_compat": int(config.hardware_compatibility_level),
        }
        note("build_serialized_network", **told)
        return json.dumps(told).encode() + b"\n" + network.model


class Runtime:
    def __init__(self, logger: Logger) -> None:
        pass

    def deserialize_cuda_engine(self, blob: bytes) -> Engine | None:
        note("deserialize_cuda_engine", size=len(blob))
        head, _, model = bytes(blob).partition(b"\n")
        try:
            return Engine(json.loads(head), model, bytes(blob))
        except Exception:  # like TensorRT: whatever it is, it is no engine for this place
            return None


class Engine:
    def __init__(self, told: dict[str, Any], model: bytes, blob: bytes) -> None:
        self.told, self.session, self.blob = told, session(model), blob
        self.quantized = b"QuantizeLinear" in model
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.tensors = {**self.inputs, **{tensor.name: tensor for tensor in self.session.get_outputs()}}
        self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), len(told["profiles"])

    def serialize(self) -> bytes:
        return self.blob

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.tensors)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return numpy_type(self.tensors[name])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.told["profiles"][profile][name]]

    def create_execution_context(self) -> Execution:
        return Execution(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        form_of = {"Format/Datatype": "Int8" if self.engine.quantized else "Float"}
        layers = [{"Name": name, "TacticName": "rehearsed", "Outputs": [form_of]} for name in self.engine.tensors]
        return json.dumps({"Layers": layers if self.engine.told["detailed"] else [layer["Name"] for layer in layers]})


class Execution:
    """Reads and writes host memory at the addresses it is given, as TensorRT does with GPU memory."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        fits = all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        if fits:
            self.shapes[name] = tuple(shape)
        return fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name) or tuple(self.run()[name].shape)

    def run(self) -> dict[str, Any]:
        import numpy

        feeds = {}
        for name, shape in self.shapes.items():
            kind = numpy.dtype(numpy_type(self.engine.inputs[name]))
            feeds[name] = numpy.ones(shape, kind)
            if address := self.addresses.get(name):
                ctypes.memmove(feeds[name].ctypes.data, address, feeds[name].nbytes)
        outputs = [tensor.name for tensor in self.engine.session.get_outputs()]
        return dict(zip(outputs, self.engine.session.run(outputs, feeds), strict=True))

    def execute_async_v3(self, stream: int) -> bool:
        import numpy

        if self.shapes.keys() != self.engine.inputs.keys() or self.addresses.keys() != self.engine.tensors.keys():
            return False
        note("execute_async_v3", shapes=list(self.shapes.values()))
        for name, array in self.run().items():
            whole = numpy.ascontiguousarray(array)
            ctypes.memmove(self.addresses[name], whole.ctypes.data, whole.nbytes)
        return True
