"""The kind `llm_compile`: a language model compiled against the same one run operator by operator.

The curriculum's compiler is MLC-LLM. Where it is installed, its own tools convert, compile and run the model; else
torch.compile (TorchDynamo and Inductor) takes its place, which fuses operators and generates C++ or Triton code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local, mlc, pace, room
from tasks.models import device
from tasks.services.timing import spread

Pass = Callable[[Any], Any]  # token ids [1, n] -> logits [1, n, vocab]
METRICS: Mapping[str, str] = {
    "latency_ms": "time of one forward pass over the prompt, median",
    "compile_s": "seconds until the first compiled answer, less one pass of the compiled model",
    "graphs_count": "graphs that the compiler made of the pass; more than one is a graph break",
    "kernels_count": "operators (eager) or generated and external kernels (compiled) that one pass calls",
    "max_abs_diff": "largest difference of a logit from the eager pass",
    "argmax_equal_ok": "1 when every position's most probable token is the eager one (MLC-LLM: every answer's text)",
    "decode_tokens_per_s": "tokens generated for each second (MLC-LLM, which runs whole generations)",
}
TOLERANCE = 1e-4  # of the largest float32 logit: fused operators sum in another order
WARM_UP = 5


class Params(api.Params):
    repeats: int = Field(default=40, ge=5)
    quantization: str = "q0f32"  # of MLC-LLM: no quantization, so that the answers can be compared
    output_tokens: int = Field(default=64, ge=8)


class Point(api.Params):
    route: Literal["eager", "compiled"] = "eager"
    tokens: int = Field(default=1, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    native = api.Needs(
        backend="MLC-LLM", environment="serving", modules=("mlc_llm",), memory_gb=4, settings=("model",),
        unmeasured=("compile_s", "graphs_count", "kernels_count", "max_abs_diff", "latency_ms"),
    )  # fmt: skip
    inductor = api.Needs(
        backend="torch.compile (Inductor)", stand_in_for="MLC-LLM", environment="serving", binaries=("g++",),
        memory_gb=2, settings=("model",), unmeasured=("compile_s", "graphs_count", "decode_tokens_per_s"),
    )  # fmt: skip
    return [native, inductor]


def run(params: Params, ctx: api.Context) -> None:
    longest = max([params.output_tokens, *(point.tokens for point in ctx.points)])
    folder = room.home(ctx, longest, gpu=pace.on_gpu(), precision="fp32")
    (with_mlc if ctx.tier == "native" else with_inductor)(params, ctx, folder)


def with_inductor(params: Params, ctx: api.Context, folder: Path) -> None:
    """Both routes of each length; what the compiled one answers is compared before it is timed."""
    import torch
    from transformers import AutoModelForCausalLM

    model = local.settled(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))

    def forward(ids: Any) -> Any:
        return model(input_ids=ids, use_cache=False).logits

    for point in ctx.points:
        with device.spared(point, ctx):
            rng = torch.Generator().manual_seed(ctx.seed + point.tokens)
            ids = torch.randint(3, model.config.vocab_size, (1, point.tokens), generator=rng).to(model.device)
            route, cost = (forward, {}) if point.route == "eager" else compiled(forward, ids, ctx)
            with torch.inference_mode():
                same = compared(route(ids), forward(ids), f"tokens={point.tokens}")
                times = spread([seconds(route, ids) * 1000 for _ in range(params.repeats + WARM_UP)][WARM_UP:])
            found = {"latency_ms": times.p50, "kernels_count": kernels(route, ids), **same, **cost}
            ctx.record(point, found, {"latency_ms": times})


def compiled(forward: Pass, ids: Any, ctx: api.Context) -> tuple[Pass, dict[str, float]]:
    """The compiled function of that shape, with the seconds and graphs that it took. Inductor's cache is not read."""
    import torch
    from torch._dynamo import utils
    from torch._inductor import config

    torch._dynamo.reset()
    utils.counters.clear()
    route: Any = torch.compile(forward, dynamic=False)
    with config.patch(force_disable_caches=True), torch.inference_mode():
        first = seconds(route, ids)
        again = seconds(route, ids)
    graphs = utils.counters["stats"]["unique_graphs"]
    ctx.say(f"compiled {ids.shape[1]} tokens in {first - again:.1f} s, {graphs} graphs")
    return route, {"compile_s": first - again, "graphs_count": graphs}


def seconds(route: Pass, ids: Any) -> float:
    """Wall time of one call, with the device's work."""
    return local.milliseconds(lambda: route(ids), ids.device) / 1000


def compared(made: Any, wanted: Any, where: str) -> dict[str, float]:
    """How near the logits are to the eager ones. UserError beyond what another order of the same sums explains."""
    apart, largest = float((made - wanted).abs().max()), float(wanted.abs().max())
    if not apart <= TOLERANCE * largest:
        raise api.UserError(
            f"the compiled model answers differently: a logit is {apart:.2g} off, the largest is {largest:.2g}",
            where=where,
        )
    return {"max_abs_diff": apart, "argmax_equal_ok": float((made.argmax(-1) == wanted.argmax(-1)).all())}


def kernels(route: Pass, ids: Any) -> int:
    """What one pass starts: on a GPU kernels and copies, on a CPU operators and generated kernels without those around.

    Both are events of torch's profiler.
    """
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if ids.is_cuda else [])]
    with torch.inference_mode(), profile(activities=kinds) as seen:
        route(ids)
    if ids.is_cuda:
        return sum(event.device_type == DeviceType.CUDA for event in seen.events())
    return sum(not event.cpu_children and not event.name.startswith("Torch-") for event in seen.events())


def with_mlc(params: Params, ctx: api.Context, folder: Path) -> None:
    """MLC-LLM's route: whole generations, compared with eager ones."""
    place = device.name()
    wanted = mlc.eager(folder, place, params.output_tokens)
    found = mlc.compiled(folder, ctx.scratch / "mlc", params.quantization, place, params.output_tokens)
    for point in ctx.points:
        rate = wanted.rate if point.route == "eager" else found.rate
        ctx.record(point, {"decode_tokens_per_s": rate, "argmax_equal_ok": float(found.texts == wanted.texts)})
