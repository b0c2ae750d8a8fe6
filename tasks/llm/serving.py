"""The server under a load: the chosen model on vLLM, checked against the model, and its own figures of a load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.llm import agreement, pace, room
from tasks.models import fit, lm
from tasks.services.llm import bench, figures, vllm
from tasks.services.llm.endpoint import Endpoint

GIB = 1024**3
SERVER = {
    **{
        f"server_{name}_p{share}_ms": f"{words}: {'median' if share == 50 else f'{share}th percentile'}, "
        "interpolated from the server's own histogram"
        for name, words in {
            "ttft": "time to the first token", "itl": "time between two output tokens",
            "e2e": "time of a whole request",
        }.items()
        for share in (50, 95, 99)
    },
    "server_queue_ms": "mean wait of a request before it was first scheduled, by the server",
    "server_prefill_ms": "mean time of a request's prefill, by the server",
    "server_decode_ms": "mean time of a request's decoding, by the server",
    "preemptions": "requests that lost their KV blocks to others during the load",
}  # fmt: skip
HISTOGRAMS = {"ttft": figures.TTFT, "itl": figures.ITL, "e2e": figures.E2E}


class Served(api.Params):
    """How vLLM serves the model in an experiment."""

    max_model_len: int = Field(default=1024, ge=16)
    kv_tokens: int = Field(default=65_536, ge=16)  # in the KV cache; its bytes follow from the model
    max_num_seqs: int = Field(default=64, ge=1)
    right_share: float = Field(default=1.0, gt=0, le=1)  # of the greedy tokens, before anything is timed
    prefix_caching: bool = False  # prompts of a benchmark must not profit from earlier ones


def both(backend: str = "vLLM") -> api.Needs:
    """Real vLLM on whichever device there is."""
    return api.Needs(backend=backend, environment="serving", memory_gb=4, settings=("model",))


def on_device() -> list[api.Needs]:
    """The device's memory is the subject: a GPU's, or the host's in its place."""
    gpu = api.Needs(backend="vLLM on CUDA", environment="serving", gpus=1, memory_gb=4, settings=("model",))
    host = api.Needs(
        backend="vLLM on host memory", stand_in_for="GPU memory", environment="serving", memory_gb=4,
        settings=("model",),
    )  # fmt: skip
    return [gpu, host]


def folder_of(served: Served, ctx: api.Context) -> Path:
    """The chosen model's folder; NoRoomError before anything is fetched when it does not fit as it is to be served."""
    return room.home(ctx, served.max_model_len, gpu=pace.on_gpu(), cached=served.kv_tokens)


@contextmanager
def checked(served: Served, folder: Path, ctx: api.Context, extra: tuple[str, ...] = ()) -> Iterator[Endpoint]:
    """A vLLM that answers as its model does, warmed up by a small load; UserError before that when it does not."""
    ctx.say("starting vLLM")
    options = vllm.Options(
        max_model_len=served.max_model_len, kv_gb=kv_bytes(folder, served) / GIB, max_num_seqs=served.max_num_seqs,
        prefix_caching=served.prefix_caching, gpu=pace.on_gpu(),
        extra=(*extra, *pace.beside_others()),
    )  # fmt: skip
    work = ctx.scratch / "vllm"
    try:
        with vllm.serve(folder, options, work, ctx.say) as server:
            agreement.require(server, folder, ctx.seed, served.right_share)
            load(server, folder, ctx, requests=4, concurrency=4, prompt_tokens=16, output_tokens=8)
            yield server
    finally:
        if (log := work / "vllm.log").exists():
            shutil.copy(log, ctx.out)


def kv_bytes(folder: Path, served: Served) -> int:
    """Bytes of a 16-bit KV cache for so many tokens of this model."""
    return round(served.kv_tokens * fit.kv_bytes_per_token(lm.describe(folder)))


def load(server: Endpoint, folder: Path, ctx: api.Context, **wish: object) -> bench.Result:
    """One load by `vllm bench serve`, its report in the experiment's folder."""
    return bench.serve(server, folder, log=ctx.out / "bench.log", **{"seed": ctx.seed, **wish})


def own_figures(load: figures.Samples) -> dict[str, float]:
    """The server's view of a load: `load` is the difference of two readings."""
    tails = {
        f"server_{name}_p{share}_ms": load.quantile(histogram, share / 100) * 1000
        for name, histogram in HISTOGRAMS.items()
        for share in (50, 95, 99)
    }
    means = {
        f"server_{phase}_ms": load.mean(f"vllm:request_{phase}_time_seconds") * 1000
        for phase in ("queue", "prefill", "decode")
    }
    return {**tails, **means, "preemptions": load.value(figures.PREEMPTIONS)}
