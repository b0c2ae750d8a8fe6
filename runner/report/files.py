"""Templates and atomic writing."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


MEMORY = ".written.json"


@cache
def templates() -> jinja2.Environment:
    """The report's templates; HTML ones escape what they are given, an unknown name is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: bool(name and name.endswith((".html.j2", ".svg.j2"))),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["oneline"] = lambda text: " ".join(str(text).split())
    return environment


def render(template: str, **values: Any) -> str:
    return templates().get_template(template).render(**values)


def write(path: Path, text: str) -> Path:
    """Write the whole file or nothing: a reader never sees half a report. One that the learner has edited stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now, written = _hash(text.encode()), _written(path)
    if edited(path) and _hash(path.read_bytes()) != now:
        return path
    _replace(path, text)
    if written.get(path.name) != now:
        _replace(path.with_name(MEMORY), json.dumps({**written, path.name: now}, indent=1, sort_keys=True))
    return path


def edited(path: Path) -> bool:
    """Whether the file is there and is not what was last written to it."""
    return path.exists() and _hash(path.read_bytes()) != _written(path).get(path.name)


def _written(path: Path) -> dict[str, str]:
    """What was last written to each report of the folder: name → SHA-256."""
    memory = path.with_name(MEMORY)
    known: dict[str, str] = json.loads(memory.read_bytes()) if memory.exists() else {}
    return known


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, text: str) -> None:
    descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            sink.write(text)
        os.chmod(staged, 0o644)
        os.replace(staged, path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise


def in_language(name: str, lang: str) -> str:
    """`report_day18.md` → `report_day18.zh.md` for Chinese; English has the plain name."""
    stem, dot, suffix = name.rpartition(".")
    return name if lang == "en" else f"{stem}.{lang}{dot}{suffix}"
