"""A vision-language model behind vLLM: how it is served here, and how a picture is put to it."""

from __future__ import annotations

import base64
from pathlib import Path

from tasks.models import device, reading
from tasks.multimodal.exam import Asked
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint

PILLOW = Path(__file__).parent / "pillow"  # see the module in it
TINY_LENGTH, LENGTH = 256, 4096  # tokens of a conversation
TINY_KV_GB = 0.25
READY_S = 600.0  # 30 s on a quiet CPU, minutes on a busy one


def options(tiny: bool, python: Path | None = None) -> vllm.Options:
    """Full precision on a CPU, so that answers can be compared with transformers'; bfloat16 on a GPU."""
    gpu = device.name() == "cuda"
    return vllm.Options(
        max_model_len=TINY_LENGTH if tiny else LENGTH, kv_gb=TINY_KV_GB if tiny else None, python=python,
        dtype="bfloat16" if gpu else "float32", max_num_seqs=16, gpu=gpu, name="vlm", paths=(PILLOW,),
        extra=("--limit-mm-per-prompt", '{"image": 1}'),
    )  # fmt: skip


def told(endpoint: Endpoint, asked: Asked) -> str:
    """The answer of an OpenAI-compatible server to a question about a picture."""
    url = "data:image/png;base64," + base64.b64encode(asked.picture).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": asked.prompt}]
    return client.chat(endpoint, [{"role": "user", "content": content}], reading.MAX_TOKENS).text.strip()
