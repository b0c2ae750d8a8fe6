"""Kind `quantize_load`: 8 and 4 bits while loading (bitsandbytes, torchao), in transformers: memory, speed, quality.

Quality is of the chosen model. Memory and speed are of the chosen model too, or of `twin` where that was made on the
spot and is too small to show either.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import exam, local, memory, pace, room
from tasks.llm.twin import Shape, stands_for
from tasks.models import device
from tasks.services.timing import spread

METRICS = {
    "weights_mb": "all tensors of the loaded model, 10^6 bytes, each storage counted once",
    "peak_memory_mb": "the most memory that loading it and one answer took beyond what was in use before",
    "decode_tps": "output tokens per second of one sequence, median of the repeats",
    **exam.METRICS,
}
MB = 1e6
REPEATS, TOKENS, PROMPT = 5, 16, 16
LENGTH = 128  # tokens of a question with its answer, at the most


class Params(api.Params):
    questions: int = Field(default=140, ge=10, le=2000)
    repeats: int = Field(default=REPEATS, ge=2)
    twin: Shape = Field(default_factory=Shape)


class Point(api.Params):
    precision: Literal["fp32", "bf16", "bnb_int8", "bnb_nf4", "torchao_int8"] = "bf16"


def needs(params: Params) -> list[api.Needs]:
    shared: dict[str, Any] = {"environment": "training", "memory_gb": 5, "settings": ("model",)}
    return [
        api.Needs(backend="transformers (CUDA)", gpus=1, **shared),
        api.Needs(backend="transformers (CPU)", stand_in_for="a GPU's memory and speed", **shared),
    ]


def run(params: Params, ctx: api.Context) -> None:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every layer that it casts
    source = room.home(ctx, LENGTH, gpu=pace.on_gpu())
    wide = stands_for(source, params.twin, ctx.seed)
    tokenizer = exam.tokenizer_of(source)
    given = exam.exam(tokenizer, params.questions, ctx.seed)
    reference = exam.taken(loaded(source, "bf16" if pace.on_gpu() else "fp32"), tokenizer, given)
    device.release()
    for point in ctx.points:
        with device.spared(point, ctx):
            marks = exam.taken(loaded(source, point.precision), tokenizer, given)
            device.release()
            found, rates = weighed(wide, point.precision, params.repeats, ctx.seed)
            quality = {
                "exact_match_pct": marks.exact_match_pct, "answer_perplexity": marks.perplexity,
                "agreement_pct": marks.agreement_pct(reference),
            }  # fmt: skip
            ctx.record(point, {**found, **quality}, {"decode_tps": spread(rates)})


def loaded(folder: Path, precision: str) -> Any:
    """The model, quantized while it is read."""
    import torch
    from transformers import AutoModelForCausalLM

    if not pace.on_gpu():
        torch.set_num_threads(1)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    place = "cuda" if pace.on_gpu() else "cpu"  # where it is quantized; a quantized model refuses to be moved
    more = {"quantization_config": wish} if (wish := config(precision)) else {}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=place, **more).eval()


def config(precision: str) -> Any:
    """transformers' quantization of that name; None for a plain precision."""
    import torch
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if precision == "bnb_int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # LLM.int8(), arXiv 2208.07339
    if precision == "bnb_nf4":  # arXiv 2305.14314
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    if precision == "torchao_int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    return None


def weighed(folder: Path, precision: str, repeats: int, seed: int) -> tuple[dict[str, float], list[float]]:
    """Memory and decoding speed of the model in `folder`; the rates of the repeats after a warm-up.

    Counting memory on a CPU makes allocating slow: the repeats come after it.
    """
    import torch

    def work() -> tuple[Any, float]:
        model = loaded(folder, precision)
        held = held_bytes(model)  # bitsandbytes takes its scales elsewhere at the first answer
        rate(model, seed)
        return model, held

    (model, held), peak = memory.peak_mib(work, torch.device("cuda" if pace.on_gpu() else "cpu"))
    rates = [rate(model, seed + turn) for turn in range(1, repeats + 2)][1:]
    found = {"weights_mb": held / MB, "peak_memory_mb": peak * memory.MIB / MB, "decode_tps": spread(rates).p50}
    return found, rates


def rate(model: Any, seed: int) -> float:
    """Tokens per second of one greedy answer of `TOKENS` tokens to a random prompt."""
    import torch

    ids = local.drawn(model.config.vocab_size, (1, PROMPT), seed).to(model.device)

    def answer() -> None:
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                do_sample=False,
            )  # fmt: skip

    return 1000 * TOKENS / local.milliseconds(answer, model.device)


def held_bytes(model: Any) -> float:
    """Bytes of all storages behind parameters and buffers, and behind the parts of quantized tensors."""
    storages: dict[int, int] = {}
    waiting = [*model.parameters(), *model.buffers()]
    while waiting:
        tensor = waiting.pop()
        state = getattr(tensor, "quant_state", None) or getattr(tensor, "SCB", None)
        parts = parts_of(tensor) + scales_of(state)
        waiting += parts
        if not hasattr(tensor, "__tensor_flatten__"):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return float(sum(storages.values()))


def parts_of(tensor: Any) -> list[Any]:
    """The plain tensors inside a tensor subclass (torchao)."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return []
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]


def scales_of(state: Any) -> list[Any]:
    """The scales that bitsandbytes keeps beside a weight."""
    import torch

    if state is None:
        return []
    if isinstance(state, torch.Tensor):
        return [state]
    return [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
