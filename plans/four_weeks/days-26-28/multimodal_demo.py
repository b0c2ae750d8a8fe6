"""Text to picture and picture to text behind one small HTTP service, and a client that shows both.

    python multimodal_demo.py serve --painter DIR --reader DIR            # both models in this process
    python multimodal_demo.py serve --painter DIR --reader http://127.0.0.1:8000   # captions from vLLM
    python multimodal_demo.py show --at http://127.0.0.1:8090 --out sheet.png "a red circle" "a blue cross"

The painter is the folder of a StableDiffusionPipeline, the reader that of a LLaVA (or another image-text-to-text
model), or the address of an OpenAI-compatible server that serves one. Either may be left out.

    GET  /health                                     -> {"painter": true, "reader": true}
    POST /pictures  {"prompt", "seed", "steps"}       -> image/png
    POST /captions?question=...  (the picture's bytes) -> {"text": "a red circle"}
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from fastapi import Body, FastAPI, HTTPException, Response
from pydantic import BaseModel, Field

QUESTION = "describe the picture"
MAX_TOKENS = 16
CELL, CAPTION = 160, 30  # pixels of a picture on the contact sheet, and of the text below it
GUIDANCE = 4.0


class Painter:
    """A StableDiffusionPipeline; one picture at a time."""

    def __init__(self, folder: str) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float16 if self.device == "cuda" else torch.float32
        pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype, safety_checker=None)
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.lock = threading.Lock()

    def paint(self, prompt: str, seed: int, steps: int) -> bytes:
        """A PNG. The same prompt, seed and steps give the same picture."""
        import torch

        dice = torch.Generator().manual_seed(seed)
        with self.lock:
            made = self.pipeline(prompt, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=dice)
        return png(made.images[0])


class LocalReader:
    """An image-text-to-text model of transformers; one question at a time, greedy."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).to(self.device).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.lock = threading.Lock()

    def read(self, picture: bytes, question: str) -> str:
        import torch

        content = [{"type": "image"}, {"type": "text", "text": question}]
        asked = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        given = self.processor(images=opened(picture), text=asked, return_tensors="pt")
        given.pop("token_type_ids", None)  # the decoder has no use for them
        with self.lock, torch.inference_mode():
            told = self.model.generate(**given.to(self.device), max_new_tokens=MAX_TOKENS, do_sample=False)
        answer = told[0, given["input_ids"].shape[1] :]
        return str(self.processor.tokenizer.decode(answer, skip_special_tokens=True)).strip()


class RemoteReader:
    """A model behind an OpenAI-compatible server, such as vLLM."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.model = json.loads(called(f"{self.address}/v1/models"))["data"][0]["id"]

    def read(self, picture: bytes, question: str) -> str:
        url = "data:image/png;base64," + base64.b64encode(png(opened(picture))).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
        wanted = {"model": self.model, "max_tokens": MAX_TOKENS, "temperature": 0}
        body = json.dumps({**wanted, "messages": [{"role": "user", "content": content}]}).encode()
        answer = json.loads(called(f"{self.address}/v1/chat/completions", body, "application/json"))
        return str(answer["choices"][0]["message"]["content"]).strip()


def opened(picture: bytes):
    """The picture as RGB; ValueError when the bytes are none."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(picture)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"not a picture: {error}") from error


def png(image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


class Wish(BaseModel):
    prompt: str = Field(min_length=1, max_length=300)
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(default=20, ge=1, le=100)


def application(painter: Painter | None, reader: LocalReader | RemoteReader | None) -> FastAPI:
    """The HTTP service.

    400 for bytes that are no picture, 422 for a malformed request, 502 when the server behind refuses, 503 for a
    part that is not loaded.
    """
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"painter": painter is not None, "reader": reader is not None}

    @app.post("/pictures")
    def paint(wish: Wish) -> Response:
        if painter is None:
            raise HTTPException(503, "the service was started without --painter")
        return Response(painter.paint(wish.prompt, wish.seed, wish.steps), media_type="image/png")

    @app.post("/captions")
    def caption(picture: bytes = Body(media_type="image/png"), question: str = QUESTION) -> dict[str, str]:
        if reader is None:
            raise HTTPException(503, "the service was started without --reader")
        try:
            return {"text": reader.read(picture, question)}
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        except RefusedError as error:
            raise HTTPException(502, str(error)) from error

    return app


def serve(options: argparse.Namespace) -> int:
    """Load what was asked for, then say on stdout where the service answers (one JSON line), and answer."""
    import uvicorn

    painter = Painter(options.painter) if options.painter else None
    reader = None
    if options.reader:
        reader = RemoteReader(options.reader) if "://" in options.reader else LocalReader(options.reader)
    config = uvicorn.Config(application(painter, reader), log_level="warning")
    with socket.create_server((options.host, options.port)) as listening:
        host, port = listening.getsockname()[:2]
        print(json.dumps({"address": f"http://{host}:{port}"}), flush=True)
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def show(options: argparse.Namespace) -> int:
    """Paint every prompt, have every picture described, and put both on a contact sheet."""
    cells = []
    for seed, prompt in enumerate(options.prompts):
        began = time.perf_counter()
        wish = json.dumps({"prompt": prompt, "seed": seed, "steps": options.steps}).encode()
        picture = called(f"{options.at}/pictures", wish, "application/json")
        painted = time.perf_counter()
        asked = urllib.parse.urlencode({"question": options.question})
        told = json.loads(called(f"{options.at}/captions?{asked}", picture, "image/png"))["text"]
        times = {"paint_ms": (painted - began) * 1e3, "caption_ms": (time.perf_counter() - painted) * 1e3}
        print(json.dumps({"prompt": prompt, "caption": told, "same": told == prompt, **times}), flush=True)
        cells.append((picture, prompt, told))
    if options.out:
        sheet(cells).save(options.out)
    return 0


def sheet(cells):
    """A picture of all pictures, each above its prompt and what was read in it."""
    from PIL import Image, ImageDraw

    columns = min(4, len(cells))
    rows = -(-len(cells) // columns)
    large = Image.new("RGB", (columns * (CELL + 8) + 8, rows * (CELL + CAPTION + 8) + 8), "white")
    pen = ImageDraw.Draw(large)
    for index, (picture, prompt, told) in enumerate(cells):
        x, y = 8 + index % columns * (CELL + 8), 8 + index // columns * (CELL + CAPTION + 8)
        large.paste(opened(picture).resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + CELL + 2), prompt, fill="black")
        pen.text((x, y + CELL + 14), told, fill="darkgreen" if told == prompt else "firebrick")
    return large


class RefusedError(Exception):
    """A server that refuses, in its own words, or does not answer."""


def called(url: str, body: bytes | None = None, kind: str = "") -> bytes:
    """The body of an HTTP answer. Raises RefusedError."""
    request = urllib.request.Request(url, body, {"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise RefusedError(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:300]}") from error
    except OSError as error:
        raise RefusedError(f"{url} does not answer: {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving = verbs.add_parser("serve")
    serving.add_argument("--painter", default="")
    serving.add_argument("--reader", default="")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=8090)
    showing = verbs.add_parser("show")
    showing.add_argument("prompts", nargs="+")
    showing.add_argument("--at", default="http://127.0.0.1:8090")
    showing.add_argument("--out", default="")
    showing.add_argument("--steps", type=int, default=20)
    showing.add_argument("--question", default=QUESTION)
    options = parser.parse_args()
    try:
        return serve(options) if options.verb == "serve" else show(options)
    except RefusedError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
