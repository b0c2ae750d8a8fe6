"""A vision-language model in this process, by transformers: the reference that servers are compared with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from tasks.models import device

MAX_TOKENS = 16


def answers(folder: Path, asked: Sequence[tuple[bytes, str]]) -> list[str]:
    """The greedy answer to each picture (PNG) and question, one by one; in bfloat16 on a GPU, as it is served there."""
    found = told(folder, asked)
    device.release()  # a server comes next
    return found


def told(folder: Path, asked: Sequence[tuple[bytes, str]]) -> list[str]:
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    dtype = torch.bfloat16 if device.name() == "cuda" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).to(device.name()).eval()
    processor, found = AutoProcessor.from_pretrained(folder), []
    for shown, question in asked:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        picture = Image.open(io.BytesIO(shown)).convert("RGB")
        given = processor(images=picture, text=text, return_tensors="pt").to(device.name())
        given.pop("token_type_ids", None)  # the decoder has no use for them
        with torch.inference_mode():
            made = model.generate(**given, max_new_tokens=MAX_TOKENS, do_sample=False)
        answer = made[0, given["input_ids"].shape[1] :]
        found.append(str(processor.tokenizer.decode(answer, skip_special_tokens=True)).strip())
    return found
