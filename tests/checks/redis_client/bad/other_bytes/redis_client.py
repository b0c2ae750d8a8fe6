"""A hit gives the answer rounded to four digits: close, and not the same bytes."""

import hashlib

import numpy as np
import redis.asyncio as redis
import tritonclient.grpc.aio as triton


class CachedTriton:
    def __init__(self, triton_address, redis_url, *, model, ttl_s=60.0, **others):
        self.model, self.ttl_s = model, ttl_s
        self.triton = triton.InferenceServerClient(triton_address)
        self.redis = redis.Redis.from_url(redis_url)

    async def infer(self, x):
        key = hashlib.sha256(self.model.encode() + x.tobytes()).hexdigest()
        try:
            kept = await self.redis.get(key)
        except redis.RedisError:
            kept = None
        if kept is not None:
            return np.frombuffer(kept, np.float32)
        tensor = triton.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answer = (await self.triton.infer(self.model, [tensor])).as_numpy("y")
        try:
            await self.redis.set(key, answer.round(4).tobytes(), px=int(self.ttl_s * 1000))
        except redis.RedisError:
            pass
        return answer

    async def close(self):
        await self.triton.close()
        await self.redis.aclose()
