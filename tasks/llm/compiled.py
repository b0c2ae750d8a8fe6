"""The kind `llm_compile`: a language model compiled against the same one run operator by operator.

The curriculum's compiler is MLC-LLM. Where it is installed, its own tools convert, compile and run the model; else
torch.compile (TorchDynamo and Inductor) takes its place, which fuses operators and generates C++ or Triton code.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import lm

TIMEOUT_S = 1200
Pass = Callable[[Any], Any]  # token ids [1, n] -> logits [1, n, vocab]
METRICS: Mapping[str, str] = {
    "latency_ms": "time of one forward pass over the prompt, median",
    "compile_s": "seconds until the first compiled answer, less one pass of the compiled model",
    "graphs_count": "graphs that the compiler made of the pass; more than one is a graph break",
    "kernels_count": "operators (eager) or generated and external kernels (compiled) that one pass calls",
    "max_abs_diff": "largest difference of a logit from the eager pass",
    "argmax_equal_ok": "1 when every position's most probable token is the eager one, before anything is timed",
    "decode_tokens_per_s": "tokens generated for each second (MLC-LLM, which runs whole generations)",
}
TOLERANCE = 1e-3  # of a float32 logit: fused operators sum in another order


class Params(api.Params):
    repeats: int = Field(default=40, ge=5)
    quantization: str = "q0f32"  # of MLC-LLM: no quantization, so that the answers can be compared
    output_tokens: int = Field(default=64, ge=8)


class Point(api.Params):
    route: Literal["eager", "compiled"] = "eager"
    tokens: int = Field(default=1, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    mlc = api.Needs(
        backend="MLC-LLM", environment="serving", modules=("mlc_llm",), memory_gb=4, settings=("model",),
        unmeasured=("compile_s", "graphs_count", "kernels_count", "max_abs_diff", "latency_ms"),
    )  # fmt: skip
    inductor = api.Needs(
        backend="torch.compile (Inductor)", stand_in_for="MLC-LLM", environment="serving", binaries=("g++",),
        memory_gb=2, settings=("model",), unmeasured=("compile_s", "graphs_count", "decode_tokens_per_s"),
    )  # fmt: skip
    return [mlc, inductor]


def run(params: Params, ctx: api.Context) -> None:
    folder = lm.home(ctx.settings, ctx.seed, ctx.say)
    (with_mlc if ctx.tier == "native" else with_inductor)(params, ctx, folder)


def with_inductor(params: Params, ctx: api.Context, folder: Path) -> None:
    """Both routes of each length; what the compiled one answers is compared before it is timed."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)  # passes of a millisecond: waiting for a second thread costs more than it computes
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()

    def forward(ids: Any) -> Any:
        return model(input_ids=ids, use_cache=False).logits

    for point in ctx.points:
        rng = torch.Generator().manual_seed(ctx.seed + point.tokens)
        ids = torch.randint(3, model.config.vocab_size, (1, point.tokens), generator=rng).to(device)
        route, cost = (forward, {}) if point.route == "eager" else compiled(forward, ids, ctx)
        with torch.inference_mode():
            same = compared(route(ids), forward(ids))
        if not same["argmax_equal_ok"] or same["max_abs_diff"] > TOLERANCE:
            raise api.UserError(f"the compiled model answers differently: {same}", where=f"tokens={point.tokens}")
        times = timed(route, ids, params.repeats)
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
    began = time.perf_counter()
    route(ids).sum().item()
    return time.perf_counter() - began


def compared(made: Any, wanted: Any) -> dict[str, float]:
    same = bool((made.argmax(-1) == wanted.argmax(-1)).all())
    return {"max_abs_diff": float((made - wanted).abs().max()), "argmax_equal_ok": float(same)}


def kernels(route: Pass, ids: Any) -> int:
    """Operators or generated kernels that one pass starts: events that torch's profiler sees no other nested in."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if ids.is_cuda else [])]
    with torch.inference_mode(), profile(activities=kinds) as seen:
        route(ids)
    events = [event for event in seen.events() if not event.cpu_children and not event.name.startswith("Torch-")]
    return len(events)


def timed(route: Pass, ids: Any, repeats: int) -> api.Spread:
    import numpy
    import torch

    with torch.inference_mode():
        times = [1000 * seconds(route, ids) for _ in range(repeats + 5)][5:]
    p50, p95, p99 = map(float, numpy.percentile(times, [50, 95, 99]))
    return api.Spread(len(times), p50, p95, p99, float(numpy.std(times, ddof=1)))


def with_mlc(params: Params, ctx: api.Context, folder: Path) -> None:
    """MLC-LLM's route: weights converted, library compiled, prompts generated; compared with eager generation."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = ctx.scratch / "mlc"
    for argv in mlc_commands(folder, work, params.quantization, device):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-5:]
            raise api.UserError("MLC-LLM failed: " + "\n".join(said), where=" ".join(argv[:4]))
    wanted, pace = eager_generation(folder, params, device)
    found, fast = mlc_generation(work, params, device)
    for point in ctx.points:
        rate = pace if point.route == "eager" else fast
        ctx.record(point, {"decode_tokens_per_s": rate, "argmax_equal_ok": float(found == wanted)})


def mlc_commands(folder: Path, work: Path, quantization: str, device: str) -> list[list[str]]:
    """MLC-LLM's three steps: `convert_weight`, `gen_config`, `compile`."""
    tool, made = [sys.executable, "-m", "mlc_llm"], str(work / "model")
    how = ["--quantization", quantization]
    library = str(work / f"model-{device}.so")
    return [
        [*tool, "convert_weight", str(folder), *how, "--output", made],
        [*tool, "gen_config", str(folder), *how, "--conv-template", "chatml", "--output", made],
        [*tool, "compile", f"{made}/mlc-chat-config.json", "--device", device, "--output", library],
    ]


def prompts() -> list[str]:
    from tasks.models import quiz

    return [question.prompt for question in quiz.held_out(8, 90)]


def eager_generation(folder: Path, params: Params, device: str) -> tuple[list[str], float]:
    """transformers' greedy answers in chat, and tokens for each second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).to(device).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    lm.answers(model, tokenizer, prompts()[:1], chat=True)
    began = time.perf_counter()
    longest = params.output_tokens
    texts = [lm.answers(model, tokenizer, [text], chat=True, max_new_tokens=longest)[0] for text in prompts()]
    spent = time.perf_counter() - began
    tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)
    return [text.strip() for text in texts], tokens / spent


def mlc_generation(work: Path, params: Params, device: str) -> tuple[list[str], float]:
    """The compiled engine's greedy answers in chat, and tokens for each second."""
    child = (
        "import json,sys,time\nfrom mlc_llm import MLCEngine\n"
        "plan=json.load(sys.stdin)\nengine=MLCEngine(plan['model'],device=plan['device'],model_lib=plan['library'])\n"
        "def ask(text):\n return engine.chat.completions.create(messages=[{'role':'user','content':text}],"
        "temperature=0,max_tokens=plan['tokens'],stream=False)\n"
        "ask(plan['prompts'][0])\nbegan=time.perf_counter()\nanswers=[ask(text) for text in plan['prompts']]\n"
        "spent=time.perf_counter()-began\n"
        "print(json.dumps({'texts':[one.choices[0].message.content for one in answers],"
        "'rate':sum(one.usage.completion_tokens for one in answers)/spent}))\nengine.terminate()\n"
    )
    plan = {
        "model": str(work / "model"), "library": str(work / f"model-{device}.so"), "device": device,
        "tokens": params.output_tokens, "prompts": prompts(),
    }  # fmt: skip
    argv, given = [sys.executable, "-c", child], json.dumps(plan)
    done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise api.UserError("MLC-LLM does not answer: " + "\n".join(done.stderr.strip().splitlines()[-5:]))
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return [text.strip() for text in found["texts"]], float(found["rate"])
