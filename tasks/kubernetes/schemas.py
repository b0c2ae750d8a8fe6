"""What Kubernetes' own schemas say of a manifest, and the rules of its API server that no schema holds.

Valid means strictly, against the newest schemas of kubernetes-validate; an object without a schema (a CRD) counts as
not validated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.kubernetes.lines import Document, documents
from tasks.kubernetes.quantities import amount

Problem = tuple[int, str]  # line, what is wrong


def problems(part: Document) -> Iterator[Problem]:
    """What the schemas refuse in one document, at the line of the mistake."""
    import kubernetes_validate

    if not (isinstance(part.data, dict) and all(isinstance(part.data.get(key), str) for key in ("apiVersion", "kind"))):
        yield part.line(), "is no Kubernetes object: apiVersion and kind must be there"
        return
    name = f"{part.kind} {part.data['apiVersion']}"
    try:
        kubernetes_validate.validate(part.data, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        path = list(error.path)
        yield part.line(path), f"{name}: {'.'.join(map(str, path)) or 'object'}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield part.line(["apiVersion"]), f"{name} has no schema, so it is not validated"


def parsed(file: Path) -> tuple[list[Document], list[Problem]]:
    """The documents of a file and all that the schemas refuse in them. Raises UserError when it is no YAML."""
    parts = documents(file)
    return parts, [problem for part in parts for problem in problems(part)]


def told(file: Path, found: Sequence[Problem]) -> str:
    """Problems as one message, each with its place, in the order of the file."""
    return "; ".join(f"{file.name}:{line}: {what}" for line, what in sorted(found))


def refusals(resources: Mapping[str, Any]) -> Iterator[str]:
    """What the API server's validation refuses in a container's `resources` (ValidateResourceRequirements).

    k8s.io/kubernetes/pkg/apis/core/validation: a request may not exceed its limit, and an extended resource such as
    nvidia.com/gpu, which cannot be overcommitted, must have a limit, equal to its request when there is one.
    """
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for side, quantities in (("limit", limits), ("request", requests)):
        yield from (
            f"{name}: the {side} {fault}" for name, one in quantities.items() if (fault := unreadable(name, one))
        )
    for name, asked in requests.items():
        if unreadable(name, asked) or unreadable(name, limits.get(name, asked)):
            continue
        if name not in limits:
            if extended(name):
                yield f"{name}: a limit must be set for what cannot be overcommitted"
        elif extended(name) and amount(asked) != amount(limits[name]):
            yield f"{name}: the request {asked} must equal the limit {limits[name]}"
        elif amount(asked) > amount(limits[name]):
            yield f"{name}: the request {asked} must be less than or equal to the limit of {limits[name]}"


def extended(name: str) -> bool:
    """Whether a resource is a device plugin's: its name has a domain."""
    return "/" in name


def unreadable(name: str, written: Any) -> str:
    """What is wrong with one quantity by itself; "" when nothing is."""
    try:
        value = amount(written)
    except ValueError as error:
        return str(error)
    return f"{written} must be an integer" if extended(name) and value != int(value) else ""
