"""What the architecture picture may show: the parts that records prove to have run, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.documents import stored
from tasks.documents.figures import heading
from tasks.documents.stored import Record
from tasks.documents.tables import values


@dataclass(frozen=True)
class Part:
    """A part and what proves it: passed records of a kind, of a file that they executed, of a subject in their id."""

    id: str
    title: Mapping[str, str]
    names: str  # how a picture may call it (regular expression)
    shows: tuple[
        str, str
    ]  # experiment and metric whose values stand in the box, if that experiment is among the proofs
    kind: str = ""
    file: str = ""
    subject: str = ""

    def proves(self, record: Record) -> bool:
        """Whether the record shows that this part ran."""
        used = [*(record["stanza"].get("uses") or []), *record["inputs"]]
        return bool(
            record["status"] == "passed"
            and (not self.kind or record["kind"] == self.kind)
            and (not self.file or self.file in {PurePosixPath(path).name for path in used})
            and self.subject in record["id"]
        )


PARTS = (
    Part(
        "redis",
        {"en": "Redis response cache", "zh": "Redis 响应缓存"},
        r"redis",
        ("redis-triton-response-cache", "latency_p50_ms"),
        kind="cache_proxy",
    ),
    Part(
        "ensemble",
        {"en": "Ensemble pipeline", "zh": "Ensemble 流水线"},
        r"ensemble",
        ("normalize-model-softmax", "latency_p50_ms"),
        file="ensemble_config.pbtxt",
    ),
    Part(
        "multi_model",
        {"en": "Multi-model serving", "zh": "多模型并发服务"},
        r"multi[-_ ]?model|多模型",
        ("instances-1-2-4-throughput", "throughput_rps"),
        file="multi_model_config.pbtxt",
    ),
    Part(
        "bert",
        {"en": "BERT", "zh": "BERT"},
        r"\bbert\b",
        ("bert-batch-1-8-16", "throughput_samples_s"),
        subject="bert-",
    ),
    Part(
        "autoscaling",
        {"en": "Autoscaling", "zh": "自动扩缩容"},
        r"auto[- ]?scal|\bhpa\b|扩缩容",
        ("scale-curve-100-to-1000-qps", "replicas"),
        kind="autoscale",
    ),
)

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
    for part in PARTS:
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
                    values=values(proof, asked, lang, most=3),
                    record=stored.name(proof),
                    stand_in=proof["tier"] == "stand-in",
                )
            )
    return found


def unproved(text: str, records: Sequence[Record]) -> list[str]:
    """Parts and systems that a picture's text names although no passed record shows that they ran."""
    ran = [record for record in records if record["status"] == "passed"]
    wrong = [
        part.id
        for part in PARTS
        if re.search(part.names, text, re.IGNORECASE) and not any(part.proves(record) for record in ran)
    ]
    told = " ".join(
        " ".join([record["id"], record["kind"], record["backend"], record["stand_in_for"], *record["versions"]])
        for record in ran
    ).lower()
    return wrong + [name for name in SYSTEMS if re.search(rf"\b{name}", text, re.IGNORECASE) and name not in told]


def missing(text: str, wanted: Sequence[str]) -> list[str]:
    """The wanted parts that the picture's text does not name."""
    names = {part.id: part.names for part in PARTS}
    return [part for part in wanted if not re.search(names[part], text, re.IGNORECASE)]
