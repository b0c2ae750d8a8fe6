"""Kind `llm_batching`: the same requests one by one, in static batches and with continuous batching, on two engines.

All requests are there at the start and each wants its own number of tokens, so a static batch waits for its longest.
Before anything is timed, both engines' greedy tokens are compared on other requests: they must be the model's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import hf_batching, pace, room, serving, sweep
from tasks.llm.agreement import prompts
from tasks.llm.hf_batching import Done, Request, Served
from tasks.models import device
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

REFERENCE = "transformers one by one"
CHECKED, EQUAL = 6, 0.99
LENGTH = 1024  # of the longest request, prompt and answer together


class Params(api.Params):
    requests: int = Field(default=24, ge=2)
    width: int = Field(default=8, ge=2)  # requests in a batch at most, static or continuous
    short: int = Field(default=8, ge=1)  # tokens of the shortest request
    long: int = Field(default=96, ge=2)  # and of the longest: one in four is long
    dtype: Literal["float32", "bfloat16"] = "float32"  # equal tokens need a precision whose rounding does not decide
    rounds: int = Field(default=2, ge=1)  # timed repeats, each with requests of its own


class Point(api.Params):
    engine: Literal["transformers", "vllm"] = "vllm"
    batching: Literal["one_by_one", "static", "continuous"] = "continuous"


METRICS = {
    "output_tokens_per_s": "tokens that were asked for and came, per second until the last request was done",
    "requests_per_s": "requests per second until the last one was done",
    "e2e_p50_ms": "median time from the start, when all requests were there, to a request's end",
    "e2e_p95_ms": "95th percentile of the same",
    "wasted_pct": "decoding steps for requests that already had their tokens, of all steps of the batch's rows: "
    "counted from the lengths (none where a finished request leaves the batch)",
    "tokens_equal_pct": "tokens equal to those of transformers' generate, one request at a time, in percent",
    "requests_equal_pct": "requests all of whose tokens are equal to those",
}
Work = Callable[[Sequence[Request]], Served]


def needs(params: Params) -> Sequence[api.Needs]:
    return [serving.both("transformers + vLLM")]


def run(params: Params, ctx: api.Context) -> None:
    from transformers import AutoTokenizer

    gpu = pace.on_gpu()
    folder = room.home(ctx, LENGTH, gpu=gpu, precision="fp32" if params.dtype == "float32" else "bf16")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), hf_batching.load(folder, params.dtype, gpu)
    sets = [drawn(params, tokenizer, ctx.seed + number) for number in range(params.rounds + 1)]
    sets[0] = sets[0][:CHECKED]
    reference = [hf_batching.one_by_one(model, requests, 1) for requests in sets]
    for point in (one for one in ctx.points if one.engine == "transformers"):
        way = getattr(hf_batching, point.batching)
        with device.spared(point, ctx):
            record(ctx, point, partial(way, model, width=params.width), sets, reference)
    left = [one for one in ctx.points if one.engine == "vllm"]
    if left:
        model.cpu()
        device.release()  # the GPU is vLLM's from here on
        on_vllm(params, left, folder, gpu, sets, reference, ctx)


def drawn(params: Params, tokenizer: Any, seed: int) -> list[Request]:
    """Held-out questions; three in four want few tokens, one many."""
    rng = random.Random(seed)
    middle = (params.short + params.long) // 4
    asked = prompts(params.requests, seed)
    wanted = [rng.randint(params.long * 3 // 4, params.long) if n % 4 == 0 else rng.randint(params.short, middle)
              for n in range(len(asked))]  # fmt: skip
    rng.shuffle(wanted)
    ids = [tuple(tokenizer(prompt)["input_ids"]) for prompt in asked]
    return [Request(*one) for one in zip(asked, ids, wanted, strict=True)]


def on_vllm(
    params: Params, points: Sequence[Point], folder: Path, gpu: bool, sets: Sequence[Sequence[Request]],
    reference: Sequence[Served], ctx: api.Context,
) -> None:  # fmt: skip
    """The points of vLLM: one server for all of them."""
    options = vllm.Options(
        max_model_len=LENGTH, kv_gb=0.25 if not gpu else 4.0, dtype=params.dtype, max_num_seqs=params.width,
        prefix_caching=False, gpu=gpu, extra=pace.beside_others(),
    )  # fmt: skip

    def measure(server: Endpoint, point: Point) -> None:
        group = {"one_by_one": 1, "static": params.width, "continuous": 0}[point.batching]
        record(ctx, point, partial(asked_in_groups, server, size=group), sets, reference)

    ctx.say("starting vLLM")
    sweep.each(ctx, points, lambda: vllm.serve(folder, options, ctx.scratch / "vllm", ctx.say), measure)


def asked_in_groups(server: Endpoint, requests: Sequence[Request], size: int) -> Served:
    """Groups of `size` requests, each group sent when the one before is done; 0: all at once, the server chooses."""
    size = size or len(requests)
    start, computed, done = time.perf_counter(), 0, []

    def ask(request: Request) -> Done:
        answer = client.complete(server, list(request.ids), request.tokens, ignore_eos=True, return_token_ids=True)
        return Done(answer.token_ids, time.perf_counter() - start)

    with ThreadPoolExecutor(size) as pool:
        for at in range(0, len(requests), size):
            done += list(pool.map(ask, requests[at : at + size]))
    computed = sum(request.tokens for request in requests)  # vLLM drops a finished row from its batch
    return Served(done, computed)


def record(
    ctx: api.Context, point: Point, work: Work, sets: Sequence[Sequence[Request]], reference: Sequence[Served]
) -> None:
    """Outputs first, on requests that are not timed; then every timed set, its outputs compared too."""
    first = work(sets[0])
    if equal_pct(first, reference[0])[0] < 100 * EQUAL:
        said, wanted = first.done[0].tokens[:8], reference[0].done[0].tokens[:8]
        raise api.UserError(
            f"{point.engine} {point.batching} gives other tokens than {REFERENCE} ({said} … for {wanted} …)",
            where=f"{point.engine}/{point.batching}",
            remedy="nothing was timed; try dtype: float32",
        )
    runs = [work(requests) for requests in sets[1:]]
    pairs = [equal_pct(*both) for both in zip(runs, reference[1:], strict=True)]
    latency = spread([one.finished_s * 1000 for run in runs for one in run.done])
    rates = spread([run.useful / run.span_s for run in runs])
    metrics = {
        "output_tokens_per_s": rates.p50,
        "requests_per_s": sum(len(run.done) for run in runs) / sum(run.span_s for run in runs),
        "e2e_p50_ms": latency.p50, "e2e_p95_ms": latency.p95,
        "wasted_pct": sum(run.wasted_pct for run in runs) / len(runs),
        "tokens_equal_pct": sum(pair[0] for pair in pairs) / len(pairs),
        "requests_equal_pct": sum(pair[1] for pair in pairs) / len(pairs),
    }  # fmt: skip
    ctx.record(point, metrics, {"output_tokens_per_s": rates, "e2e_p50_ms": latency})


def equal_pct(found: Served, wanted: Served) -> tuple[float, float]:
    """Equal tokens and wholly equal requests, in percent."""
    pairs = [(one.tokens, two.tokens) for one, two in zip(found.done, wanted.done, strict=True)]
    tokens = sum(len(two) for _, two in pairs)
    same = sum(a == b for one, two in pairs for a, b in zip(one, two, strict=False))
    return 100 * same / tokens, 100 * sum(one == two for one, two in pairs) / len(pairs)
