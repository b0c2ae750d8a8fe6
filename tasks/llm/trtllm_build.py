"""Kind `trtllm_build`: an LLM engine built for given limits, then served and asked; TensorRT-LLM or what stands in."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import agreement, questions, room, sweep
from tasks.models import fit
from tasks.services.llm import engines, openvino_genai, tensorrt_build
from tasks.services.llm.jobs import Setup

MB = 1e6
METRICS = {
    **questions.METRICS,
    "build_s": "from the model's files to an engine that is ready in memory: conversion and compilation, no imports",
    "engine_mb": "size of the engine's files on disk, 10^6 bytes (a stand-in's hold the weights alone)",
}


class Params(api.Params):
    max_model_len: int = Field(default=512, ge=64)
    concurrency: int = Field(default=8, ge=1)
    requests: int = Field(default=32, ge=1)
    rounds: int = Field(default=3, ge=1)
    output_tokens: int = Field(default=32, ge=2)
    threads: int = Field(default=1, ge=1)  # of the stand-in, on a CPU


class Point(api.Params):
    """The engine's limits: its precision and how many requests it computes at a time."""

    precision: Literal["float32", "bfloat16", "float16", "fp8"] = "bfloat16"
    max_batch: int = Field(default=8, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    one = functools.partial(api.Needs, environment="serving", memory_gb=4.0, settings=("model",))
    return [
        one("TensorRT-LLM", gpus=1, modules=("tensorrt_llm",)),
        one("OpenVINO GenAI", stand_in_for="TensorRT-LLM"),
    ]


def run(params: Params, ctx: api.Context) -> None:
    native = ctx.tier == "native"
    for number, point in enumerate(ctx.points):
        if not native and point.precision not in ("float32", "bfloat16"):
            ctx.blocked(point, f"OpenVINO does not compute in {point.precision} on this CPU", "take an NVIDIA GPU")
            continue
        with sweep.spared(ctx, point):
            folder = home_of(params, point, native, ctx)
            home = ctx.scratch / f"engine-{number}"
            home.mkdir()
            setup = Setup(
                max_model_len=params.max_model_len, max_batch=point.max_batch, kv_gb=1, dtype=point.precision,
                gpu=native, threads=None if native else params.threads, cache=home, name=folder.name,
            )  # fmt: skip
            build_s, engine = build(folder, setup, home, native, ctx.out / "build.log")
            ctx.say(f"built in {build_s:.1f} s")
            measure(params, point, folder, engine, setup, build_s, ctx)


def home_of(params: Params, point: Point, gpu: bool, ctx: api.Context) -> Path:
    """The model's folder, when there is room for the limits of the point."""
    precision: fit.Precision = "fp32" if point.precision == "float32" else "bf16"  # fp8 is made from 16 bits
    cached = point.max_batch * params.max_model_len
    return room.home(ctx, params.max_model_len, gpu=gpu, cached=cached, precision=precision)


def build(folder: Path, setup: Setup, home: Path, native: bool, log: Path) -> tuple[float, Path]:
    """Seconds of the build, and what is served. The stand-in compiles in memory: its file holds the weights only."""
    if native:
        return tensorrt_build.build(folder, setup, home / "engine", log), home / "engine"
    for library in ("gguf", "safetensors", "torch", "openvino_genai"):
        importlib.import_module(library)  # no part of a build
    began = time.perf_counter()
    openvino_genai.load(openvino_genai.convert(folder, setup), setup)
    return time.perf_counter() - began, folder


def measure(
    params: Params, point: Point, folder: Path, engine: Path, setup: Setup, build_s: float, ctx: api.Context
) -> None:
    """Serve the engine, check its answers, time it."""
    name: engines.Name = "tensorrt_llm" if setup.gpu else "openvino_genai"
    work = ctx.scratch / f"serve-{point.precision}-{point.max_batch}"
    with engines.serve(name, engine, setup, work, ctx.say) as server:
        agreement.require(server, folder, ctx.seed)
        found = questions.speed(
            server, questions.tokenized(folder, ctx.seed), tokens=params.output_tokens,
            concurrency=params.concurrency, requests=params.requests, rounds=params.rounds,
        )  # fmt: skip
        exam = questions.exam(server, ctx.seed)
    size = sum(file.stat().st_size for file in (setup.cache or engine).rglob("*") if file.is_file())
    metrics = {**found.metrics(), "exact_match_pct": exam, "build_s": build_s, "engine_mb": size / MB}
    ctx.record(point, metrics, found.spreads(), note=engines.described(name))
