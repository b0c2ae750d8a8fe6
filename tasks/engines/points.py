"""Parameters, points and metrics of the kind `engine_build`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tasks import api

Measure = Literal["workspace", "tactics", "cold_start", "across_gpus", "batch_load", "runtimes", "precisions"]


class Params(api.Params):
    measure: Measure
    file: str = ""  # the ONNX file in the day's folder; empty: the small BERT, exported for this experiment
    script: str = "tensorrt_tactic_test.py"  # workspace, tactics: the day's file that builds the engines
    engine: str = "bert.engine"  # runtimes: where the day's folder keeps the serialized TensorRT engine
    batch: int = 8
    seq_len: int = 64
    threads: int = 1
    budget_s: float = 2.0  # timing of one point
    starts: int = 5  # cold_start: fresh processes for each point
    calibration_texts: int = 200


class Point(api.Params):
    workspace_mb: int = 1024
    tactic_sources: Literal["all", "no_cublas", "no_cudnn", "none"] = "all"
    engine_cache: Literal["off", "on"] = "off"
    gpu: Literal["build_gpu", "other_gpu"] = "build_gpu"
    hardware_compat: Literal["off", "on"] = "off"
    batch: int = 8
    runtime: Literal["ort", "tensorrt"] = "tensorrt"
    precision: Literal["fp16", "int8"] = "fp16"


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one request (nan: the engine did not load)",
    "latency_p95_ms": "95th percentile of the same requests",
    "latency_p99_ms": "99th percentile of the same requests",
    "throughput_samples_s": "texts per second of one closed loop",
    "build_time_s": "from the ONNX file to an engine that can run",
    "tactic_changes": "layers whose tactic is not the one chosen with the largest workspace",
    "cold_start_ms": "in a fresh process: from asking for the engine to having it (imports not counted)",
    "first_request_ms": "the first request after that",
    "cache_bytes": "size of the cache on disk, 0 without one",
    "load_ok_bool": "1 if the engine could be deserialized and run on that GPU",
    "error_class": "0 none, 1 refused to deserialize, 2 failed later",
    "max_abs_error": "largest difference of a logit from torch",
    "output_cosine": "mean cosine of the logits with those of the fp32 ONNX file, held-out texts",
    "engine_size_mb": "what would be deployed, 10^6 bytes",
    "accuracy": "share of held-out texts classified right",
    "accuracy_fp32": "the same of the fp32 ONNX file",
}
