"""Kind `llm_serve`: vLLM started with given limits, what its KV cache then holds, how it answers, what it refuses."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import agreement, crowd, pace, questions, room, serving, sweep
from tasks.services.llm import vllm
from tasks.services.llm.endpoint import Endpoint

CAPACITY = re.compile(r"KV cache size: ([\d,]+) tokens")
CONCURRENCY = re.compile(r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x")
METRICS = {
    **questions.METRICS,
    **crowd.METRICS,
    "ready_ok": agreement.READY,
    "ready_s": "from starting the server until it had completed a prompt",
    "kv_tokens": "tokens that the KV cache holds, as vLLM says at its start",
    "max_concurrency": "requests of the greatest length that the KV cache holds at once, as vLLM says at its start",
    "memory_mb": pace.METRICS["memory_mb"],
}


class Params(api.Params):
    """`vary` names the limit that the points change, for which a CPU can only stand in.

    `memory_gb` stands for the card's memory there: the share that a point takes, less the weights, becomes the KV
    cache. `prompt_tokens` and `output_tokens` are of the crowd's requests.
    """

    vary: Literal["", "memory", "tensor_parallel"] = ""
    max_model_len: int = Field(default=1024, ge=32)
    kv_gb: float = Field(default=0.25, gt=0)
    memory_gb: float = Field(default=0.024, gt=0)
    max_num_seqs: int = Field(default=64, ge=1)
    crowd: int = Field(default=32, ge=2)
    prompt_tokens: int = Field(default=512, ge=8)
    output_tokens: int = Field(default=32, ge=2)


class Point(api.Params):
    """`gpu_memory_utilization` 0, `max_model_len` 0: as the Params say."""

    gpu_memory_utilization: float = Field(default=0.0, ge=0, le=1)
    max_model_len: int = Field(default=0, ge=0)
    tensor_parallel_size: int = Field(default=1, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    one = functools.partial(api.Needs, environment="serving", memory_gb=4.0, settings=("model",))
    if params.vary == "memory":
        return [
            one("vLLM", gpus=1),
            one("vLLM CPU, a KV cache of given size", stand_in_for="GPU memory"),
        ]
    if params.vary == "tensor_parallel":
        return [
            one("vLLM", gpus=2),
            one("vLLM CPU ranks over gloo", stand_in_for="GPUs"),
        ]
    return [serving.both()]


def run(params: Params, ctx: api.Context) -> None:
    for number, point in enumerate(ctx.points):
        with sweep.spared(ctx, point):
            folder = room.home(ctx, longest(params, point), gpu=pace.on_gpu(), gpus=point.tensor_parallel_size)
            measure(params, point, folder, ctx.scratch / f"vllm-{number}", ctx)


def longest(params: Params, point: Point) -> int:
    return point.max_model_len or params.max_model_len


def options(params: Params, point: Point, folder: Path, gpu: bool) -> vllm.Options:
    """On a GPU vLLM is told the share of memory itself; on a CPU the cache that such a share would leave."""
    share, kv_gb = point.gpu_memory_utilization, params.kv_gb
    if share and not gpu:
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        kv_gb = share * params.memory_gb - weights / vllm.GIB
        if kv_gb <= 0:
            what = f"the weights alone are larger than {share:g} of {params.memory_gb:g} GiB"
            raise room.NoRoomError(what, remedy="give it a larger share, or take a smaller model")
    return vllm.Options(
        max_model_len=longest(params, point), max_num_seqs=params.max_num_seqs, gpu=gpu,
        kv_gb=None if gpu else kv_gb, memory_utilization=share if share and gpu else None,
        tensor_parallel=point.tensor_parallel_size, prefix_caching=False,
    )  # fmt: skip


def measure(params: Params, point: Point, folder: Path, work: Path, ctx: api.Context) -> None:
    chosen = options(params, point, folder, pace.on_gpu())
    before, began = pace.used_before(), time.perf_counter()
    ctx.say("starting vLLM")
    with vllm.serve(folder, chosen, work, ctx.say) as server:
        ready_s = time.perf_counter() - began
        right = agreement.require(server, folder, ctx.seed, agreement.ENOUGH)
        prompts = questions.tokenized(folder, ctx.seed)
        quick = questions.speed(server, prompts, tokens=32, concurrency=8, requests=32, rounds=3)
        prompt = min(params.prompt_tokens, longest(params, point) - params.output_tokens)
        pressed = crowd.press(
            server, params.crowd, prompt=prompt, output=params.output_tokens, seed=ctx.seed, vocab=vocabulary(folder)
        )
        limits = crowd.limits(server, longest(params, point))
        metrics = {
            **quick.metrics(), **pressed, **limits, "ready_ok": float(right == 1), "ready_s": ready_s,
            "exact_match_pct": questions.exam(server, ctx.seed), "memory_mb": pace.held_mb(server, before),
            **capacity(server),
        }  # fmt: skip
    ctx.record(point, metrics, quick.spreads())


def vocabulary(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"])


def capacity(server: Endpoint) -> dict[str, float]:
    """What vLLM says of its KV cache in its log."""
    text = server.log.read_text(encoding="utf-8", errors="replace")
    tokens, times = CAPACITY.findall(text), CONCURRENCY.findall(text)
    if not tokens or not times:
        raise api.UserError("vLLM said nothing of its KV cache's size", where=str(server.log))
    return {"kv_tokens": float(tokens[-1].replace(",", "")), "max_concurrency": float(times[-1])}
