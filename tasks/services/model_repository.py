"""Hand-written model repositories for Triton: `<name>/config.pbtxt`, `<name>/1/model.py` and the files it reads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tasks.api import UserError

ORT_MODEL = Path(__file__).with_name("triton_ort_model.py")


def add_model(
    repository: Path,
    name: str,
    config: str,
    *,
    source: Path | None = None,
    files: Mapping[str, Path | bytes] | None = None,
) -> Path:
    """Write model `name` (version 1) into `repository` and return its folder.

    `config` is the text of its config.pbtxt, `source` its Python-backend `model.py` (an ensemble has none),
    `files` further files of the version folder, by name.
    """
    folder = repository / name
    version = folder / "1"
    version.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    if source:
        shutil.copyfile(source, version / "model.py")
    for file_name, content in (files or {}).items():
        if isinstance(content, bytes):
            (version / file_name).write_bytes(content)
        else:
            shutil.copyfile(content, version / file_name)
    return folder


def add_onnx_model(repository: Path, name: str, config: str, onnx: Path) -> Path:
    """Write a Python-backend model that runs `onnx` in ONNX Runtime.

    The tensors of `config` must be named as in the graph. The config's `parameters` may set `intra_op_num_threads`
    (default 1: one core for each instance). A KIND_GPU instance runs on that GPU.
    """
    if not onnx.is_file():
        raise UserError("no such ONNX file", where=str(onnx))
    return add_model(repository, name, config, source=ORT_MODEL, files={"model.onnx": onnx})
