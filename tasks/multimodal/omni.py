"""vLLM-Omni, the server for both directions: text to picture and picture to text on a GPU, scored like the others.

Command and API: `vllm serve MODEL --omni` and `POST /v1/images/generations` (OpenAI's form, `b64_json`), as in
https://docs.vllm.ai/projects/vllm-omni/en/stable/serving/image_generation_api/. vLLM-Omni needs the vLLM of the same
minor version beside it.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tasks import api
from tasks.models import hub, judge
from tasks.multimodal import exam, seeing
from tasks.services import process, timing
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint

READY_S = 900.0  # weights of 20 GB, then compilation
ANSWER_S = 300.0


class Params(api.Params):
    painter: hub.Source = hub.Source(
        repo="Tongyi-MAI/Z-Image-Turbo", revision="f332072aa78be7aecdf3ee76d5c247082da564a6"
    )
    reader: hub.Source = hub.Source(repo="Qwen/Qwen2.5-Omni-3B", revision="f75b40e3da2003cdd6e1829b1f420ca70797c34e")
    requests: int = 32
    steps: int = 8
    side: int = 512  # pixels


class Point(api.Params):
    way: Literal["text_to_image", "image_to_text"] = "text_to_image"


METRICS: Mapping[str, str] = {
    "right_pct": "pictures in which the judge sees what was asked for; or held-out pictures described word for word",
    "latency_p50_ms": "median time from request to picture or answer",
    "latency_p95_ms": "95th percentile of the same requests",
    "requests_per_s": "requests answered per second, one at a time",
    "ready_s": "from starting the server to its first answer",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="vLLM-Omni", environment="serving", modules=("vllm_omni",), gpus=1, memory_gb=32)]


def run(params: Params, ctx: api.Context) -> None:
    for point in ctx.points:
        painting = point.way == "text_to_image"
        model = fetched(params.painter if painting else params.reader, ctx)
        began = time.perf_counter()
        port = process.free_port()
        address = f"http://{process.LOOPBACK}:{port}"
        log = ctx.scratch / f"{point.way}.log"
        with process.serve(
            argv(model, port), log=log, ready=partial(endpoint.healthy, address), timeout_s=READY_S,
            env={"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}, stop_s=30,
        ) as server:  # fmt: skip
            place = Endpoint(address, "omni", log, server.pid)
            if painting:
                paint(place, judge.PROMPTS[0], 0, params)
            else:
                seeing.told(place, exam.questions(1, ctx.seed + 1, False)[0])
            ready = time.perf_counter() - began
            (painted if painting else read)(place, point, params, ctx, ready)


def fetched(source: hub.Source, ctx: api.Context) -> Path:
    """The model's folder; a diffusion repository has its parts in folders, so only its presence is asked for."""
    return Path(source.folder).expanduser() if source.folder else hub.fetched(source, ctx.say)


def argv(model: Path, port: int) -> list[str]:
    """The server of vLLM-Omni; only this machine reaches it."""
    line = [sys.executable, "-m", "vllm_omni.entrypoints.cli.main", "serve", str(model), "--omni"]
    return [*line, "--served-model-name", "omni", "--host", process.LOOPBACK, "--port", str(port)]


def paint(place: Endpoint, prompt: str, seed: int, params: Params) -> bytes:
    """The picture's bytes for a prompt."""
    wish = {
        "prompt": exam.wish(prompt, tiny=False), "n": 1, "size": f"{params.side}x{params.side}", "seed": seed,
        "num_inference_steps": params.steps, "response_format": "b64_json",
    }  # fmt: skip
    return picture_of(endpoint.post(f"{place.address}/v1/images/generations", wish, ANSWER_S))


def picture_of(answer: Mapping[str, Any]) -> bytes:
    """The first picture of an answer in OpenAI's form. UserError when there is none."""
    data = answer.get("data") or [{}]
    if not data[0].get("b64_json"):
        raise api.UserError(f"vLLM-Omni answered without a picture: {str(answer)[:300]}")
    return base64.b64decode(data[0]["b64_json"])


def painted(place: Endpoint, point: Point, params: Params, ctx: api.Context, ready: float) -> None:
    """Pictures for every prompt in turn, named by the judge."""
    named, _ = judge.load(ctx.seed, ctx.say)
    prompts = [judge.PROMPTS[number % len(judge.PROMPTS)] for number in range(params.requests)]
    pictures, samples = [], []
    for seed, prompt in enumerate(prompts, 1):
        began = time.perf_counter()
        pictures.append(exam.pixels(paint(place, prompt, seed, params)))
        samples.append((time.perf_counter() - began) * 1e3)
    right = [said == wish for said, wish in zip(named(exam.reduced(pictures)), prompts, strict=True)]
    exam.sheet(ctx.out / "samples.png", list(zip(pictures, prompts, right, strict=True))[:16], columns=8)
    keep(point, right, samples, ctx, ready)


def read(place: Endpoint, point: Point, params: Params, ctx: api.Context, ready: float) -> None:
    """Held-out pictures described."""
    asked = [q for q in exam.questions(2 * params.requests, ctx.seed, False) if q.task == "describe"][: params.requests]
    texts, samples = [], []
    for question in asked:
        began = time.perf_counter()
        texts.append(seeing.told(place, question))
        samples.append((time.perf_counter() - began) * 1e3)
    right = [question.right(text) for question, text in zip(asked, texts, strict=True)]
    shown = [(exam.pixels(q.picture), text, ok) for q, text, ok in zip(asked, texts, right, strict=True)]
    exam.sheet(ctx.out / "captions.png", shown[:10])
    keep(point, right, samples, ctx, ready)


def keep(point: Point, right: Sequence[bool], samples: Sequence[float], ctx: api.Context, ready: float) -> None:
    spread = timing.spread(samples)
    metrics = {
        "right_pct": exam.share_pct(right), "latency_p50_ms": spread.p50, "latency_p95_ms": spread.p95,
        "requests_per_s": 1e3 * len(samples) / sum(samples), "ready_s": ready,
    }  # fmt: skip
    ctx.record(point, metrics, {"latency_p50_ms": spread})
