"""A get-through cache in front of Triton: ask Redis first, ask Triton on a miss, keep the answer for the next one.

    client = CachedTriton("127.0.0.1:8001", "redis://127.0.0.1:6379/0", model="answers", ttl_s=10)
    y = await client.infer(x)     # miss: Triton computes it, Redis keeps it
    y = await client.infer(x)     # hit: the same bytes, Triton is not asked
    await client.publish(2)       # tell the cache that version 2 of the model is live
    await client.close()

The cache is an optimisation, never a dependency: when Redis is away or answers nonsense, Triton answers.
Try it:  python redis_client.py --triton 127.0.0.1:8001 --redis redis://127.0.0.1:6379/0 --model answers
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import time
from typing import Literal

import numpy as np
import redis.asyncio as redis
import tritonclient.grpc.aio as triton
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

Invalidation = Literal["none", "ttl", "delete_on_update", "versioned_key"]


class CachedTriton:
    """One model of one Triton (gRPC address), cached in Redis (`redis_url`; None: no cache at all).

    What becomes of an entry when the model is updated is the `invalidation` policy:
      none              nothing: entries live for ever
      ttl               nothing: entries live for `ttl_s` seconds, and so does a stale answer
      delete_on_update  `publish` deletes the model's entries; a slow writer can still put an old answer back
      versioned_key     the key holds the live version, which `publish` moves; old entries are never read again
    Every policy but `none` also lets entries expire after `ttl_s`: it bounds whatever the policy overlooked.
    """

    def __init__(
        self,
        triton_address: str,
        redis_url: str | None,
        *,
        model: str,
        ttl_s: float = 60.0,
        invalidation: Invalidation = "ttl",
        connections: int = 64,
        timeout_s: float = 1.0,
    ) -> None:
        self.model, self.invalidation = model, invalidation
        self.ttl_ms = None if invalidation == "none" else int(ttl_s * 1000)
        self.triton = triton.InferenceServerClient(triton_address)
        self.redis = redis_url and redis.Redis.from_pool(
            redis.BlockingConnectionPool.from_url(
                redis_url,
                max_connections=connections,
                timeout=timeout_s,  # waiting for a free connection
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # a cache that has to be retried is slower than the model
                driver_info=None,  # else redis-py looks its own version up for each connection: 4 ms
            )
        )

    async def infer(self, x: np.ndarray) -> np.ndarray:
        """The model's answer to `x`, from the cache when it is there."""
        version = await self.live_version()
        key = self.key(x, version)
        answer = await self.read(key)
        if answer is None:
            answer = await self.ask_triton(x, version)
            await self.write(key, answer)
        return answer

    async def publish(self, version: int) -> None:
        """Say that `version` is live. Call it after Triton has loaded that version, never before."""
        if self.redis and self.invalidation == "delete_on_update":
            stale = [key async for key in self.redis.scan_iter(f"cache:{self.model}:*", count=1000)]
            if stale:
                await self.redis.unlink(*stale)
        elif self.redis and self.invalidation == "versioned_key":
            await self.redis.set(f"version:{self.model}", version)

    async def close(self) -> None:
        await self.triton.close()
        if self.redis:
            await self.redis.aclose()
            await self.redis.connection_pool.disconnect()

    def key(self, x: np.ndarray, version: str) -> str:
        """Equal keys mean equal answers: model, version, and every byte of the input with its shape and type."""
        digest = hashlib.blake2b(f"{x.dtype.str}{x.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(x))
        return f"cache:{self.model}:{version or 'latest'}:{digest.hexdigest()}"

    async def live_version(self) -> str:
        """The published version; "" (Triton's newest) before the first `publish` and for the other policies."""
        if not self.redis or self.invalidation != "versioned_key":
            return ""
        try:
            return (await self.redis.get(f"version:{self.model}") or b"").decode()
        except redis.RedisError:
            return ""

    async def read(self, key: str) -> np.ndarray | None:
        try:
            kept = await self.redis.get(key) if self.redis else None
            return None if kept is None else np.load(io.BytesIO(kept), allow_pickle=False)
        except (redis.RedisError, ValueError, EOFError):  # Redis is away, or the entry is damaged: a miss
            return None

    async def write(self, key: str, answer: np.ndarray) -> None:
        """Keep the answer. Value and expiry go in one command: an entry without its expiry would stay for ever."""
        file = io.BytesIO()
        np.save(file, answer, allow_pickle=False)
        try:
            if self.redis:
                await self.redis.set(key, file.getvalue(), px=self.ttl_ms)
        except redis.RedisError:
            pass  # not kept: the next request asks Triton again

    async def ask_triton(self, x: np.ndarray, version: str) -> np.ndarray:
        """Ask exactly `version`, so that an answer can never be kept under another version's key."""
        tensor = triton.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        result = await self.triton.infer(self.model, [tensor], model_version=version)
        answer: np.ndarray = result.as_numpy("y")
        return answer


async def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the same question twice: the second answer is cached.")
    parser.add_argument("--triton", default="127.0.0.1:8001")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--model", default="answers")
    parser.add_argument("--width", type=int, default=2048)
    options = parser.parse_args()
    client = CachedTriton(options.triton, options.redis, model=options.model)
    x = np.random.default_rng().standard_normal(options.width, np.float32)
    for attempt in ("first", "second"):
        start = time.perf_counter()
        y = await client.infer(x)
        print(f"{attempt}: {(time.perf_counter() - start) * 1000:.2f} ms, {y.nbytes} bytes, y[0] = {y[0]:.4f}")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
