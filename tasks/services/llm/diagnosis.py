"""Why a language-model server did not come up, or went away: what its log says, the likely cause, what helps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.api import UserError

CAUSES = (  # what a log says, what it means, what helps; the first match wins
    (r"address already in use|\[Errno 98\]", "port", "another process took the port: run it again"),
    (
        r"out ?of ?memory|cannot allocate memory|bad_alloc|no available memory|kv cache is needed|free memory on device"
        r"|memory utilization"
        r"|insufficient (?:available )?memory|larger than the available",
        "memory",
        "shorten max_model_len, give the KV cache more room, or take a smaller or quantized model",
    ),
    (
        r"max_model_len|maximum number of tokens|max_position_embeddings",
        "length",
        "take a max_model_len that the model's positions and the KV cache allow",
    ),
    (r"safetensor", "weights", "copy the model's weights again: a file of them is damaged or incomplete"),
    (r"tokenizer", "tokenizer", "give the model's folder its tokenizer.json and tokenizer_config.json"),
    (
        r"\bdtype|bfloat16|float16|\bbf16|\bfp8|not supported for quantization|quantization method",
        "dtype",
        "take a precision that this device has: bfloat16 or float32",
    ),
)
KILLED = re.compile(r"exited with (?:-9|137) ")  # 128 + 9 is how a container tells it
KILLED_REMEDY = "it was killed: take a smaller model, a smaller cache or a larger machine"
TROUBLE = re.compile(r"error|exception|fatal|fail|cannot|memory|bad_alloc|not supported|too large", re.IGNORECASE)
HARMLESS = re.compile(r"\b(?:WARNING|INFO|DEBUG)\b")  # hints and settings that come at every start are no cause
ROOT_CAUSE = re.compile(
    r"^.*?\b((?:\w+\.)*\w*(?:Error|Exception|error): .*|Value error, .*)$"
)  # the last is pydantic's
AFTERMATH = ("Engine core initialization failed", "WorkerProc initialization failed", "EngineCore failed to start")


class LostServerError(UserError):
    """A server that is not there. `brief` is one line for a table; `cause` a word of `CAUSES`, "" when not known."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", brief: str = "", cause: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.brief, self.cause = brief or what, cause


class NotStartedError(LostServerError):
    """It did not come up."""


class DeadServerError(LostServerError):
    """Its process ended while it was asked."""


@dataclass(frozen=True)
class Finding:
    """What a log tells: its last error that is no aftermath (`said`), the likely cause, what helps; "" if unknown."""

    said: str = ""
    cause: str = ""
    remedy: str = ""

    def told(self, what: str) -> str:
        """`what` happened, with what was found."""
        more = [f"it says: {self.said}" if self.said else "", f"likely cause: {self.cause}" if self.cause else ""]
        return "\n".join([what, *filter(None, more)])

    def brief(self, what: str) -> str:
        """The same in one line."""
        more = [self.said, f"likely cause: {self.cause}" if self.cause else ""]
        return "; ".join([what, *filter(None, more)])


def find(log: Path, what: str, since: int = 0) -> Finding:
    """The cause in a log from the byte `since` on. `what` says how the process ended."""
    if KILLED.search(what):
        return Finding("", "memory", KILLED_REMEDY)
    text = log.read_bytes()[since:].decode(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if TROUBLE.search(line) and not HARMLESS.search(line)]
    roots = [root[1] for line in lines if (root := ROOT_CAUSE.match(line))]
    roots = [line for line in roots if not any(words in line for words in AFTERMATH)]
    said = roots[-1] if roots else ""
    known = (found for found in CAUSES if re.search(found[0], said or "\n".join(lines), re.IGNORECASE))
    _, cause, remedy = next(known, ("", "", ""))
    return Finding(said, cause, remedy)
