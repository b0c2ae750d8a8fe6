"""Kind `prune`: a language model with ever fewer weights: quality, what is left, and whether it is any faster.

`magnitude` sets the smallest weights of each layer to zero; `wanda` weighs them by what comes in (arXiv 2306.11695);
`sparsegpt` lets the rest repair the error (arXiv 2301.00774); `channels` takes the least used feed-forward channels
out altogether, which leaves smaller dense matrices: the only one that a dense kernel can be faster with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import compressor, exam, local, pace, room
from tasks.models import device
from tasks.services.timing import repeat, spread

METRICS = {
    "nonzero_params": "parameters that are not zero",
    "sparsity_pct": "zeros or removed weights in the linear layers (but the output's), in percent",
    "multiplications_m": "multiplications that a dense kernel does for one token in those layers, millions",
    "size_mb": "parameters as bfloat16, dense, 10^6 bytes",
    "forward_ms": "one forward pass over 16 sequences of 128 random tokens, median of the repeats",
    **exam.METRICS,
}
BATCH, LENGTH = 16, 128


class Params(api.Params):
    questions: int = Field(default=140, ge=10, le=2000)
    samples: int = Field(default=128, ge=8, le=2048)
    budget_s: float = Field(default=0.6, gt=0)


class Point(api.Params):
    """`sparsity` is the share of the weights (`channels`: of the feed-forward channels) that goes."""

    method: Literal["magnitude", "wanda", "sparsegpt", "channels"] = "magnitude"
    sparsity: float = Field(default=0.5, ge=0, lt=1)


@dataclass(frozen=True)
class Whole:
    """The model before: how many weights can be pruned, and its answers."""

    prunable: int
    marks: exam.Marks


def needs(params: Params) -> list[api.Needs]:
    return [local.needs(backend="torch + llm-compressor")]


def run(params: Params, ctx: api.Context) -> None:
    source = room.home(ctx, LENGTH, gpu=pace.on_gpu(), precision="bf16" if pace.on_gpu() else "fp32")
    tokenizer = exam.tokenizer_of(source)
    given = exam.exam(tokenizer, params.questions, ctx.seed)
    whole = before(local.settled(compressor.loaded(source)), tokenizer, given)
    device.release()
    for point in ctx.points:
        with device.spared(point, ctx):
            found, times = measured(
                pruned(source, tokenizer, point, params, ctx.seed), tokenizer, given, whole, params, ctx.seed
            )
            ctx.record(point, found, {"forward_ms": times})


def before(model: Any, tokenizer: Any, given: exam.Exam) -> Whole:
    return Whole(
        sum(layer.weight.numel() for layer in compressor.linears(model).values()), exam.taken(model, tokenizer, given)
    )


def measured(
    model: Any, tokenizer: Any, given: exam.Exam, whole: Whole, params: Params, seed: int
) -> tuple[dict[str, float], api.Spread]:
    """What is left of the model, how good it is and how fast."""
    marks, times = exam.taken(model, tokenizer, given), spread(forward_ms(model, params.budget_s, seed))
    layers = [layer.weight for layer in compressor.linears(model).values()]
    return {
        "nonzero_params": sum(int(each.count_nonzero()) for each in model.parameters()),
        "sparsity_pct": 100 * (1 - sum(int(weight.count_nonzero()) for weight in layers) / whole.prunable),
        "multiplications_m": sum(weight.numel() for weight in layers) / 1e6,
        "size_mb": 2 * sum(each.numel() for each in model.parameters()) / 1e6,
        "forward_ms": times.p50, "exact_match_pct": marks.exact_match_pct, "answer_perplexity": marks.perplexity,
        "agreement_pct": marks.agreement_pct(whole.marks),
    }, times  # fmt: skip


def pruned(source: Path, tokenizer: Any, point: Point, params: Params, seed: int) -> Any:
    model = compressor.loaded(source)
    rows = compressor.calibration(tokenizer, params.samples, seed)
    if point.sparsity and point.method in ("wanda", "sparsegpt"):
        by_calibration(model, tokenizer, point, rows)
    model = local.settled(model)
    if point.sparsity and point.method == "magnitude":
        by_magnitude(model, point.sparsity)
    elif point.sparsity and point.method == "channels":
        without_channels(model, point.sparsity, rows)
    return model


def by_magnitude(model: Any, sparsity: float) -> None:
    from torch.nn.utils import prune

    for layer in compressor.linears(model).values():
        prune.l1_unstructured(layer, "weight", amount=sparsity)
        prune.remove(layer, "weight")


def by_calibration(model: Any, tokenizer: Any, point: Point, rows: list[dict[str, Any]]) -> None:
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

    modifier = WandaPruningModifier if point.method == "wanda" else SparseGPTModifier
    recipe = modifier(sparsity=point.sparsity, mask_structure="0:0", targets=["Linear"], ignore=["re:.*lm_head"])
    compressor.applied(model, tokenizer, [recipe], rows)
    compressor.let_go(model)


def without_channels(model: Any, sparsity: float, rows: list[dict[str, Any]]) -> None:
    """Remove the feed-forward channels that matter least: activations' norm times norm of the outgoing weights."""
    import torch

    seen: dict[int, Any] = {}
    hooks = []
    for index, layer in enumerate(model.model.layers):

        def note(_: Any, inputs: tuple[Any, ...], index: int = index) -> None:
            seen[index] = seen.get(index, 0) + inputs[0].float().square().sum(dim=(0, 1))

        hooks.append(layer.mlp.down_proj.register_forward_pre_hook(note))
    with torch.inference_mode():
        for row in rows:
            model(input_ids=torch.tensor([row["input_ids"]], device=model.device), use_cache=False)
    for hook in hooks:
        hook.remove()
    for index, layer in enumerate(model.model.layers):
        mlp = layer.mlp
        worth = seen[index].sqrt() * mlp.down_proj.weight.data.norm(dim=0)
        keep = worth.topk(max(1, round(len(worth) * (1 - sparsity)))).indices.sort().values
        for each in (mlp.gate_proj, mlp.up_proj):
            each.weight, each.out_features = torch.nn.Parameter(each.weight.data[keep].clone()), len(keep)
        mlp.down_proj.weight = torch.nn.Parameter(mlp.down_proj.weight.data[:, keep].clone())
        mlp.down_proj.in_features = len(keep)


def forward_ms(model: Any, budget_s: float, seed: int) -> list[float]:
    """Times of forward passes over [BATCH, LENGTH] random tokens, other ones each time."""
    import torch

    shape, vocab = (BATCH, LENGTH), model.config.vocab_size
    batches = [(local.drawn(vocab, shape, seed + turn).to(model.device),) for turn in range(8)]

    def forward(ids: Any) -> None:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    return repeat(forward, batches, budget_s, minimum=8)
