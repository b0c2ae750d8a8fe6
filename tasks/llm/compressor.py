"""llm-compressor run on a model in this process: the model loaded, changed layer by layer, and let go again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.models import quiz

KEPT = ["lm_head"]  # the output layer stays as it is: it is tied to the embedding, and the most sensitive


def loaded(source: Path) -> Any:
    """The model on the CPU: float32 to compute there, bfloat16 where a GPU will."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval()


def linears(model: Any) -> dict[str, Any]:
    """The layers that are quantized or pruned, by name: every linear one but the output's."""
    import torch

    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    return {name: layer for name, layer in found.items() if name not in KEPT}


def applied(model: Any, tokenizer: Any, modifiers: list[Any], rows: list[dict[str, Sequence[int]]]) -> None:
    """Let llm-compressor change `model`, which is on the CPU; a GPU computes, layer by layer, where there is one."""
    import torch
    from llmcompressor import oneshot

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
        unpinned()
    data: dict[str, Any] = {}
    if rows:
        longest = max(len(row["input_ids"]) for row in rows)
        data = {"dataset": dataset(rows), "num_calibration_samples": len(rows), "max_seq_length": longest}
    oneshot(model=model, tokenizer=tokenizer, recipe=modifiers, **data)


def let_go(model: Any) -> Any:
    """The model as an ordinary one on the CPU again: no weights fetched layer by layer, no session that keeps it."""
    from compressed_tensors.offload import remove_dispatch
    from llmcompressor import active_session

    active_session().reset()
    remove_dispatch(model).tie_weights()  # a tied weight was split in two
    return model.eval()


def calibration(tokenizer: Any, samples: int, seed: int) -> list[dict[str, Sequence[int]]]:
    """Token ids of training questions with their answers, as the assistant of a conversation gives them."""
    rows = []
    for question in islice(quiz.training(seed), samples):
        turns = [{"role": "user", "content": question.prompt}, {"role": "assistant", "content": question.answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids)})
    return rows


def dataset(rows: list[dict[str, Sequence[int]]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def unpinned() -> None:
    """llm-compressor pins its cached activations for a GPU: without one that is an error."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda self, *args, **named: None
