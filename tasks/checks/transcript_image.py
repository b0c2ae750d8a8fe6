"""The picture of a terminal: drawn, pixel for pixel, from a transcript that an experiment stored."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.api import Verdict
from tasks.documents import transcript


class Params(api.Params):
    """`command` are words of the command; `answers` are the outputs of which one must stand there.

    `gpu_answer` is the one of them that only a container with a GPU may give; `gpu_option` how it gets one.
    """

    command: list[str] = Field(default_factory=list)
    answers: list[str] = Field(default_factory=list)
    gpu_answer: str = ""
    gpu_option: str = "--gpus"


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="matplotlib", memory_gb=0.3)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    """Decodes the file, looks its transcript up among the stored ones, and draws that one again."""
    import numpy

    if not file.is_file() or not file.stat().st_size:
        return Verdict(False, f"{file.name} is missing or empty")
    try:
        picture = transcript.read(file.read_bytes())
        kept = dict(transcript.stored(work.records))
    except (api.UserError, ValueError) as error:
        return Verdict(False, str(error))
    said = picture.transcript
    source = next((path for path, one in kept.items() if one == said), None)
    if source is None:
        return Verdict(False, f"no record holds the transcript that the picture carries ({len(kept)} looked at)")
    again = transcript.read(transcript.render(said))
    if not numpy.array_equal(picture.pixels, again.pixels):
        other = f"; it was drawn by {picture.software}, here is {again.software}"
        hint = other if picture.software != again.software else ""
        return Verdict(False, f"the pixels are not those of the transcript {source.name}{hint}")
    fault = wrong(said, params)
    evidence = {"transcript": source.name, "output": said.output[:400], "exit_code": said.exit_code}
    shown = said.output.strip().splitlines()[-1:] or [""]
    return Verdict(not fault, fault or f"shows “{shown[0]}”, as {source.name} of {source.parent.name} has it", evidence)


def wrong(said: transcript.Transcript, params: Params) -> str:
    """What the transcript should say and does not; empty when all is well."""
    command = " ".join(said.argv)
    if lost := [word for word in params.command if word not in command]:
        return f"the command lacks {', '.join(lost)}: {command}"
    if said.exit_code:
        return f"the command failed with exit code {said.exit_code}"
    if params.answers and not any(answer in said.output for answer in params.answers):
        return f"the output says none of {', '.join(params.answers)}"
    on_gpu = bool(said.gpus) and any(word.startswith(params.gpu_option) for word in said.argv)
    if params.gpu_answer and params.gpu_answer in said.output and not on_gpu:
        return f"“{params.gpu_answer}” can only come from a container with a GPU ({params.gpu_option})"
    return ""
