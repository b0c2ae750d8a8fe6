"""What the architecture picture may show: the parts that records prove to have run, and no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.documents import parts, stored
from tasks.documents.figures import heading
from tasks.documents.stored import Record
from tasks.documents.tables import values

WIDTH = 42  # characters of a line in a box

# Systems that pictures of inference platforms like to show: each needs a record that names it.
SYSTEMS = (
    "airflow", "celery", "elasticsearch", "envoy", "faiss", "grafana", "istio", "kafka", "keda", "knative", "kserve",
    "kubernetes", "langchain", "memcached", "milvus", "mongodb", "mysql", "nginx", "onnxruntime", "openvino",
    "postgres", "prometheus", "rabbitmq", "slurm", "spark", "tensorflow", "tensorrt", "torchserve",
    "traefik", "triton", "vllm",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A part as the picture shows it: backend and tier, one metric at some points, and the record they come from."""

    id: str
    title: str
    backend: str
    tier: str
    metric: str
    values: str
    record: str
    stand_in: bool


def shown(records: Sequence[Record], lang: str = "en") -> list[Shown]:
    """The parts that ran, each with the values of its telling experiment (or of the first that proves it)."""
    found = []
    for part in in_play(records):
        proofs = [record for record in records if part.proves(record)]
        if proofs:
            experiment, metric = part.shows
            proof = next((record for record in proofs if record["id"] == experiment), proofs[0])
            asked = metric if proof["id"] == experiment else next(iter(stored.metrics(proof)), "")
            found.append(
                Shown(
                    id=part.id,
                    title=part.title[lang],
                    backend=proof["backend"],
                    tier=stored.label(proof, lang),
                    metric=heading(asked, lang),
                    values=fitting(proof, asked, lang),
                    record=stored.name(proof),
                    stand_in=proof["tier"] == "stand-in",
                )
            )
    return found


def fitting(proof: Record, metric: str, lang: str) -> str:
    """As many of the metric's values as a box is wide."""
    tried = [values(proof, metric, lang, most=count) for count in (3, 2, 1)]
    return next((text for text in tried if len(text) <= WIDTH), tried[-1])


def unproved(text: str, records: Sequence[Record]) -> list[str]:
    """Parts and systems that a picture's text names although no passed record shows that they ran."""
    ran = [record for record in records if record["status"] == "passed"]
    wrong = [
        part.id
        for part in in_play(records)
        if re.search(part.names, text, re.IGNORECASE) and not any(part.proves(record) for record in ran)
    ]
    told = " ".join(
        " ".join([record["id"], record["kind"], record["backend"], record["stand_in_for"], *record["versions"]])
        for record in ran
    ).lower()
    return wrong + [name for name in SYSTEMS if re.search(rf"\b{name}", text, re.IGNORECASE) and name not in told]


def in_play(records: Sequence[Record]) -> list[parts.Part]:
    """The parts that the pictures of these records' weeks may show."""
    return [part for week in sorted({record["week"] for record in records}) for part in parts.of_week(week)]


def missing(text: str, wanted: Sequence[str]) -> list[str]:
    """The wanted parts that the picture's text does not name."""
    names = {part.id: part.names for week in parts.PICTURES for part in parts.of_week(week)}
    return [part for part in wanted if not re.search(names[part], text, re.IGNORECASE)]
