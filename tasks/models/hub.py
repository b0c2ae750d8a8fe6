"""Models that others made: a folder on this machine, or a Hugging Face repository at a pinned revision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.api import Params, UserError
from tasks.models.shape import Shape

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # no pickled weights, no code
TWICE = (  # the same weights once more: in their makers' own layout, as one file, in half precision, before averaging
    "consolidated*", "original/*", "v1-5-pruned*", "*.fp16.safetensors", "*.non_ema.safetensors",
)  # fmt: skip


class Source(Params):
    """`folder` (on this machine), or `repo` at `revision` (a commit of 40 hexadecimal digits).

    `shape` says what fits (`run doctor`) before anything is fetched.
    """

    repo: str = ""
    revision: str = ""
    folder: str = ""
    shape: Shape | None = None


def home(source: Source, say: Callable[[str], None] = print) -> Path:
    """The model's folder, fetched when it is not in the cache yet; UserError when it cannot be had or is not whole."""
    if source.folder:
        return whole(Path(source.folder).expanduser())
    return whole(fetched(source, say))


def fetched(source: Source, say: Callable[[str], None]) -> Path:
    """The repository's snapshot in Hugging Face's cache; the network is asked only for what is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: Any = {
        "repo_id": source.repo, "revision": source.revision or None,
        "allow_patterns": list(WANTED), "ignore_patterns": list(TWICE),
    }  # fmt: skip
    try:
        return Path(snapshot_download(**wanted, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        say(f"fetching {source.repo}")
    try:
        return Path(snapshot_download(**wanted))
    except Exception as problem:
        raise UserError(
            f"{source.repo} cannot be fetched: {str(problem).splitlines()[0]}",
            remedy="use model=tiny, which needs no network, or name the model's folder: model.lm.folder=/path/to/model",
        ) from problem


def whole(folder: Path) -> Path:
    """The folder, when it holds a model that can be served; UserError naming what is missing."""
    if not (folder / "config.json").is_file():
        raise UserError("no config.json: this is not a Hugging Face model", where=str(folder))
    if not any(folder.glob("*.safetensors")):
        raise UserError("no *.safetensors: weights in other formats are not loaded", where=str(folder))
    if missing := absent(folder):
        raise UserError(
            f"{len(missing)} files of its weights are missing: {', '.join(missing[:3])}", where=str(folder),
            remedy="copy them beside the others",
        )  # fmt: skip
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(
            f"the tokenizer is missing: none of {', '.join(TOKENIZERS)}", where=str(folder),
            remedy="copy the tokenizer files of the model's repository into this folder",
        )  # fmt: skip
    return folder


def absent(folder: Path) -> list[str]:
    """The files of weights that the folder's index names and that are not there."""
    named: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        named |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return sorted(name for name in named if not (folder / name).is_file())
