"""Long texts in pieces: chunked prefill, a sliding window, and what the key-value cache still holds afterwards.

    prefill(model, ids)                             one pass over the whole text
    prefill(model, ids, chunk=512)                  512 tokens at a time: the same logits, less working memory
    prefill(model, ids, chunk=512, window=1024)     and only the last 1024 tokens are kept and looked at

A chunk's tokens attend to everything cached and to themselves, so cutting the text changes nothing but the order of the
work. A window changes the answer: what is further back is forgotten, and memory and time per token stop growing.
Try it:  python long_context_demo.py --model FOLDER --tokens 4096 --chunk 512 --window 1024
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache


def sized_text(tokenizer: Any, tokens: int, source: str) -> str:
    """A text of exactly `tokens` tokens, made of `source` over and over.

    Token counts are a tokenizer's business: a cut in the middle of a word may be tokenized otherwise, so the count is
    asked for again and the end trimmed until it is right.
    """
    once = len(tokenizer(source, add_special_tokens=False)["input_ids"])
    text = source * (tokens // once + 2)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for end in range(tokens, tokens + 64):
        made = str(tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False))
        if len(tokenizer(made, add_special_tokens=False)["input_ids"]) == tokens:
            return made
    raise ValueError(f"no beginning of the text has {tokens} tokens")


def visible(queries: int, keys: int, window: int | None, device: Any) -> torch.Tensor:
    """Who sees whom, [1, 1, queries, keys]; the queries are the last of the keys."""
    behind = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)[None]
    return ((behind >= 0) & (behind < (window or keys + 1)))[None, None]


def forget(cache: DynamicCache, window: int) -> None:
    """Drop what no later token may see: the next one sees itself and `window - 1` tokens before it."""
    keep = window - 1
    for layer in cache.layers:
        length = layer.keys.shape[-2]
        first = max(0, length - keep)
        layer.keys = layer.keys[:, :, first:].clone()  # a view would hold on to the whole
        layer.values = layer.values[:, :, first:].clone()


def pieces(
    model: Any, ids: torch.Tensor, chunk: int | None, window: int | None, cache: DynamicCache, keep: int
) -> Iterator[torch.Tensor]:
    """The logits of each piece of the text (of its last `keep` positions; 0: of all), while the cache fills."""
    start = 0
    for part in ids.split(chunk or ids.shape[1], dim=1):
        queries = part.shape[1]
        held = cache.get_seq_length()
        mask = None if window is None and held == 0 else visible(queries, held + queries, window, ids.device)
        places = torch.arange(start, start + queries, device=ids.device)[None]
        said = model(
            input_ids=part, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True,
            logits_to_keep=keep,
        )  # fmt: skip
        start += queries
        if window is not None:
            forget(cache, window)
        yield said.logits[0]


@torch.inference_mode()
def prefill(
    model: Any, ids: torch.Tensor, chunk: int | None = None, window: int | None = None
) -> tuple[torch.Tensor, DynamicCache]:
    """(logits after the last token [vocabulary], the cache) of a text ids [1, tokens]."""
    cache = DynamicCache()
    last = torch.empty(0)
    for logits in pieces(model, ids, chunk, window, cache, keep=1):
        last = logits[-1]
    return last, cache


@torch.inference_mode()
def all_logits(model: Any, ids: torch.Tensor, chunk: int | None = None, window: int | None = None) -> torch.Tensor:
    """The logits after every token, [tokens, vocabulary]."""
    return torch.cat(list(pieces(model, ids, chunk, window, DynamicCache(), keep=0)))


def perplexity(logits: torch.Tensor, ids: torch.Tensor, skip: int = 0) -> float:
    """exp of the mean negative log-likelihood of the tokens of ids [1, tokens], the first `skip` + 1 left out."""
    loss = torch.nn.functional.cross_entropy(logits[skip:-1].float(), ids[0, skip + 1 :])
    return float(torch.exp(loss))


@torch.inference_mode()
def decode(
    model: Any, logits: torch.Tensor, cache: DynamicCache, position: int, new_tokens: int, window: int | None = None
) -> tuple[list[int], list[float]]:
    """(greedy tokens, seconds of each step) after a prefill of `position` tokens."""
    tokens, seconds = [int(logits.argmax())], []
    for step in range(new_tokens - 1):
        start = time.perf_counter()
        fed = torch.tensor([[tokens[-1]]], device=model.device)
        place = torch.tensor([[position + step]], device=model.device)
        said = model(input_ids=fed, position_ids=place, past_key_values=cache, use_cache=True)
        tokens.append(int(said.logits[0, -1].argmax()))  # reading the token waits for the device
        if window is not None:
            forget(cache, window)
        seconds.append(time.perf_counter() - start)
    return tokens, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hugging Face folder with its tokenizer")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--window", type=int, default=1024)
    asked = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(asked.model)
    model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32).eval()
    if torch.cuda.is_available():
        model = model.cuda()
    text = sized_text(tokenizer, asked.tokens, "What is 12 plus 30?\n42\nWhich is larger, 7 or 70?\n70\n")
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]], device=model.device)
    reference, _ = prefill(model, ids)
    for chunk, window in ((None, None), (asked.chunk, None), (asked.chunk, asked.window)):
        start = time.perf_counter()
        logits, cache = prefill(model, ids, chunk, window)
        seconds = time.perf_counter() - start
        stored = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        line = {
            "tokens": ids.shape[1], "chunk": chunk, "window": window, "ttft_s": round(seconds, 3),
            "max_logit_diff": float((logits - reference).abs().max()), "cache_mib": round(stored / 2**20, 2),
        }  # fmt: skip
        print(json.dumps(line))


if __name__ == "__main__":
    main()
