"""The KV cache of a decoder, taken apart: no cache, a full cache, a sliding window, and what each costs.

    generate(model, ids, 64, None)                       recompute everything for every token
    generate(model, ids, 64, full_cache(model))          keep every token's keys and values
    generate(model, ids, 64, sliding_cache(model, 256))  keep the last 256 tokens' only

Attention needs the keys and values of earlier tokens, and these never change: so they are kept. That turns a step over
n tokens into a step over one token, and costs 2 * layers * kv_heads * head_dim * n * element_size bytes.
Try it:  python kv_cache_test.py --model FOLDER --prompt-tokens 256 --new-tokens 64 --window 64
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class Generated:
    """Greedy tokens [batch, new_tokens]; seconds of the prompt's pass and of each later step."""

    tokens: torch.Tensor
    prefill_s: float
    step_s: list[float]


class RingLayer(DynamicLayer):
    """One layer's keys and values of the last `window` tokens, in a ring: token t lives in slot t % window.

    The memory is fixed, nothing is moved, and the oldest token is overwritten by the newest. A step over one token may
    read the slots in any order: rotary positions are already in the keys, and a softmax does not mind the order.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window, self.seen = window, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        batch, heads, _, width = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, self.window, width)
        self.values = value_states.new_zeros(batch, heads, self.window, value_states.shape[-1])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new tokens; give what they attend to: the past of the window, then themselves."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[-2]
        past = self.slots(max(0, self.seen - self.window + 1), self.seen)
        keys = torch.cat([self.keys[:, :, past], key_states], dim=-2) if new > 1 else None
        values = torch.cat([self.values[:, :, past], value_states], dim=-2) if new > 1 else None
        kept = min(new, self.window)
        here = self.slots(self.seen + new - kept, self.seen + new)
        self.keys[:, :, here], self.values[:, :, here] = key_states[:, :, -kept:], value_states[:, :, -kept:]
        self.seen += new
        if keys is None or values is None:  # one token: the ring itself is all it may see
            filled = min(self.seen, self.window)
            return self.keys[:, :, :filled], self.values[:, :, :filled]
        return keys, values

    def slots(self, first: int, end: int) -> torch.Tensor:
        return torch.arange(first, end, device=self.device) % self.window

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys the next `query_length` tokens meet, and the position of the first of these."""
        past = min(self.seen, self.window - 1)
        return past + query_length, self.seen - past


def full_cache(model: Any) -> Cache:
    """A cache that grows by one token per step and forgets nothing."""
    return DynamicCache()


def sliding(model: Any, window: int) -> Cache:
    """A cache in which a token sees itself and the `window - 1` tokens before it."""
    return Cache(layers=[RingLayer(window) for _ in range(model.config.num_hidden_layers)])


def window_mask(queries: int, keys: int, window: int, device: Any) -> torch.Tensor:
    """Who sees whom, [1, 1, queries, keys]: not the future, and not what is `window` or more tokens back.

    The queries are the last of the keys.
    """
    behind = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)[None]
    return ((behind >= 0) & (behind < window))[None, None]


@torch.inference_mode()
def score(model: Any, ids: torch.Tensor, cache: Cache, chunk: int = 1) -> torch.Tensor:
    """Logits [batch, tokens, vocabulary] of a given text, fed to the cache `chunk` tokens at a time."""
    found = []
    for part in ids.split(chunk, dim=1):
        ring = cache.layers[0] if cache.layers and isinstance(cache.layers[0], RingLayer) else None
        mask = None
        if ring is not None and part.shape[1] > 1:
            keys = ring.get_mask_sizes(part.shape[1])[0]
            mask = window_mask(part.shape[1], keys, ring.window, ids.device).expand(len(ids), 1, -1, -1)
        found.append(model(input_ids=part, attention_mask=mask, past_key_values=cache, use_cache=True).logits)
    return torch.cat(found, dim=1)


@torch.inference_mode()
def generate(model: Any, ids: torch.Tensor, new_tokens: int, cache: Cache | None) -> Generated:
    """Greedy continuation of ids [batch, tokens]; without a cache every step computes the whole text again."""
    steps, text, fed = [], ids, ids
    for _ in range(new_tokens):
        start = time.perf_counter()
        if cache is None:
            logits = model(input_ids=text, use_cache=False, logits_to_keep=1).logits
        else:
            logits = score(model, fed, cache, chunk=fed.shape[1])
        fed = logits[:, -1].argmax(-1, keepdim=True)
        text = torch.cat([text, fed], dim=1)
        if ids.is_cuda:
            torch.cuda.synchronize()
        steps.append(time.perf_counter() - start)
    return Generated(text[:, ids.shape[1] :], steps[0], steps[1:])


def cache_bytes(cache: Cache) -> int:
    """Bytes that the cache's keys and values take now."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def formula_bytes(config: Any, tokens: int, element_bytes: int, batch: int = 1) -> int:
    """2 (keys and values) * layers * kv_heads * head_dim * tokens * element size, for each sequence."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * width * tokens * element_bytes * batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hugging Face folder")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--window", type=int, default=64)
    asked = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32).eval()
    if torch.cuda.is_available():
        model = model.cuda()
    torch.manual_seed(90)
    ids = torch.randint(model.config.vocab_size, (1, asked.prompt_tokens), device=model.device)
    caches = {"none": None, "full": full_cache(model), "sliding": sliding(model, asked.window)}
    reference = None
    for name, cache in caches.items():
        made = generate(model, ids, asked.new_tokens, cache)
        reference = made.tokens if reference is None else reference
        stored = 0 if cache is None else cache_bytes(cache)
        line = {
            "cache": name, "tokens_per_s": round(asked.new_tokens / (made.prefill_s + sum(made.step_s)), 1),
            "cache_bytes": stored, "tokens_equal": bool((made.tokens == reference).all()),
        }  # fmt: skip
        print(json.dumps(line))
    tokens = asked.prompt_tokens + asked.new_tokens - 1  # the last token is never fed back
    print(json.dumps({"formula_bytes_of_the_full_cache": formula_bytes(model.config, tokens, 4)}))


if __name__ == "__main__":
    main()
