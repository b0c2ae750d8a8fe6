"""Ask a model on Triton for the digits in some images, over HTTP or gRPC, with or without a Redis cache in front.

    python client_infer.py --protocol http --url 127.0.0.1:8000 --model digits_onnx
    python client_infer.py --protocol grpc --url 127.0.0.1:8001 --model digits_onnx --input x.npy --output logits.npy
    python client_infer.py --protocol grpc --url 127.0.0.1:8001 --model digits_onnx --redis redis://127.0.0.1:6379/0

Images are float32 [n, 1, 28, 28] with grey values in [0, 1]; without --input four random ones. It ends with 1 when
the server refuses the request (a model that it does not have, a wrong shape) or cannot be reached.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import sys

import numpy as np
from tritonclient.utils import InferenceServerException

INPUT, OUTPUT = "input", "logits"
TIMEOUT_S = 30.0


class Client:
    """One model of one Triton server. Both protocols have the same calls; only the module differs."""

    def __init__(
        self, protocol: str, url: str, model: str, *, redis_url: str | None = None, ttl_s: float = 60.0
    ) -> None:
        self.triton = importlib.import_module(f"tritonclient.{protocol}")
        limit = {"network_timeout": TIMEOUT_S} if protocol == "http" else {}
        self.server = self.triton.InferenceServerClient(url, **limit)
        self.limit = {} if protocol == "http" else {"client_timeout": TIMEOUT_S}
        self.model, self.ttl_ms = model, int(ttl_s * 1000)
        self.redis = importlib.import_module("redis").Redis.from_url(redis_url) if redis_url else None

    def infer(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 [n, 10] of `images`; from Redis when the same images were asked before."""
        if self.redis is None:
            return self.ask(images)
        key = f"{self.model}:{images.shape}:{hashlib.blake2b(images.tobytes(), digest_size=16).hexdigest()}"
        if (kept := self.redis.get(key)) is not None:
            return np.load(io.BytesIO(kept), allow_pickle=False)
        logits, file = self.ask(images), io.BytesIO()
        np.save(file, logits, allow_pickle=False)
        self.redis.set(key, file.getvalue(), px=self.ttl_ms)
        return logits

    def ask(self, images: np.ndarray) -> np.ndarray:
        """Ask Triton itself."""
        tensor = self.triton.InferInput(INPUT, list(images.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(images, np.float32))
        logits: np.ndarray = self.server.infer(self.model, [tensor], **self.limit).as_numpy(OUTPUT)
        return logits

    def close(self) -> None:
        self.server.close()
        if self.redis is not None:
            self.redis.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Which digits are these? Ask a model on Triton.")
    parser.add_argument("--protocol", choices=["http", "grpc"], default="http")
    parser.add_argument("--url", default="127.0.0.1:8000", help="address without http://; gRPC listens on 8001")
    parser.add_argument("--model", default="digits_onnx")
    parser.add_argument("--input", help=".npy with float32 [n, 1, 28, 28]")
    parser.add_argument("--output", help=".npy for the logits [n, 10]")
    parser.add_argument("--redis", help="redis://… of a cache that is asked first")
    options = parser.parse_args()
    images = np.load(options.input) if options.input else np.random.default_rng().random((4, 1, 28, 28), np.float32)
    client = Client(options.protocol, options.url, options.model, redis_url=options.redis)
    try:
        logits = client.infer(images)
    except (InferenceServerException, OSError) as error:
        print(f"client_infer: {options.model} at {options.url}: {error}", file=sys.stderr)
        return 1
    finally:
        client.close()
    if options.output:
        np.save(options.output, logits)
    print("digits:", *logits.argmax(axis=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
