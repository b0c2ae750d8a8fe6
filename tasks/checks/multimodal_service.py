"""Proves a multimodal service by its answers: the same pictures and captions as its two models give by themselves.

The models are tiny ones with random weights, new for every check: nothing can be known in advance, and nothing is
trained. Then the service must refuse what is no picture and no prompt, and go on answering.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.models import device, diffusion, diffusion_parts, judge, reading, scenes, vlm, vlm_files
from tasks.services import multimodal
from tasks.services.multimodal import Service

STEPS = 2
TOLERANCE = 3  # of 255: the same arithmetic in another process
TRIES = 20  # seeds, until the random reader says different things of different pictures
LOUD = 8.0  # random weights so much larger make answers depend on what is seen


class Params(api.Params):
    pass


class Broken(Exception):
    """What the service did wrong."""


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="transformers and diffusers", environment="training", memory_gb=3)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    """Make both models, start `file` with them, compare its answers with theirs, stop it."""
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, "there is nothing in it")
    try:
        compile(file.read_bytes(), file.name, "exec")
    except (SyntaxError, ValueError) as error:
        return Verdict(False, f"it is not Python: {error}")
    painter, reader = work.scratch / "painter", work.scratch / "reader"
    seed = random.SystemRandom().randrange(2**31)
    captions = new_reader(reader, seed)
    pictures = new_painter(painter, seed)
    try:
        with multimodal.serve(file, work.scratch, painter=painter, reader=reader, timeout_s=240) as service:
            described(service, captions)
            painted(service, pictures)
            refusing(service)
            described(service, captions[:1])
    except (Broken, api.UserError) as error:
        return Verdict(False, str(error))
    return Verdict(
        True, f"{len(captions)} captions and {len(pictures)} pictures are the models' own; bad input is refused"
    )


def new_reader(folder: Path, seed: int) -> list[tuple[bytes, str, str]]:
    """A LLaVA of random weights in `folder`; pictures, questions and its own answers, which differ."""
    import torch

    shown = [as_png(example.picture) for example in scenes.held_out(3, seed)]
    for attempt in range(TRIES):
        torch.manual_seed(seed + attempt)
        model = vlm.build(vlm.Shape())
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(LOUD if weight.dim() > 1 else 1.0)
        vlm_files.write(folder, model.eval(), vlm.Shape().patch)
        told = reading.answers(folder, [(picture, vlm_files.DESCRIBE) for picture in shown])
        if len(set(told)) == len(told) and all(told):
            break
    return [(picture, vlm_files.DESCRIBE, text) for picture, text in zip(shown, told, strict=True)]


def new_painter(folder: Path, seed: int) -> list[tuple[str, int, Any]]:
    """A Stable Diffusion of random weights in `folder`; prompts, seeds and its own pictures."""
    import torch

    torch.manual_seed(seed)
    shape = diffusion_parts.Shape()
    parts = (diffusion_parts.text_encoder(shape), diffusion_parts.vae(shape), diffusion_parts.unet(shape))
    diffusion_parts.pipeline(*parts).save_pretrained(folder)
    pipeline = diffusion.load(folder, device.name())  # where the service paints, and in its precision
    found = []
    for number, prompt in ((seed % 1000, judge.PROMPTS[2]), (seed % 1000 + 1, judge.PROMPTS[9])):
        dice = torch.Generator().manual_seed(number)
        made = pipeline(prompt, num_inference_steps=STEPS, guidance_scale=diffusion.GUIDANCE, generator=dice)
        found.append((prompt, number, made.images[0]))
    return found


def as_png(picture: Any) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def described(service: Service, captions: list[tuple[bytes, str, str]]) -> None:
    for picture, question, wanted in captions:
        told = service.caption(picture, question)
        if told != wanted:
            raise Broken(f"/captions says {told!r}, the model itself {wanted!r}")


def painted(service: Service, pictures: list[tuple[str, int, Any]]) -> None:
    """The same seed must give the model's own picture, another seed another one."""
    import numpy
    from PIL import Image, UnidentifiedImageError

    for prompt, seed, wanted in pictures:
        try:
            found = Image.open(io.BytesIO(service.paint(prompt, seed, STEPS)), formats=["PNG"]).convert("RGB")
        except UnidentifiedImageError:
            raise Broken("/pictures does not answer with a PNG") from None
        if found.size != wanted.size:
            raise Broken(f"/pictures answers with {found.size} pixels, the model itself paints {wanted.size}")
        apart = int(numpy.abs(numpy.asarray(found, int) - numpy.asarray(wanted, int)).max())
        if apart > TOLERANCE:
            raise Broken(f"/pictures paints {prompt!r} with seed {seed} otherwise than the model (by {apart} of 255)")
    prompt, seed, _ = pictures[0]
    if service.paint(prompt, seed, STEPS) == service.paint(prompt, seed + 7, STEPS):
        raise Broken("/pictures paints the same with another seed")


def refusing(service: Service) -> None:
    """Bad input is the client's fault: a status of 400 to 499, and never a picture or a caption."""
    wrong = {
        "bytes that are no picture": ("/captions", b"not a picture", "image/png"),
        "no bytes at all": ("/captions", b"", "image/png"),
        "a request without a prompt": ("/pictures", b'{"seed": 1}', "application/json"),
        "minus one step": ("/pictures", b'{"prompt": "a red circle", "steps": -1}', "application/json"),
    }
    for what, (path, body, kind) in wrong.items():
        status, _ = service.tried(path, body, kind)
        if not 400 <= status < 500:
            raise Broken(f"{path} answers {what} with {status}, expected a refusal (400 to 499)")
