"""TensorRT through its Python API (10 and 11): build, cache, deserialize, run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.engines import cuda, variants
from tasks.engines.contract import Build
from tasks.onnx.graph import INPUTS, OUTPUT

CLASSES = 3
CUBLAS = ("CUBLAS", "CUBLAS_LT")
# what is left out of all tactic sources; the names that this TensorRT does not have are simply not there
LEFT_OUT = {"all": (), "no_cublas": CUBLAS, "no_cudnn": ("CUDNN",)}


class RefusedError(UserError):
    """TensorRT would not deserialize an engine here: another GPU model, another version, or not an engine."""


@dataclass
class TensorRtEngine:
    """An engine with its execution context and stream. A request is copied to the GPU and its logits back."""

    engine: Any
    size_bytes: int
    ran: str
    inputs: tuple[str, ...] = INPUTS
    classes: int = CLASSES
    context: Any = field(init=False)
    stream: Any = field(init=False)

    def __post_init__(self) -> None:
        self.context = self.engine.create_execution_context()
        self.stream = cuda.stream()

    def logits(self, *inputs: Any) -> Any:
        held = {name: cuda.place(array) for name, array in zip(self.inputs, inputs, strict=True)}
        for name, tensor in held.items():
            self.context.set_input_shape(name, tuple(tensor.shape))
        held[OUTPUT] = cuda.empty((len(inputs[0]), self.classes))
        for name, tensor in held.items():
            self.context.set_tensor_address(name, tensor.data_ptr())
        if not self.context.execute_async_v3(self.stream.cuda_stream):
            raise UserError(
                f"TensorRT could not run a batch of shape {tuple(inputs[0].shape)}", remedy="see its log above"
            )
        self.stream.synchronize()
        return held[OUTPUT].cpu().numpy()

    def blob(self) -> bytes:
        """The plan file: what `load` reads."""
        return bytes(self.engine.serialize())


def build(plan: Build) -> TensorRtEngine:
    """An engine for `plan`; with a cache folder the serialized engine of an earlier build is used when it fits."""
    blob = cached(plan) if plan.cache else serialize(plan)
    return load(blob, plan)


def load(blob: bytes, plan: Build) -> TensorRtEngine:
    """The engine of a plan file that was built for `plan`. Raises RefusedError."""
    return TensorRtEngine(deserialize(blob), len(blob), plan.precision, plan.inputs, plan.classes)


def cached(plan: Build) -> bytes:
    """The engine from the cache folder, or built and stored there. An engine fits one model, version, GPU and build."""
    import tensorrt as trt

    assert plan.cache is not None
    what = (trt.__version__, cuda.name(), plan.precision, plan.shapes, plan.hardware_compat)
    key = hashlib.sha256(plan.onnx.read_bytes() + repr(what).encode()).hexdigest()[:16]
    file = plan.cache / f"{key}.engine"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(serialize(plan))
    return file.read_bytes()


def serialize(plan: Build) -> bytes:
    """Build the engine and return its plan file. UserError with the parser's words when the ONNX file is refused."""
    import tensorrt as trt

    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(strongly_typed(trt))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse(variants.onnx_file(plan).read_bytes()):
        errors = "\n".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise UserError(f"TensorRT cannot read it: {errors}", where=str(plan.onnx))
    config = builder.create_builder_config()
    configure(trt, builder, config, plan)
    timings = timing_cache(config, plan.cache)
    blob = builder.build_serialized_network(network, config)
    if blob is None:
        raise UserError("TensorRT built no engine", remedy="its log above says why; a larger workspace may help")
    if timings:
        timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(blob)


def strongly_typed(trt: Any) -> int:
    """The creation flag that TensorRT 10 needs for it; 11 knows nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def configure(trt: Any, builder: Any, config: Any, plan: Build) -> None:
    """Workspace limit, tactic sources, hardware compatibility and the profile of allowed shapes."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if plan.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.workspace_mb << 20)
    if plan.tactic_sources:
        config.set_tactic_sources(tactic_mask(trt, plan.tactic_sources))
    if plan.hardware_compat:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    profile = builder.create_optimization_profile()
    for name, shapes in plan.shapes.items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)


def tactic_mask(trt: Any, sources: str) -> int:
    """The bit mask of `all`, `no_cublas`, `no_cudnn` or `none`."""
    if sources == "none":
        return 0
    members = trt.TacticSource.__members__
    return sum(1 << int(source) for name, source in members.items() if name not in LEFT_OUT[sources])


def timing_cache(config: Any, folder: Path | None) -> Path | None:
    """Give the builder the measured times of earlier builds; returns the file to keep the new ones in."""
    if folder is None:
        return None
    file = folder / "tactics.timing"
    config.set_timing_cache(config.create_timing_cache(file.read_bytes() if file.exists() else b""), False)
    return file


def deserialize(blob: bytes) -> Any:
    """The engine of a plan file on the current GPU. Raises RefusedError."""
    import tensorrt as trt

    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(blob)
    if engine is None:
        raise RefusedError("TensorRT refused to deserialize it", remedy="build it on this GPU model and version")
    return engine


def layers(engine: Any) -> list[dict[str, Any]]:
    """What the engine's inspector tells of each layer (name, tactic, tensor formats); built with detailed verbosity."""
    import tensorrt as trt

    told = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in told["Layers"]]


def covers(engine: Any, wanted: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Whether one profile of the engine takes every input's shapes from the smallest to the largest wanted."""
    for profile in range(engine.num_optimization_profiles):
        allowed = {name: engine.get_tensor_profile_shape(name, profile) for name in wanted}
        if all(
            low <= small and large <= high
            for name, (smallest, largest) in wanted.items()
            for low, high, small, large in zip(allowed[name][0], allowed[name][2], smallest, largest, strict=True)
        ):
            return True
    return False
