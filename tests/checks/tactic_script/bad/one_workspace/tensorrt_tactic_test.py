"""Varies the tactic sources only."""

import argparse
import json
import pathlib
import sys
import time

try:
    import tensorrt as trt
    import torch
except ImportError:
    sys.exit("I need TensorRT: pip install tensorrt")

parser = argparse.ArgumentParser()
for option in ("--onnx", "--out", "--engines"):
    parser.add_argument(option)
options = parser.parse_args()
LOGGER = trt.Logger(trt.Logger.ERROR)
ALL = sum(1 << int(source) for source in trt.TacticSource.__members__.values())


def without(*names):
    return ALL & ~sum(1 << int(getattr(trt.TacticSource, name)) for name in names if hasattr(trt.TacticSource, name))


MASKS = {"all": ALL, "no_cublas": without("CUBLAS", "CUBLAS_LT"), "no_cudnn": without("CUDNN"), "none": 0}


class Experiment:
    def __init__(self, workspace, sources):
        builder = trt.Builder(LOGGER)
        network = builder.create_network(0)
        trt.OnnxParser(network, LOGGER).parse_from_file(options.onnx)
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace * 1024 * 1024)
        config.set_tactic_sources(MASKS[sources])
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            profile.set_shape(network.get_input(index).name, (1, 16), (4, 16), (8, 64))
        config.add_optimization_profile(profile)
        start = time.perf_counter()
        self.plan = builder.build_serialized_network(network, config)
        self.seconds = time.perf_counter() - start
        self.engine = trt.Runtime(LOGGER).deserialize_cuda_engine(self.plan)

    def latency(self):
        context, times, keep = self.engine.create_execution_context(), [], []
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                context.set_input_shape(name, (4, 16))
                keep.append(torch.ones((4, 16), dtype=torch.int64, device="cuda"))
            else:
                keep.append(torch.zeros((4, 16, 3), device="cuda"))
            context.set_tensor_address(name, keep[-1].data_ptr())
        for _ in range(20):
            start = time.perf_counter()
            context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return sorted(times)[10] * 1000

    def tactics(self):
        told = json.loads(self.engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
        return [{"layer": layer["Name"], "tactic": layer.get("TacticName", "")} for layer in told["Layers"]]


with pathlib.Path(options.out).open("w") as out:
    for workspace, sources in [(1024, name) for name in MASKS]:
        one = Experiment(workspace, sources)
        row = {"workspace_mb": workspace, "tactic_sources": sources, "build_time_s": one.seconds}
        out.write(json.dumps({**row, "latency_p50_ms": one.latency(), "tactics": one.tactics()}) + "\n")
