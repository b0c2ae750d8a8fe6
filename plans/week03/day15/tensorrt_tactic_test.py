"""Day 15: what do the workspace limit and the tactic sources do to a TensorRT engine?

For every workspace limit and for every set of tactic sources this builds an engine from an ONNX file, times it, and
writes one JSON line with the build time, the latency and the tactic that TensorRT chose for each layer.

    python tensorrt_tactic_test.py --onnx bert.onnx --out tactics.jsonl
    python tensorrt_tactic_test.py --onnx bert.onnx --workspace-mb 64 1024 --tactic-sources

A *tactic* is one implementation of a layer (a kernel with its tile sizes). While building, TensorRT times the tactics
that are allowed and keeps the fastest. Two things limit which are allowed: the workspace (scratch memory that a tactic
may ask for) and the tactic sources (the libraries that provide them).

Needs TensorRT 10 or 11, torch with CUDA (for GPU memory) and an NVIDIA GPU. Without them it ends with status 3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

WORKSPACES_MB = [64, 256, 1024]
SOURCES = ["all", "no_cublas", "no_cudnn", "none"]
LEFT_OUT = {"no_cublas": ("CUBLAS", "CUBLAS_LT"), "no_cudnn": ("CUDNN",)}
SHAPES = ((1, 32), (8, 128), (32, 512))  # batch and sequence length: smallest, to optimise for, largest
WARM_UP, RUNS = 10, 100
NO_TENSORRT = 3


def main() -> int:
    options = arguments()
    try:
        import tensorrt as trt
    except ImportError as error:
        return refuse(f"TensorRT is not installed ({error}); get it with: pip install tensorrt")
    import torch

    if not torch.cuda.is_available():
        return refuse("TensorRT builds and times engines on an NVIDIA GPU, and there is none here")
    options.engines.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as out:
        for workspace_mb in options.workspace_mb:
            write(out, {"workspace_mb": workspace_mb, "tactic_sources": "default"}, trt, options)
        for sources in options.tactic_sources:
            write(out, {"workspace_mb": 1024, "tactic_sources": sources}, trt, options)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build TensorRT engines under different limits and compare them.")
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("tactics.jsonl"))
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="folder for the serialized engines")
    parser.add_argument("--workspace-mb", type=int, nargs="*", default=WORKSPACES_MB)
    parser.add_argument("--tactic-sources", nargs="*", choices=SOURCES, default=SOURCES)
    return parser.parse_args()


def refuse(why: str) -> int:
    print(f"tensorrt_tactic_test: {why}", file=sys.stderr)
    return NO_TENSORRT


def write(out, setting, trt, options):
    """Build, time and describe one setting; a build that is not possible is a result, too."""
    try:
        row = {**setting, **measure(trt, options, setting)}
    except RuntimeError as error:
        row = {**setting, "error": str(error)}
    out.write(json.dumps(row) + "\n")
    out.flush()
    print({name: value for name, value in row.items() if name != "tactics"}, flush=True)


def measure(trt, options, setting):
    logger = trt.Logger(trt.Logger.WARNING)
    began = time.perf_counter()
    plan, note = build(trt, logger, options.onnx, setting)
    build_s = time.perf_counter() - began
    file = options.engines / f"{setting['workspace_mb']}mb_{setting['tactic_sources']}.engine"
    file.write_bytes(plan)
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    samples = latencies_ms(trt, engine)
    return {
        "build_time_s": build_s,
        "latency_p50_ms": statistics.median(samples),
        "latency_p95_ms": statistics.quantiles(samples, n=20)[-1],
        "samples": len(samples),
        "engine": str(file),
        "engine_bytes": len(plan),
        "tactics": tactics(trt, engine),
        "note": note,
    }


def build(trt, logger, onnx, setting):
    """The serialized engine and a note. Nothing is reused between builds: each one times every tactic itself."""
    builder = trt.Builder(logger)
    # TensorRT 11 takes all precisions from the ONNX file; 10 has to be asked to
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        raise RuntimeError("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise the inspector names no tactics
    # the old max_workspace_size is a memory pool limit now; its default is the whole GPU memory
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, setting["workspace_mb"] << 20)
    note = choose_sources(trt, config, setting["tactic_sources"])
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        given = network.get_input(index)
        free = [axis for axis, size in enumerate(given.shape) if size == -1]
        profile.set_shape(given.name, *(filled(given.shape, free, shape) for shape in SHAPES))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT built no engine; its log above says why")
    return bytes(plan), note


def filled(shape, free, sizes):
    """`shape` with its free axes set to `sizes`, in order."""
    whole = list(shape)
    for axis, size in zip(free, sizes, strict=False):
        whole[axis] = size
    return tuple(whole)


def choose_sources(trt, config, wanted):
    """Allow only some tactic sources. cuBLAS and cuDNN are off by default in TensorRT 10 and gone in 11."""
    if wanted == "default":
        return ""
    known = trt.TacticSource.__members__
    dropped = list(known) if wanted == "none" else LEFT_OUT.get(wanted, ())
    config.set_tactic_sources(sum(1 << int(source) for name, source in known.items() if name not in dropped))
    missing = [name for name in LEFT_OUT.get(wanted, ()) if name not in known]
    return f"this TensorRT has no {' and no '.join(missing)} to leave out" if missing else ""


def latencies_ms(trt, engine):
    """Times of single requests of the middle shape, different random numbers in each."""
    import torch

    context = engine.create_execution_context()
    stream = torch.cuda.Stream()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    held = {}
    for name in inputs:
        shape = tuple(engine.get_tensor_profile_shape(name, 0)[1])
        context.set_input_shape(name, shape)
        held[name] = torch.ones(shape, dtype=getattr(torch, dtype_name(trt, engine, name)), device="cuda")
    for name in names:
        if name not in held:
            kind = getattr(torch, dtype_name(trt, engine, name))
            held[name] = torch.zeros(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
        context.set_tensor_address(name, held[name].data_ptr())
    samples = []
    for run in range(WARM_UP + RUNS):
        held[inputs[0]].random_(1, 64)
        torch.cuda.synchronize()
        began = time.perf_counter()
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT could not run the engine that it built")
        stream.synchronize()
        if run >= WARM_UP:
            samples.append((time.perf_counter() - began) * 1000)
    return samples


def dtype_name(trt, engine, name):
    """TensorRT's type of a tensor by its name in numpy and torch."""
    return trt.nptype(engine.get_tensor_dtype(name)).__name__


def tactics(trt, engine):
    """Each layer with the tactic that was chosen for it."""
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return [
        {"layer": layer["Name"], "tactic": str(layer.get("TacticName") or layer.get("TacticValue") or "")}
        for layer in json.loads(told)["Layers"]
    ]


if __name__ == "__main__":
    sys.exit(main())
