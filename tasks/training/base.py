"""The model that is tuned: loaded on the GPU where there is one, whole or in 4 bits, with or without adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import room
from tasks.models import device, lm

MIB = 2**20
TOKENS = 512  # of a conversation there is room for at the least


class Recipe(api.Params):
    """How a model is tuned. The defaults are those of the source: r=8, alpha=16, q_proj and v_proj, batch 2, 2 epochs.

    `replay_pct` rows of the base model's own training are mixed in for each 100 rows of the new data.
    """

    r: int = Field(default=8, ge=1, le=512)  # vLLM serves no higher rank
    alpha: int = Field(default=16, ge=1)
    targets: tuple[str, ...] = Field(default=("q_proj", "v_proj"), strict=False)
    batch: int = Field(default=2, ge=1)
    accumulate: int = Field(default=1, ge=1)
    epochs: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    replay_pct: int = Field(default=0, ge=0)


def quiet() -> None:
    """One computing thread on a CPU, and no progress bars or advice of the libraries in the log."""
    import datasets
    import torch
    import transformers

    datasets.disable_progress_bars()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def home(ctx: api.Workspace, say: Callable[[str], None]) -> Path:
    """The folder of the language model that the settings name; NoRoomError when it cannot even be loaded here.

    What training takes beyond its weights is seen when a GPU's memory ends: that blocks a point. 4 bits are for GPUs.
    """
    gpu = device.name() == "cuda"
    room.require(ctx.settings, TOKENS, gpu=gpu, have_bytes=room.available(gpu), precision="int4" if gpu else "fp32")
    return lm.home(ctx.settings, ctx.seed, say)


def tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; UserError when it has no chat template to write the rows in."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder)
    if not found.chat_template:
        raise api.UserError(
            "the tokenizer has no chat template", where=str(folder), remedy="choose an instruct model: its template"
            " (ChatML or the model's own) is what the tuned model will be asked with",
        )  # fmt: skip
    if "enable_thinking" in found.chat_template:  # as in Qwen3's: rows hold answers, no thoughts before them
        found.chat_template = "{% set enable_thinking = false %}" + found.chat_template
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def load(folder: Path, *, four_bit: bool = False) -> Any:
    """The model, float32 on a CPU and bfloat16 on a GPU; `four_bit` keeps its linear layers as NF4 (bitsandbytes)."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if device.name() == "cuda" else torch.float32
    options: dict[str, Any] = {"dtype": dtype}
    if four_bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return AutoModelForCausalLM.from_pretrained(folder, device_map=device.name(), **options)


def adapted(model: Any, recipe: Recipe, seed: int) -> Any:
    """`model` with new LoRA adapters (B = 0, so nothing changes yet); everything else is frozen.

    UserError when the model has no module of a name in `targets`.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    torch.manual_seed(seed)
    if getattr(model, "is_loaded_in_4bit", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    absent = sorted(set(recipe.targets) - {name.rpartition(".")[2] for name, _ in model.named_modules()})
    if absent:
        raise api.UserError(
            f"the model has no layer {', '.join(absent)}", remedy=f"name some of {', '.join(linears(model))}"
        )
    config = LoraConfig(r=recipe.r, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def linears(model: Any) -> list[str]:
    """The last parts of the names of the model's linear layers."""
    import torch

    return sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    )


def tuned(folder: Path, adapter: Path) -> Any:
    """The model with a trained adapter on it; UserError when there is none yet or it was made for another model."""
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise api.UserError(f"there is no adapter in {adapter.name}/", remedy="run the experiment lora-sft first")
    try:
        return PeftModel.from_pretrained(load(folder), adapter).eval()
    except (RuntimeError, ValueError) as error:
        raise api.UserError(
            f"the adapter does not fit the model: {str(error).splitlines()[0]}", where=str(adapter),
            remedy="it was trained on another model: train it again with lora-sft",
        ) from error  # fmt: skip


def trainable(model: Any) -> tuple[int, int]:
    """How many parameters are trained, and how many there are (4-bit weights counted as weights, not as bytes)."""
    if hasattr(model, "get_nb_trainable_parameters"):
        taught, every = model.get_nb_trainable_parameters()
        return int(taught), int(every)
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return sum(n for n, taught in counts if taught), sum(n for n, _ in counts)


def weight_bytes(model: Any) -> int:
    """Bytes that the weights take as stored (adapters excluded), a tied weight once."""
    return sum(w.numel() * w.element_size() for name, w in model.named_parameters() if "lora_" not in name)


def folder_kib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1024


def rows_needs(backend: str = "trl + peft") -> Sequence[api.Needs]:
    """The same libraries train on a CPU and on a GPU: one native backend."""
    return [api.Needs(backend=backend, environment="training", memory_gb=3, settings=("model",))]
