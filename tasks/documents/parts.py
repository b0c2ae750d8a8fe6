"""The parts of each week's architecture picture and how they stand in it; what may be drawn, the records decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.documents.stored import Record


@dataclass(frozen=True)
class Part:
    """A part and what proves it: passed records of a day, a kind, a file that they executed, a subject in their id."""

    id: str
    title: Mapping[str, str]
    names: str  # how a picture may call it (regular expression)
    shows: tuple[str, str]  # experiment and metric whose values stand in the box, if it is among the proofs
    day: str = ""
    kind: str = ""
    file: str = ""
    subject: str = ""

    def proves(self, record: Record) -> bool:
        """Whether the record shows that this part ran."""
        used = [*(record["stanza"].get("uses") or []), *record["inputs"]]
        return bool(
            record["status"] == "passed"
            and self.day in ("", record["day"])
            and self.kind in ("", record["kind"])
            and (not self.file or self.file in {PurePosixPath(path).name for path in used})
            and self.subject in record["id"]
        )


@dataclass(frozen=True)
class Row:
    """Parts side by side. `frame` is the system around them, drawn when every one of them ran on it."""

    parts: tuple[Part, ...]
    frame: str = ""
    linked: bool = True  # an arrow leads here from the row above


WEEK1 = (
    Row(
        (
            Part(
                "docker",
                {"en": "Docker image", "zh": "Docker 镜像"},
                r"docker image|docker 镜像",
                ("naive-vs-layered-dockerfile", "image_size_mb"),
                day="day01",
            ),
            Part(
                "kubernetes",
                {"en": "Kubernetes", "zh": "Kubernetes"},
                r"kubernetes|\bk8s\b",
                ("service-exposure-paths", "latency_p50_ms"),
                day="day02",
            ),
        )
    ),
    Row(
        (
            Part(
                "model",
                {"en": "ONNX model", "zh": "ONNX 模型"},
                r"onnx model|onnx 模型",
                ("opset-by-opt-level", "latency_p50_ms"),
                day="day03",
            ),
            Part(
                "engine",
                {"en": "Inference engine", "zh": "推理引擎"},
                r"inference engine|推理引擎",
                ("engine-precision-fp32-fp16-int8", "throughput_samples_s"),
                day="day04",
            ),
        )
    ),
    Row(
        (
            Part(
                "triton",
                {"en": "Model server", "zh": "模型服务"},
                r"model server|模型服务",
                ("dynamic-batching-preferred-size", "throughput_rps"),
                day="day05",
            ),
            Part(
                "platform",
                {"en": "Inference platform", "zh": "推理平台"},
                r"inference platform|推理平台",
                ("qps-ramp-100-to-2000", "latency_p99_ms"),
                day="day07",
            ),
        )
    ),
    Row(
        (
            Part(
                "prometheus",
                {"en": "Prometheus", "zh": "Prometheus"},
                r"prometheus",
                ("scrape-interval-cost", "cpu_pct"),
                day="day06",
            ),
            Part(
                "alerting",
                {"en": "Alerting", "zh": "告警"},
                r"alerting|告警",
                ("p99-alert-webhook", "time_to_webhook_s"),
                subject="alert",
            ),
        )
    ),
)

WEEK3 = (
    Row(
        (
            Part(
                "redis",
                {"en": "Redis response cache", "zh": "Redis 响应缓存"},
                r"redis",
                ("redis-triton-response-cache", "latency_p50_ms"),
                kind="cache_proxy",
            ),
        )
    ),
    Row(
        (
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
        ),
        frame="Triton",
    ),
    Row(
        (
            Part(
                "autoscaling",
                {"en": "Autoscaling", "zh": "自动扩缩容"},
                r"auto[- ]?scal|\bhpa\b|扩缩容",
                ("scale-curve-100-to-1000-qps", "replicas"),
                kind="autoscale",
            ),
        ),
        linked=False,
    ),
)

WEEK12 = (
    Row(
        (
            Part(
                "queue",
                {"en": "Request queue and batching", "zh": "请求队列与动态批处理"},
                r"request queue|请求队列",
                ("load-1k-5k-10k-qps", "achieved_qps"),
                file="high_concurrency_demo.py",
            ),
        )
    ),
    Row(
        (
            Part(
                "engines",
                {"en": "LLM serving engines", "zh": "大模型推理框架"},
                r"llm serving engines|大模型推理框架",
                ("framework-qps-latency", "latency_p50_ms"),
                day="day78",
            ),
            Part(
                "prompt_cache",
                {"en": "Prompt cache", "zh": "提示缓存"},
                r"prompt cache|提示缓存",
                ("latency-before-after", "ttft_p50_ms"),
                day="day81",
            ),
        )
    ),
    Row(
        (
            Part(
                "kv_cache",
                {"en": "KV cache", "zh": "KV 缓存"},
                r"kv cache|kv 缓存",
                ("memory-curve", "cache_mib"),
                day="day79",
            ),
            Part(
                "parallelism",
                {"en": "Tensor and sequence parallelism", "zh": "张量与序列并行"},
                r"sequence parallelism|序列并行",
                ("single-vs-multi-latency", "latency_p50_ms"),
                file="tensor_parallel_demo.py",
            ),
            Part(
                "long_context",
                {"en": "Long context", "zh": "长文本推理"},
                r"long context|长文本",
                ("length-1k-4k-16k", "ttft_s"),
                day="day82",
            ),
        )
    ),
)

PICTURES: dict[str, tuple[Row, ...]] = {"week01": WEEK1, "week03": WEEK3, "week12": WEEK12}


def of_week(week: str) -> list[Part]:
    """The parts that a week's picture may show; none for a week without a picture."""
    return [part for row in PICTURES.get(week, ()) for part in row.parts]
