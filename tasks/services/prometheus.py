"""A real Prometheus that scrapes given targets: started on a free loopback port, queried, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import process

LOOKBACK = "--query.lookback-delta=10s"


@dataclass(frozen=True)
class Series:
    """One time series of an answer: its labels, and its samples as (unix time in s, value), oldest first."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that is ready. `address` is `127.0.0.1:port`."""

    address: str
    pid: int

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """The value of a PromQL expression now or `at` a unix time; UserError in Prometheus's words."""
        answer = self.ask("query", {"query": expression, **({"time": at} if at else {})})
        if answer["resultType"] == "scalar":
            return [Series({}, samples([answer["result"]]))]
        return [Series(one["metric"], samples([one["value"]])) for one in answer["result"]]

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> list[Series]:
        """The values of a PromQL expression between two unix times, one every `step_s` seconds."""
        answer = self.ask("query_range", {"query": expression, "start": start, "end": end, "step": step_s})
        return [Series(one["metric"], samples(one["values"])) for one in answer["result"]]

    def healthy_targets(self) -> int:
        """How many targets the last scrape reached, its samples stored."""
        return sum(series.samples[0][1] == 1 for series in self.query("up"))

    def own(self, metric: str) -> float:
        """One of Prometheus's own metrics, from its /metrics page (`go_…`, `prometheus_…`), summed over its labels."""
        with urlopen(f"http://{self.address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = [float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{metric}[ {{]", line)]
        if not found:
            raise UserError(f"Prometheus does not export {metric}")
        return sum(found)

    def collect_garbage(self) -> None:
        """Free what is not in use, so that memory read next is the data's and not the collector's timing."""
        with urlopen(f"http://{self.address}/debug/pprof/heap?gc=1", timeout=30) as answer:
            answer.read()

    def reload(self) -> None:
        """Read the configuration file again (SIGHUP); it takes effect a moment later."""
        os.kill(self.pid, signal.SIGHUP)

    def ask(self, resource: str, arguments: Mapping[str, Any]) -> Any:
        url = f"http://{self.address}/api/v1/{resource}?{urlencode(arguments)}"
        try:
            with urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise UserError(f"Prometheus: {message(error)}", where=str(arguments.get("query", resource))) from error


@contextmanager
def serve(
    targets: Mapping[str, str],
    folder: Path,
    *,
    scrape_interval_s: float = 0.5,
    timeout_s: float = 20,
    awaited: int | None = None,
) -> Iterator[Prometheus]:
    """Scrape `targets` (job name -> `host:port`, path /metrics) until the block ends; data and log go to `folder`.

    Ready means that every target, or as many as are `awaited`, has been scraped once.
    """
    with configured(configuration(targets, scrape_interval_s), folder, args=[LOOKBACK]) as prometheus:
        await_targets(prometheus, len(targets) if awaited is None else awaited, timeout_s)
        yield prometheus


@contextmanager
def configured(
    configuration: Mapping[str, Any], folder: Path, *, args: Sequence[str] = (), timeout_s: float = 60
) -> Iterator[Prometheus]:
    """Run with a whole configuration until the block ends; ready means that it answers. `args`: further options.

    Data that is in `folder`/data already is served too. Raises UserError with Prometheus's own message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    write(configuration, file)
    address = f"{process.LOOPBACK}:{process.free_port()}"
    argv = [
        "prometheus", f"--config.file={file}", f"--web.listen-address={address}",
        f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn", *args,
    ]  # fmt: skip
    with process.serve(argv, log=log, ready=lambda: is_ready(address), timeout_s=timeout_s) as child:
        yield Prometheus(address, child.pid)


def write(configuration: Mapping[str, Any], file: Path) -> None:
    file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML


def configuration(targets: Mapping[str, str], scrape_interval_s: float) -> dict[str, Any]:
    """Prometheus's configuration: one job for each target."""
    interval = f"{round(scrape_interval_s * 1000)}ms"
    jobs = [{"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()]
    return {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs}


def is_ready(address: str) -> bool:
    with urlopen(f"http://{address}/-/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def await_targets(prometheus: Prometheus, count: int, timeout_s: float) -> None:
    """Wait until every target answered a scrape; UserError with the scrape error when one does not."""
    deadline = time.monotonic() + timeout_s
    while prometheus.healthy_targets() < count:
        if time.monotonic() > deadline:
            targets = prometheus.ask("targets", {})["activeTargets"]
            failed = [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"]
            raise UserError("Prometheus cannot scrape " + "; ".join(failed))
        time.sleep(0.05)


def samples(pairs: list[list[Any]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(at), float(value)) for at, value in pairs)


def message(error: HTTPError) -> str:
    """Prometheus's own words in an error answer."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError):
        return str(error)
