"""A language model in this process, on the GPU where there is one: loaded, given texts, its work timed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from tasks import api
from tasks.llm import room
from tasks.models import lm, quiz

MIB = 1024**2
TOKENS = 4096  # the context for which there must be room


def load(ctx: api.Context, attention: str = "sdpa") -> tuple[Any, Any]:
    """(model, tokenizer) of the chosen settings, float32: cached and recomputed tokens can only be equal in a
    precision whose rounding does not decide. One thread on a CPU: steps of a small model are too short to share.
    NoRoomError before anything is loaded when it does not fit.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = room.home(ctx, TOKENS, gpu=torch.cuda.is_available(), precision="fp32")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation=attention)
    return settled(model), AutoTokenizer.from_pretrained(folder)


def settled(model: Any) -> Any:
    """The model ready to infer, on the device that this machine has."""
    import torch

    if torch.cuda.is_available():
        return model.cuda().eval()
    torch.set_num_threads(1)
    return model.eval()


def text(seed: int) -> str:
    """A long text that the small models can continue: held-out questions with their answers."""
    asked = quiz.held_out(300, seed)
    return "".join(f"{lm.asked(one.prompt, chat=False)}{one.answer}{lm.END}\n" for one in asked)


def text_ids(tokenizer: Any, tokens: int, seed: int) -> Any:
    """That text's first token ids, [1, tokens]; it is repeated where it is too short."""
    import torch

    once: list[int] = tokenizer(text(seed), add_special_tokens=False)["input_ids"]
    return torch.tensor([list(islice(once * (tokens // len(once) + 1), tokens))])


def counted(tokenizer: Any, sized: str, tokens: int) -> Any:
    """Ids [1, tokens] of a text that is said to have so many tokens; UserError when the tokenizer counts otherwise."""
    import torch

    ids = tokenizer(sized, add_special_tokens=False)["input_ids"]
    if len(ids) != tokens:
        raise api.UserError(f"the text that should have {tokens} tokens has {len(ids)}", where="sized_text")
    return torch.tensor([ids])


def drawn(vocab: int, shape: tuple[int, ...], seed: int) -> Any:
    """Random token ids: no two repeats of a measurement see the same."""
    import torch

    return torch.randint(vocab, shape, generator=torch.Generator().manual_seed(seed))


def milliseconds(work: Callable[[], object], device: Any) -> float:
    """How long one call takes, the device's queue included."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def token_bytes(model: Any) -> int:
    """Bytes of one token's keys and values: 2 * layers * kv_heads * head_dim * size of an element."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element: int = next(model.parameters()).element_size()
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * width) * element


def stored_bytes(holder: Any) -> int:
    """Bytes of all tensors that an object holds, each storage counted once: nothing is taken on a word."""
    storages: dict[int, int] = {}
    _walk(holder, storages, set())
    return sum(storages.values())


def _walk(value: Any, storages: dict[int, int], seen: set[int]) -> None:
    import torch

    if id(value) in seen or isinstance(value, str | bytes | int | float | type):
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    elif isinstance(value, Mapping):
        for each in value.values():
            _walk(each, storages, seen)
    elif isinstance(value, list | tuple | set | deque):
        for each in value:
            _walk(each, storages, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module):
        _walk(vars(value), storages, seen)


def needs(backend: str = "transformers", memory_gb: float = 3) -> api.Needs:
    """One backend for both devices: the GPU is used where there is one."""
    return api.Needs(backend=backend, environment="training", memory_gb=memory_gb, settings=("model",))


def on_device(memory_gb: float = 3) -> list[api.Needs]:
    """The device's memory is the subject: a GPU's, or the host's in its place."""
    gpu = api.Needs(
        backend="transformers (CUDA)", environment="training", gpus=1, memory_gb=memory_gb, settings=("model",)
    )
    host = api.Needs(
        backend="transformers (host memory)", stand_in_for="GPU memory", environment="training", memory_gb=memory_gb,
        settings=("model",),
    )  # fmt: skip
    return [gpu, host]
