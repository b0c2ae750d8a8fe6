"""Kind `llm_frameworks`: serving frameworks on the same questions, with the same answers, behind the same client."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import agreement, pace, questions, room, sweep
from tasks.models import fit
from tasks.services.llm import engines
from tasks.services.llm.jobs import Setup

Framework = Literal[
    "vllm", "fastertransformer", "tensorrt-llm", "transformers", "transformers-continuous", "llama.cpp", "lmdeploy",
    "deepspeed", "engine",
]  # fmt: skip
METRICS = {
    **questions.METRICS,
    "ready_s": "from starting the server until it had completed a prompt, conversion or compilation included",
    "memory_mb": pace.METRICS["memory_mb"],
}
STAND_INS: Mapping[str, str] = {"fastertransformer": "FasterTransformer", "tensorrt-llm": "TensorRT-LLM"}
VENDORS = ("lmdeploy", "deepspeed")  # without a stand-in


class Params(api.Params):
    """`frameworks` are those that the experiment compares: the axis's values. `dtype` is everybody's precision.

    On a CPU float32 is the one precision that all of these engines compute in. `threads` is everybody's there; one is
    what vLLM takes by itself on a machine of two cores (the other one is left to its front end).
    """

    frameworks: list[Framework] = Field(min_length=1)
    cpu_dtype: Literal["float32", "bfloat16"] = "float32"
    gpu_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    threads: int = Field(default=1, ge=1)
    max_model_len: int = Field(default=512, ge=64)
    concurrency: int = Field(default=8, ge=1)
    requests: int = Field(default=48, ge=1)  # of a round
    rounds: int = Field(default=3, ge=1)
    output_tokens: int = Field(default=32, ge=2)


class Point(api.Params):
    """`engine` is the one that the settings group `engine` names."""

    framework: Framework = "engine"


def needs(params: Params) -> Sequence[api.Needs]:
    """Nothing installs FasterTransformer any more: wherever it is asked for, another engine stands in."""
    asked = params.frameworks
    own = tuple(engines.VENDORS[name] for name in asked if name in VENDORS)
    if own:
        return [api.Needs(" and ".join(own), environment="serving", modules=own, gpus=1, settings=("model",))]
    tensorrt = ("tensorrt_llm",) if "tensorrt-llm" in asked else ()
    gpu, cpu = (lacking(asked, gpu) for gpu in (True, False))
    offered = [wanted(asked, gpu=True, stand_in_for=gpu, modules=tensorrt)] if tensorrt or gpu != cpu else []
    return [*offered, wanted(asked, gpu=False, stand_in_for=cpu)]


def lacking(asked: Sequence[str], gpu: bool) -> str:
    """The frameworks that something else stands in for."""
    names = [name for name in asked if name in STAND_INS and not (gpu and name == "tensorrt-llm")]
    return " and ".join(STAND_INS[name] for name in names)


def wanted(asked: Sequence[str], *, gpu: bool, stand_in_for: str, modules: tuple[str, ...] = ()) -> api.Needs:
    titles = ["the chosen engine" if name == "engine" else engines.TITLES[engine(name, gpu)] for name in asked]
    backend = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
    return api.Needs(
        backend, stand_in_for=stand_in_for, environment="serving", gpus=int(gpu), modules=modules, memory_gb=4,
        settings=("model", "engine") if "engine" in asked else ("model",),
    )  # fmt: skip


def engine(framework: str, gpu: bool) -> engines.Name:
    """Who answers for a framework: itself, or what stands in for it."""
    chosen: Mapping[str, engines.Name] = {
        "vllm": "vllm", "fastertransformer": "ctranslate2", "llama.cpp": "llama_cpp",
        "tensorrt-llm": "tensorrt_llm" if gpu else "openvino_genai",
        "transformers": "transformers_static", "transformers-continuous": "transformers_continuous",
        "lmdeploy": "lmdeploy", "deepspeed": "deepspeed",
    }  # fmt: skip
    return chosen[framework]


def picked(ctx: api.Context) -> engines.Name:
    """The engine of the settings; UserError when there is none of that name."""
    name = ctx.settings["engine"]["id"]
    if name not in engines.TITLES:
        known = ", ".join(engines.TITLES)
        raise api.UserError(f"no engine {name!r}", where="conf/engine", remedy=f"choose one of {known}")
    found: engines.Name = name
    return found


def run(params: Params, ctx: api.Context) -> None:
    gpu = pace.on_gpu()
    precision: fit.Precision = "fp32" if not gpu and params.cpu_dtype == "float32" else "bf16"
    folder = room.home(
        ctx, params.max_model_len, gpu=gpu, cached=params.concurrency * params.max_model_len, precision=precision
    )
    tensorrt = gpu and "TensorRT-LLM" in ctx.backend
    setup = Setup(
        max_model_len=params.max_model_len, max_batch=params.concurrency, kv_gb=0.25, gpu=gpu,
        dtype=params.gpu_dtype if gpu else params.cpu_dtype, threads=None if gpu else params.threads,
    )  # fmt: skip
    for point in ctx.points:
        chosen = picked(ctx) if point.framework == "engine" else engine(point.framework, tensorrt)
        if lack := lacks(chosen, gpu):
            ctx.blocked(point, *lack)
            continue
        with sweep.spared(ctx, point):
            measure(params, point, chosen, folder, setup, ctx)


def lacks(chosen: engines.Name, gpu: bool) -> tuple[str, str] | None:
    """Why this machine cannot compare the engine with the others, and what helps; None when it can."""
    title, module = engines.TITLES[chosen], engines.VENDORS.get(chosen)
    if module and importlib.util.find_spec(module) is None:
        return f"{title} is not installed", f"pip install {module} into the environment `serving`, on a GPU machine"
    if gpu and chosen in engines.ON_CPUS:
        return f"{title} computes on the CPU here, the others on the GPU", "hide the GPU: CUDA_VISIBLE_DEVICES= run …"
    return None


def measure(params: Params, point: Point, chosen: engines.Name, folder: Path, setup: Setup, ctx: api.Context) -> None:
    """Start the engine, check its answers, time it."""
    before, began = pace.used_before(), time.perf_counter()
    ctx.say(f"{point.framework}: starting {engines.TITLES[chosen]}")
    with engines.serve(chosen, folder, setup, ctx.scratch / chosen, ctx.say) as server:
        ready_s = time.perf_counter() - began
        agreement.require(server, folder, ctx.seed)
        found = questions.speed(
            server, questions.tokenized(folder, ctx.seed), tokens=params.output_tokens,
            concurrency=params.concurrency, requests=params.requests, rounds=params.rounds,
        )  # fmt: skip
        metrics = {
            **found.metrics(), "exact_match_pct": questions.exam(server, ctx.seed), "ready_s": ready_s,
            "memory_mb": pace.held_mb(server, before),
        }  # fmt: skip
    note = f"{point.framework}: {engines.described(chosen)}, {setup.dtype}"
    ctx.record(point, metrics, found.spreads(), note=note)
