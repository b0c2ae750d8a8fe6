"""Kind `quantize`: one model quantized in several ways, each served by vLLM and asked held-out questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import api
from tasks.llm import checkpoints, compression, exam, pace, room, sweep
from tasks.models import device
from tasks.services.llm import vllm
from tasks.services.timing import spread

METRICS = {
    **checkpoints.METRICS,
    "quantize_s": "seconds that quantizing took when the checkpoint was made (0 for one that is only cast)",
    **exam.METRICS,
    **pace.METRICS,
}
TRUSTED_PCT = 80  # an unquantized model that agrees less with itself in another precision is served wrongly
TOKENS, AT_ONCE = 32, 8


Params = checkpoints.Params


class Point(api.Params):
    method: compression.Method = "bf16"


def needs(params: checkpoints.Params) -> list[api.Needs]:
    return checkpoints.needs()


def run(params: checkpoints.Params, ctx: api.Context) -> None:
    source = room.home(ctx, params.max_model_len, gpu=pace.on_gpu(), precision="bf16" if pace.on_gpu() else "fp32")
    tokenizer = exam.tokenizer_of(source)
    given = exam.exam(tokenizer, params.questions, ctx.seed)
    reference = original(source, tokenizer, given)
    ctx.say(f"the original answers {reference.exact_match_pct:.1f} % right")
    for point in ctx.points:
        if lack := checkpoints.unserved(point.method):
            ctx.blocked(point, lack, checkpoints.REMEDY)
            continue
        with sweep.spared(ctx, point):
            measure(point, params, ctx, source, given, reference)


def original(source: Path, tokenizer: Any, given: exam.Exam) -> exam.Marks:
    """The unquantized model's own answers: in float32 on a CPU, in its own precision on a GPU."""
    from transformers import AutoModelForCausalLM

    gpu = pace.on_gpu()
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto" if gpu else "float32")
    model = model.cuda() if gpu else model
    marks = exam.taken(model.eval(), tokenizer, given)
    del model
    device.release()  # a server comes next
    return marks


def measure(
    point: Point, params: checkpoints.Params, ctx: api.Context, source: Path, given: exam.Exam, reference: exam.Marks
) -> None:  # fmt: skip
    made = compression.compressed(source, point.method, params.samples, ctx.seed, ctx.say)
    device.release()
    before = pace.used_before()
    options = checkpoints.served_with(params, point.method, ctx)
    with vllm.serve(made.folder, options, ctx.scratch / point.method, ctx.say) as endpoint:
        marks = exam.served(endpoint, given)
        agreement = marks.agreement_pct(reference)
        if point.method in compression.PLAIN and agreement < TRUSTED_PCT:
            raise api.UserError(
                f"vLLM gives the model's own answers in {agreement:.0f} % of the cases only: nothing is timed",
                where=point.method,
            )
        many = pace.speeds(endpoint, given.prompts, AT_ONCE, TOKENS, params.budget_s)
        memory_mb = pace.held_mb(endpoint, before)
    size = compression.weights_bytes(made.folder)
    found = {
        "size_mb": size / pace.MB, "bits_per_weight": 8 * size / compression.parameters(source),
        "quantize_s": made.seconds, "exact_match_pct": marks.exact_match_pct, "answer_perplexity": marks.perplexity,
        "agreement_pct": agreement, "memory_mb": memory_mb, "throughput_tps": spread(many).p50,
    }  # fmt: skip
    ctx.record(point, found, {"throughput_tps": spread(many)})
