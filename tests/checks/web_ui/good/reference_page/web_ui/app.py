"""A chat page in front of a vLLM (or any OpenAI-compatible) service: FastAPI, answers streamed as they are made.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 MODEL=my-model uvicorn app:app --port 8080

Then open http://127.0.0.1:8080. DESIGN chooses how answers are fetched, so that the three can be compared:
blocking (a synchronous call inside the event loop: one user at a time), concurrent (asynchronous, the answer comes
whole) and streaming (asynchronous, piece by piece: the default).

POST /api/chat {"messages": [{"role": "user", "content": "…"}]} answers with server-sent events: {"text": "…"} for
each piece, then {"done": true}; {"error": "…"} when the model cannot be reached.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from openai import AsyncOpenAI, OpenAI, OpenAIError
from pydantic import BaseModel, Field

PAGE = Path(__file__).with_name("index.html")
MODEL = os.environ.get("MODEL", "model")
DESIGN = "streaming"
UPSTREAM = {
    "base_url": os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    "api_key": os.environ.get("OPENAI_API_KEY", "none"), "max_retries": 0, "timeout": 120.0,
}  # fmt: skip


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=8000)


class Chat(BaseModel):
    messages: list[Message] = Field(min_length=1, max_length=40)
    max_tokens: int = Field(default=64, ge=1, le=2048)


app = FastAPI(title="chat")
later, at_once = AsyncOpenAI(**UPSTREAM), OpenAI(**UPSTREAM)


@app.get("/")
def page() -> FileResponse:
    return FileResponse(PAGE)


@app.get("/healthz")
def healthy() -> dict[str, str]:
    return {"status": "ok", "model": MODEL, "design": DESIGN}


@app.post("/api/chat")
async def chat(asked: Chat) -> StreamingResponse:
    return StreamingResponse(events(asked), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def events(asked: Chat) -> AsyncIterator[str]:
    """The answer as server-sent events. The status line is long gone when the model fails: an event tells it."""
    try:
        async for text in pieces(asked):
            yield event({"text": text})
        yield event({"done": True})
    except OpenAIError as error:
        yield event({"error": f"the model did not answer: {error}"})


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def pieces(asked: Chat) -> AsyncIterator[str]:
    request: dict[str, Any] = {
        "model": MODEL, "messages": [message.model_dump() for message in asked.messages],
        "max_tokens": asked.max_tokens, "temperature": 0,
    }  # fmt: skip
    if DESIGN == "blocking":
        yield at_once.chat.completions.create(**request).choices[0].message.content or ""
    elif DESIGN == "concurrent":
        yield (await later.chat.completions.create(**request)).choices[0].message.content or ""
    else:
        async for chunk in await later.chat.completions.create(**request, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
