"""Triton's model configurations as text: parsed as `ModelConfig`, several in one file, changed for an experiment.

Several models in one file: each one's part begins with a line `# === <model name> ===` and is a ModelConfig of its
own (a `config.pbtxt`); the header is a comment, so a part may be copied into a model's folder as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks.api import UserError

HEADER = re.compile(r"^# === (\S+) ===[ \t]*$", re.MULTILINE)


def read(file: Path) -> str:
    """The text of a configuration file; UserError when it is missing, empty or not UTF-8."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=file.name) from error
    if not text.strip():
        raise UserError("is empty", where=file.name)
    return text


def parse(text: str, where: str, first_line: int = 1) -> Any:
    """The ModelConfig message of `text`. UserError with file:line:column on a syntax error or an unknown field.

    `first_line` is the line of the file on which `text` begins.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        line = (error.GetLine() or 1) + first_line - 1
        what = re.sub(r"^\d+:\d+ : ", "", str(error))
        raise UserError(f"not a ModelConfig: {what}", where=f"{where}:{line}:{error.GetColumn() or 1}") from error


def parse_sections(file: Path) -> dict[str, Any]:
    """The ModelConfigs of a file with several models, by name, in the file's order."""
    text = read(file)
    headers = list(HEADER.finditer(text))
    if not headers:
        raise UserError(
            "no model: each model's part begins with a line `# === <model name> ===`", where=f"{file.name}:1"
        )
    models: dict[str, Any] = {}
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name, line = header[1], line_of(text, header.start())
        if name in models:
            raise UserError(f"model {name} is there twice", where=f"{file.name}:{line}")
        part = text[header.end() : following.start() if following else len(text)]
        model = parse(part, file.name, line)
        if model.name not in ("", name):
            raise UserError(f'the part of {name} says name: "{model.name}"', where=f"{file.name}:{line}")
        model.name = name
        models[name] = model
    return models


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def find_line(text: str, pattern: str) -> int:
    """The line of the first match of a regular expression; 1 when there is none."""
    match = re.search(pattern, text)
    return line_of(text, match.start()) if match else 1


def to_text(model: Any) -> str:
    """The config.pbtxt of a ModelConfig message."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(model))


def changed(model: Any, change: Callable[[Any], None]) -> Any:
    """A changed copy of a ModelConfig message."""
    copy = type(model)()
    copy.CopyFrom(model)
    change(copy)
    return copy


def placed(model: Any, device: str) -> Any:
    """The model with its KIND_AUTO instance groups put on `cpu` or `gpu`; explicit kinds stay as they are."""

    def place(config: Any) -> None:
        for group in config.instance_group:
            if group.kind == group.KIND_AUTO:
                group.kind = group.KIND_GPU if device == "gpu" else group.KIND_CPU

    return changed(model, place)


def with_instances(model: Any, count: int) -> Any:
    """The model with `count` instances in each of its instance groups."""

    def scale(config: Any) -> None:
        for group in config.instance_group or [config.instance_group.add()]:
            group.count = count

    return changed(model, scale)


def with_batching(model: Any, preferred: int | None) -> Any:
    """The model with one preferred batch size (its delay stays as it is); None: without dynamic batching."""

    def batch(config: Any) -> None:
        if preferred is None:
            config.ClearField("dynamic_batching")
        else:
            config.dynamic_batching.preferred_batch_size[:] = [preferred]

    return changed(model, batch)


def with_response_cache(model: Any, enable: bool) -> Any:
    """The model with its answers kept in the server's response cache, or not."""

    def cache(config: Any) -> None:
        config.response_cache.enable = enable

    return changed(model, cache)


def with_versions(model: Any, versions: Sequence[int]) -> Any:
    """The model with exactly these versions served."""

    def choose(config: Any) -> None:
        config.version_policy.specific.versions[:] = versions

    return changed(model, choose)


def with_priority(model: Any, priority: int) -> Any:
    """The model with the given rate-limiter priority (1 is the highest; 2 runs half as often)."""

    def prioritise(config: Any) -> None:
        for group in config.instance_group:
            group.rate_limiter.priority = priority

    return changed(model, prioritise)


def rate_limiter_resources(models: Sequence[Any]) -> dict[str, int]:
    """The resources that the models' rate limiters name, each with the most that one instance asks for."""
    resources: dict[str, int] = {}
    for model in models:
        for group in model.instance_group:
            for resource in group.rate_limiter.resources:
                resources[resource.name] = max(resource.count, resources.get(resource.name, 0))
    return resources
