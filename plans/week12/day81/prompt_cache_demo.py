"""A prompt cache: the keys and values of a prompt's beginning, kept for the next prompt that begins alike.

    prompts = PromptCache(fingerprint(model), max_bytes=64 << 20)
    first = answer(model, ids, 16, prompts)      # nothing known: the whole prompt is computed, and kept
    again = answer(model, ids2, 16, prompts)     # the same beginning: only what follows it is computed

A prompt is cut into blocks of `block` tokens. A block's key is a hash of the model, of all tokens before it, and of
its own: so a block is found only under the same model and after the same beginning, and a changed token changes the
keys of its block and of all that follow. Blocks are kept until memory runs out; then the one that was not used for
longest goes.
Try it:  python prompt_cache_demo.py --model FOLDER --requests 40 --hit-rate 0.9
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache


@dataclass(frozen=True)
class Request:
    """A prompt's token ids, and whether its beginning was asked before (so that a cache can help)."""

    ids: list[int]
    repeats: bool


@dataclass(frozen=True)
class Answer:
    """Greedy tokens; seconds to the first of them and to the last; prompt tokens that were not computed."""

    tokens: list[int]
    ttft_s: float
    total_s: float
    reused: int


@dataclass
class Block:
    """Keys and values [layers, 2, kv_heads, block, head_dim] of one block of tokens."""

    tokens: tuple[int, ...]
    states: torch.Tensor


class PromptCache:
    """Blocks of prompts, least recently used ones first; never more than `max_bytes` of keys and values.

    When the model is changed, assign its fingerprint to `model_key`: what the old one computed is not found any more.
    """

    def __init__(self, model_key: str, max_bytes: int, block: int = 32) -> None:
        self.model_key, self.max_bytes, self.block = model_key, max_bytes, block
        self.blocks: OrderedDict[str, Block] = OrderedDict()
        self.bytes = self.requests = self.hits = self.hit_tokens = self.asked_tokens = self.evictions = 0

    def keys(self, ids: list[int]) -> list[str]:
        """The key of each whole block: a chain, every key depends on all tokens before it and on the model."""
        chain, found = self.model_key, []
        for start in range(0, len(ids) - self.block + 1, self.block):
            words = ",".join(map(str, ids[start : start + self.block]))
            chain = hashlib.sha256(f"{chain}|{words}".encode()).hexdigest()
            found.append(chain)
        return found

    def match(self, ids: list[int]) -> tuple[DynamicCache, int]:
        """A cache of the longest known beginning, and its length. The last token is always left to compute."""
        known: list[Block] = []
        keys = self.keys(ids[:-1])
        for index, key in enumerate(keys):
            block = self.blocks.get(key)
            if block is None or block.tokens != tuple(ids[index * self.block : (index + 1) * self.block]):
                break
            known.append(block)
        self.touch(keys[: len(known)])
        tokens = len(known) * self.block
        self.requests += 1
        self.hits += bool(known)
        self.hit_tokens += tokens
        self.asked_tokens += len(ids)
        cache = DynamicCache()
        if known:
            states = torch.cat([block.states for block in known], dim=3)
            for layer in range(len(states)):
                cache.update(states[layer, 0][None], states[layer, 1][None], layer)
        return cache, tokens

    def store(self, ids: list[int], cache: DynamicCache) -> None:
        """Keep the whole blocks of a prompt that the cache has just computed (batch of one)."""
        keys = self.keys(ids)
        for index, key in enumerate(keys):
            if key in self.blocks:
                continue
            span = slice(index * self.block, (index + 1) * self.block)
            layers = [torch.stack([layer.keys[0, :, span], layer.values[0, :, span]]) for layer in cache.layers]
            states = torch.stack(layers)
            if states.nbytes > self.max_bytes:
                return
            self.make_room(states.nbytes)
            self.blocks[key] = Block(tuple(ids[span]), states)
            self.bytes += states.nbytes
        self.touch(keys)

    def touch(self, keys: list[str]) -> None:
        """Used just now; later blocks count as older than earlier ones, which they are no good without."""
        for key in reversed(keys):
            if key in self.blocks:
                self.blocks.move_to_end(key)

    def make_room(self, needed: int) -> None:
        while self.bytes + needed > self.max_bytes:
            _, oldest = self.blocks.popitem(last=False)
            self.bytes -= oldest.states.nbytes
            self.evictions += 1


def fingerprint(model: Any) -> str:
    """What the keys and values depend on besides the tokens: the configuration and every weight."""
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, weight in model.state_dict().items():
        flat = weight.detach().double().flatten()
        place = torch.arange(1, len(flat) + 1, dtype=torch.float64, device=flat.device)
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} {flat.sum():.17g} {flat @ place:.17g}".encode())
    return digest.hexdigest()


@torch.inference_mode()
def answer(model: Any, ids: list[int], new_tokens: int, prompts: PromptCache | None) -> Answer:
    """A greedy answer; with a prompt cache only what it does not know of the prompt is computed, and then kept."""
    start = time.perf_counter()
    cache, reused = prompts.match(ids) if prompts else (DynamicCache(), 0)
    fed, tokens, first = torch.tensor([ids[reused:]], device=model.device), [], 0.0
    for turn in range(new_tokens):
        logits = model(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        tokens.append(int(logits[0, -1].argmax()))
        fed = torch.tensor([tokens[-1:]], device=model.device)
        if turn == 0:
            first = time.perf_counter() - start
            if prompts:
                prompts.store(ids, cache)
    return Answer(tokens, first, time.perf_counter() - start, reused)


def trace(requests: int, hit_rate: float, prefix: int, suffix: int, vocab: int, seed: int) -> list[Request]:
    """A warm-up request, then `requests` more: a share `hit_rate` begins with the warm-up's `prefix` tokens.

    The others begin with tokens of their own, which are never asked again.
    """
    rng = random.Random(seed)
    common = [rng.randrange(vocab) for _ in range(prefix)]
    repeats = [index < round(requests * hit_rate) for index in range(requests)]
    rng.shuffle(repeats)
    made = [Request(common + [rng.randrange(vocab) for _ in range(suffix)], False)]
    for again in repeats:
        start = common if again else [rng.randrange(vocab) for _ in range(prefix)]
        made.append(Request(start + [rng.randrange(vocab) for _ in range(suffix)], again))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hugging Face folder")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--hit-rate", type=float, default=0.9)
    parser.add_argument("--prefix-tokens", type=int, default=512)
    parser.add_argument("--max-mib", type=float, default=64)
    asked = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32).eval()
    if torch.cuda.is_available():
        model = model.cuda()
    requests = trace(asked.requests, asked.hit_rate, asked.prefix_tokens, 32, model.config.vocab_size, seed=90)
    prompts = PromptCache(fingerprint(model), int(asked.max_mib * 2**20))
    answer(model, requests[0].ids, 4, None)  # warm
    plain = [answer(model, each.ids, 8, None) for each in requests][1:]
    cached = [answer(model, each.ids, 8, prompts) for each in requests][1:]
    for name, answers in (("off", plain), ("on", cached)):
        line = {
            "cache": name, "ttft_p50_ms": round(1000 * statistics.median(one.ttft_s for one in answers), 2),
            "hit_rate": sum(one.reused > 0 for one in answers) / len(answers),
            "tokens_equal": [one.tokens for one in answers] == [one.tokens for one in plain],
        }  # fmt: skip
        print(json.dumps(line))
    print(json.dumps({"cache_bytes": prompts.bytes, "max_bytes": prompts.max_bytes, "evictions": prompts.evictions}))


if __name__ == "__main__":
    main()
