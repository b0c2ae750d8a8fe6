"""The multimodal demo end to end: its service with a painter of its own and vLLM as its reader, asked both ways.

Round trip: a prompt becomes a picture, the picture is described, and the description must be the prompt again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tasks import api
from tasks.models import judge, vlm_files
from tasks.multimodal import exam, seeing
from tasks.services import multimodal, timing
from tasks.services.llm import vllm
from tasks.services.multimodal import Service

Way = Literal["text_to_image", "image_to_text", "round_trip"]
SHOW_S = 240
Result = tuple[bool, bytes, str]  # right, picture, what is written below it


class Params(api.Params):
    script: str = "multimodal_demo.py"
    requests: int = 16
    steps: int = 20


class Point(api.Params):
    way: Way = "round_trip"


METRICS: Mapping[str, str] = {
    "right_pct": "requests whose answer is right: the judge sees the prompt, the caption is the scene's, or both",
    "latency_p50_ms": "median time of one request, painting and describing included where both are asked",
    "latency_p95_ms": "95th percentile of the same requests",
    "requests_per_s": "requests answered per second, one at a time",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="vLLM and diffusers", environment="training", also=("serving",), memory_gb=5, settings=("model",)
        )
    ]


def run(params: Params, ctx: api.Context) -> None:
    reader, tiny = exam.model(ctx.settings, ctx.seed, ctx.say)
    painter, simple = exam.painter(ctx.settings, ctx.seed, ctx.say)
    named, _ = judge.load(ctx.seed, ctx.say)
    options = seeing.options(tiny, ctx.pythons.get("serving"))
    script = ctx.day / params.script
    with (
        vllm.serve(reader, options, ctx.scratch / "vllm", ctx.say, seeing.READY_S) as endpoint,
        multimodal.serve(script, ctx.scratch / "demo", painter=painter, reader=endpoint.address) as service,
    ):
        show(service, params, ctx)
        for point in ctx.points:
            measure(point, asking(point.way, service, params, ctx, named, (tiny, simple)), params, ctx)


def show(service: Service, params: Params, ctx: api.Context) -> None:
    """The demo's own client, as a learner runs it: ten prompts, a contact sheet. It warms both models up, too."""
    argv = [sys.executable, str(ctx.day / params.script), "show", "--at", service.address, "--steps", str(params.steps)]
    argv += ["--out", str(ctx.out / "demo.png"), *judge.PROMPTS[3:13]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SHOW_S, check=False)
    if done.returncode or not (ctx.out / "demo.png").exists():
        raise api.UserError(f"`show` failed: {(done.stderr or done.stdout).strip()[-600:]}", where=params.script)
    (ctx.out / "demo.jsonl").write_text(done.stdout, encoding="utf-8")


def asking(
    way: Way, service: Service, params: Params, ctx: api.Context, named: judge.Judge, tiny: tuple[bool, bool]
) -> Callable[[int], Result]:
    """One request of this way, by its number; `tiny` says of reader and painter whether they were made here."""
    reader, painter = tiny
    question = vlm_files.DESCRIBE if reader else exam.TOLD.format(exam.ALONE)
    held_out = [asked for asked in exam.questions(2 * params.requests, ctx.seed, reader) if asked.task == "describe"]

    def text_to_image(number: int) -> Result:
        prompt = judge.PROMPTS[number % len(judge.PROMPTS)]
        picture = service.paint(exam.wish(prompt, painter), ctx.seed + number, params.steps)
        said = named(exam.reduced([exam.pixels(picture)]))[0]
        return said == prompt, picture, prompt

    def image_to_text(number: int) -> Result:
        asked = held_out[number % len(held_out)]
        text = service.caption(asked.picture, asked.prompt)
        return asked.right(text), asked.picture, text

    def round_trip(number: int) -> Result:
        prompt = judge.PROMPTS[number % len(judge.PROMPTS)]
        picture = service.paint(exam.wish(prompt, painter), ctx.seed + 500 + number, params.steps)
        text = service.caption(picture, question)
        return exam.plain(text) == prompt, picture, f"{prompt} -> {text}"

    return {"text_to_image": text_to_image, "image_to_text": image_to_text, "round_trip": round_trip}[way]


def measure(point: Point, ask: Callable[[int], Result], params: Params, ctx: api.Context) -> None:
    results, samples = [], []
    for number in range(params.requests):
        began = time.perf_counter()
        results.append(ask(number))
        samples.append((time.perf_counter() - began) * 1e3)
    spread = timing.spread(samples)
    shown = [(exam.pixels(picture), text, right) for right, picture, text in results]
    exam.sheet(ctx.out / f"{point.way}.png", shown, columns=8)
    metrics = {
        "right_pct": exam.share_pct([right for right, _, _ in results]), "latency_p50_ms": spread.p50,
        "latency_p95_ms": spread.p95, "requests_per_s": 1e3 * len(samples) / sum(samples),
    }  # fmt: skip
    ctx.record(point, metrics, {"latency_p50_ms": spread})
