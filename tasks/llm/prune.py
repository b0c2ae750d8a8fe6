"""Kind `prune`: a language model with ever fewer weights: quality, what is left, and whether it is any faster.

`magnitude` sets the smallest weights of each layer to zero; `wanda` weighs them by what comes in (arXiv 2306.11695);
`sparsegpt` lets the rest repair the error (arXiv 2301.00774); `channels` takes the least used feed-forward channels
out altogether, which leaves smaller dense matrices: the only one that a dense kernel can be faster with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import compression, exam, local
from tasks.models import lm
from tasks.services.timing import repeat, spread

METRICS = {
    "nonzero_params": "parameters that are not zero",
    "sparsity_pct": "zeros or removed weights in the linear layers (but the output's), in percent",
    "multiplications_m": "multiplications that a dense kernel does for one token in those layers, millions",
    "size_mb": "parameters as bfloat16, dense, 10^6 bytes",
    "forward_ms": "one forward pass over a batch of questions, median of the repeats",
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


def needs(params: Params) -> list[api.Needs]:
    return [local.needs(backend="torch + llm-compressor")]


def run(params: Params, ctx: api.Context) -> None:
    source = lm.home(ctx.settings, ctx.seed, ctx.say)
    tokenizer = exam.tokenizer_of(source)
    given = exam.exam(tokenizer, params.questions, ctx.seed)
    original = loaded(source)
    prunable = sum(layer.weight.numel() for layer in linears(original).values())
    reference = exam.taken(local.settled(original), tokenizer, given)
    for point in ctx.points:
        model = pruned(source, tokenizer, point, params, ctx.seed)
        marks = exam.taken(model, tokenizer, given)
        times = forward_ms(model, params.budget_s, ctx.seed)
        left = sum(int(layer.weight.count_nonzero()) for layer in linears(model).values())
        total = sum(each.numel() for each in model.parameters())
        found = {
            "nonzero_params": sum(int(each.count_nonzero()) for each in model.parameters()),
            "sparsity_pct": 100 * (1 - left / prunable), "size_mb": 2 * total / 1e6,
            "multiplications_m": sum(layer.weight.numel() for layer in linears(model).values()) / 1e6,
            "forward_ms": spread(times).p50, "exact_match_pct": marks.exact_match_pct,
            "answer_perplexity": marks.perplexity, "agreement_pct": marks.agreement_pct(reference),
        }  # fmt: skip
        ctx.record(point, found, {"forward_ms": spread(times)})


def loaded(source: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(source, dtype="float32").eval()


def linears(model: Any) -> dict[str, Any]:
    """The layers that are pruned, by name."""
    import torch

    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    return {name: layer for name, layer in found.items() if name not in compression.KEPT}


def pruned(source: Path, tokenizer: Any, point: Point, params: Params, seed: int) -> Any:
    model = loaded(source)
    if point.sparsity:
        rows = compression.calibration(tokenizer, params.samples, seed)
        if point.method == "magnitude":
            by_magnitude(model, point.sparsity)
        elif point.method == "channels":
            without_channels(model, point.sparsity, rows)
        else:
            by_calibration(model, tokenizer, point, rows)
    return local.settled(model)


def by_magnitude(model: Any, sparsity: float) -> None:
    from torch.nn.utils import prune

    for layer in linears(model).values():
        prune.l1_unstructured(layer, "weight", amount=sparsity)
        prune.remove(layer, "weight")


def by_calibration(model: Any, tokenizer: Any, point: Point, rows: list[dict[str, Any]]) -> None:
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

    compression.unpinned()
    modifier = WandaPruningModifier if point.method == "wanda" else SparseGPTModifier
    recipe = modifier(sparsity=point.sparsity, mask_structure="0:0", targets=["Linear"], ignore=["re:.*lm_head"])
    oneshot(
        model=model, tokenizer=tokenizer, recipe=[recipe], dataset=compression.dataset(rows),
        num_calibration_samples=len(rows), max_seq_length=max(len(row["input_ids"]) for row in rows),
    )  # fmt: skip


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
            model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False)
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
