"""Proves the parts of a service's folder, each by its own tool: Dockerfile, k8s/, models/, prometheus/, grafana/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tasks import api
from tasks.kubernetes import schemas
from tasks.observability import promtool

COPY = re.compile(r"^\s*(?:COPY|ADD)\s+(?!--from=)(?:--\S+\s+)*(?P<sources>.+)\s+\S+\s*$", re.MULTILINE)


class Params(api.Params):
    """The folder is complete by itself; there is nothing to choose."""


def needs(params: Params) -> api.Needs:
    return api.Needs("promtool and kubernetes-validate", binaries=("promtool",), modules=("kubernetes_validate",))


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_dir():
        return api.Verdict(False, f"there is no folder {file.name}")
    faults = [fault for part in (docker, kubernetes, models, prometheus, grafana) for fault in part(file)]
    if faults:
        return api.Verdict(False, "; ".join(faults[:8]), {"faults": faults})
    return api.Verdict(True, "Dockerfile, k8s/, models/, prometheus/ and grafana/ are sound")


def docker(folder: Path) -> Iterator[str]:
    """It starts from an image, copies only what there is, and says what to run."""
    file = folder / "Dockerfile"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not re.search(r"^FROM \S+", text, re.MULTILINE):
        yield "Dockerfile: has no FROM"
    if not re.search(r"^(ENTRYPOINT|CMD) ", text, re.MULTILINE):
        yield "Dockerfile: does not say what to run (ENTRYPOINT or CMD)"
    for found in COPY.finditer(text):
        line = text[: found.start()].count("\n") + 1
        for source in found["sources"].split():
            if source != "." and not list(folder.glob(source.rstrip("/"))):
                yield f"Dockerfile:{line}: copies {source}, which is not there"


def kubernetes(folder: Path) -> Iterator[str]:
    manifests = sorted((folder / "k8s").glob("*.y*ml"))
    if not manifests:
        yield "k8s/ holds no manifest"
    for manifest in manifests:
        try:
            parts, problems = schemas.parsed(manifest)
        except api.UserError as error:
            yield str(error)
            continue
        if problems:
            yield schemas.told(manifest, problems)
        if "Deployment" not in {part.kind for part in parts} and len(manifests) == 1:
            yield f"{manifest.name}: holds no Deployment"


def models(folder: Path) -> Iterator[str]:
    """Each model has a configuration and a version with something in it; what is in it, Triton says."""
    found = sorted(path for path in (folder / "models").glob("*") if path.is_dir())
    if not found:
        yield "models/ holds no model"
    for model in found:
        if not (model / "config.pbtxt").is_file():
            yield f"models/{model.name} has no config.pbtxt"
        if not [path for path in model.glob("[0-9]*/*") if path.is_file() and path.stat().st_size]:
            yield f"models/{model.name} has no version with a model in it"


def prometheus(folder: Path) -> Iterator[str]:
    try:
        promtool.check_config(folder / "prometheus" / "prometheus.yml")
    except api.UserError as error:
        yield str(error)


def grafana(folder: Path) -> Iterator[str]:
    try:
        found = list(expressions(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"grafana/dashboard.json: {type(error).__name__}: {error}"
        return
    if not found:
        yield "grafana/dashboard.json has no panel with a query"


def expressions(folder: Path) -> Iterator[tuple[str, str]]:
    """(panel title, PromQL) of every query in grafana/dashboard.json."""
    board = json.loads((folder / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
