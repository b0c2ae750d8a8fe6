"""What a language-model server says of itself on `/metrics`: samples and the quantiles of its histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services.llm.endpoint import Endpoint, explained

TTFT, ITL = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
TPOT, E2E = "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds"
QUEUE = "vllm:request_queue_time_seconds"
PREEMPTIONS, GENERATED = "vllm:num_preemptions_total", "vllm:generation_tokens_total"


@dataclass(frozen=True)
class Samples:
    """One reading. `values` maps a sample's name to its sum over all labels but `le`; `buckets` a histogram's name to
    its cumulative counts by upper bound."""

    values: Mapping[str, float]
    buckets: Mapping[str, Mapping[float, float]]

    def since(self, earlier: Samples) -> Samples:
        """What was added after an earlier reading (gauges become their change)."""
        values = {name: value - earlier.values.get(name, 0.0) for name, value in self.values.items()}
        buckets = {
            name: {bound: count - earlier.buckets.get(name, {}).get(bound, 0.0) for bound, count in counts.items()}
            for name, counts in self.buckets.items()
        }
        return Samples(values, buckets)

    def value(self, name: str) -> float:
        """A sample's value; UserError when the server does not tell it (another version may name it otherwise)."""
        if name not in self.values:
            raise UserError(
                f"its /metrics tell no {name}", where="server", remedy="install the version of the lock file"
            )
        return self.values[name]

    def mean(self, histogram: str) -> float:
        """The histogram's mean, in its unit; 0 without observations."""
        count = self.value(f"{histogram}_count")
        return self.value(f"{histogram}_sum") / count if count else 0.0

    def quantile(self, histogram: str, q: float) -> float:
        """Interpolated within its bucket, as Prometheus' `histogram_quantile` does; 0 without observations."""
        total = self.value(f"{histogram}_count")
        counts = sorted(self.buckets[histogram].items())
        below, under = 0.0, 0.0
        for bound, count in counts if total else ():
            if count >= q * total:
                if bound == inf:
                    return below
                return below + (bound - below) * (q * total - under) / (count - under) if count > under else bound
            below, under = bound, count
        return 0.0


def read(text: str) -> Samples:
    """Parse an exposition."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket") and "le" in sample.labels:
                counts, bound = buckets.setdefault(sample.name.removesuffix("_bucket"), {}), float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
            else:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return Samples(values, buckets)


def metrics(server: Endpoint) -> Samples:
    """The server's figures now; DeadServerError when it has ended."""
    try:
        with urlopen(f"{server.address}/metrics", timeout=30) as answer:
            return read(answer.read().decode())
    except OSError as error:
        raise explained(server, error) from error
