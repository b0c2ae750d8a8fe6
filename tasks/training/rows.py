"""A learner's own question-and-answer rows: JSON Lines, read strictly, every broken line named, split by seed.

A row is `{"question": …, "answer": …}` (optionally with `system` and `topic`) or, in the shape of chat data,
`{"messages": [{"role": …, "content": …}, …]}` that ends with the assistant's turn.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator

from tasks.api import UserError

SHOWN = 10  # faults told at once
FORM = 'each line is {"question": "…", "answer": "…"} or {"messages": [{"role": "user", "content": "…"}, …]}'
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Message = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Turn(Strict):
    role: Literal["system", "user", "assistant"]
    content: Text


class Pair(Strict):
    question: Text
    answer: Text
    system: Text | None = None
    topic: Text | None = None


class Chat(Strict):
    """Turns in order: an optional system turn, then user and assistant in turn, the assistant last."""

    messages: list[Turn]
    topic: Text | None = None

    @model_validator(mode="after")
    def alternates(self) -> Chat:
        said = [turn.role for turn in self.messages]
        dialogue = said[1:] if said[:1] == ["system"] else said
        if len(dialogue) < 2 or len(dialogue) % 2 or dialogue != ["user", "assistant"] * (len(dialogue) // 2):
            raise ValueError(f"the roles are {', '.join(said) or 'none'}; user and assistant must take turns")
        return self


PAIR, CHAT = TypeAdapter(Pair), TypeAdapter(Chat)


@dataclass(frozen=True)
class Row:
    """`prompt` is what the model is given, as chat messages; `answer` what it must say; `line` is 1-based."""

    line: int
    prompt: tuple[Message, ...]
    answer: str
    topic: str | None = None

    @property
    def question(self) -> str:
        return self.prompt[-1]["content"]


@dataclass(frozen=True)
class Split:
    train: list[Row]
    held_out: list[Row]


def read(path: Path) -> list[Row]:
    """All rows of the file. UserError that names every broken line (the first ten) when there is one."""
    if not path.is_file():
        raise UserError(f"there is no {path.name}", where=str(path), remedy=FORM)
    rows, faults = examined(path.read_bytes())
    if faults:
        more = f"\n… and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        told = "\n".join(f"{path.name}:{line}: {fault}" for line, fault in faults[:SHOWN])
        raise UserError(f"{len(faults)} broken rows:\n{told}{more}", where=str(path), remedy=FORM)
    if not rows:
        raise UserError("the file has no rows", where=str(path), remedy=FORM)
    return rows


def examined(data: bytes) -> tuple[list[Row], list[tuple[int, str]]]:
    """The sound rows, and (line, fault) of each other: not JSON, a wrong field, a question that was there before."""
    rows, faults = [], []
    seen: dict[tuple[str, ...], int] = {}
    for line, text in lines(data):
        try:
            row = parsed(line, text)
        except ValueError as error:
            faults.append((line, said(error)))
            continue
        key = tuple(plain(turn["content"]) for turn in row.prompt)
        if key in seen:
            faults.append((line, f"the same question as in line {seen[key]}"))
            continue
        seen[key] = line
        rows.append(row)
    return rows, faults


def lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The non-blank lines with their numbers; a byte order mark, as some editors write it, is passed over."""
    for number, text in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if text.strip():
            yield number, text


def parsed(line: int, text: bytes) -> Row:
    """One row; ValueError (pydantic's among them) when it is none."""
    text.decode("utf-8")  # pydantic's own message for bytes that are not UTF-8 names no position
    if b'"messages"' in text:
        chat = CHAT.validate_json(text)
        *prompt, last = [turn.model_dump() for turn in chat.messages]
        return Row(line, tuple(prompt), last["content"], chat.topic)
    pair = PAIR.validate_json(text)
    system = [{"role": "system", "content": pair.system}] if pair.system else []
    return Row(line, (*system, {"role": "user", "content": pair.question}), pair.answer, pair.topic)


def said(error: ValueError) -> str:
    """What is wrong with a row, in one line."""
    if not isinstance(error, ValidationError):
        return f"is not UTF-8: {error}"
    told = "; ".join(f"{place(fault['loc'])}{fault['msg']}" for fault in error.errors()[:3])
    return told.replace(" at line 1 column ", " at column ")  # line 1 of the row: the file's line stands before it


def place(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location)) + ": " if location else ""


def plain(text: str) -> str:
    """What differs only in case, spacing or the closing mark is one question: it would leak into the other part."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().rstrip(" .?!。").split())


def split(rows: Sequence[Row], held_out_pct: int, seed: int) -> Split:
    """A random split, the same for the same seed; both parts keep the file's order."""
    if len(rows) < 10:
        raise UserError(f"{len(rows)} rows are too few to hold some out", remedy="write at least 10 rows, better 200")
    chosen = set(random.Random(seed).sample(range(len(rows)), max(1, len(rows) * held_out_pct // 100)))
    return Split(
        [row for n, row in enumerate(rows) if n not in chosen], [row for n, row in enumerate(rows) if n in chosen]
    )


def conversations(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows in trl's conversational prompt-completion form: the loss is taken on the completion only."""
    return [{"prompt": list(row.prompt), "completion": [{"role": "assistant", "content": row.answer}]} for row in rows]
