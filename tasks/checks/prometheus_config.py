"""Proves a `prometheus.yaml`: promtool accepts it with its rules, and a real Prometheus runs it on live targets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.observability import configuration, live, pods
from tasks.services import prometheus
from tasks.services.prometheus import Prometheus

TRITON, VLLM = "triton", "vllm"
INTERVAL_S = 0.5
WAIT_S = 10
PODS = (True, False, True, False)  # the annotated ones must be scraped, and only they


class Params(Base):
    live: Mapping[str, str]  # scrape job -> "triton", "vllm" (recorded), or the exporter script beside the file
    samples: Sequence[str] = ()  # PromQL that must return samples
    pods: str = ""  # the job whose relabel rules must keep annotated pods and drop the others


def needs(params: Params) -> Needs:
    environment = "triton" if TRITON in params.live.values() else "runner"
    return Needs("Prometheus", environment=environment, binaries=("prometheus", "promtool"))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """promtool's or Prometheus's own words are the message of a refusal."""
    try:
        config = configuration.load(file)
        for job in (*params.live, *filter(None, [params.pods])):
            configuration.job(config, job, file.name)
        with running(file, config, params, work) as server:
            evidence = proved(server, params)
    except UserError as error:
        return Verdict(False, str(error))
    up = ", ".join(params.live)
    kept = f"; the rules of {params.pods} keep the annotated pods only" if params.pods else ""
    return Verdict(True, f"Prometheus runs it: {up} up, {len(params.samples)} queries answered{kept}", evidence)


def target(what: str, file: Path, work: Workspace) -> AbstractContextManager[str]:
    if what == VLLM:
        return live.vllm()
    return live.triton(work.scratch, work.seed) if what == TRITON else live.exporter(file.parent / what, work.scratch)


@contextmanager
def running(file: Path, config: Mapping[str, Any], params: Params, work: Workspace) -> Iterator[Prometheus]:
    """A Prometheus with the learner's jobs on live targets, its rules evaluated."""
    with ExitStack() as stack:
        addresses = {job: stack.enter_context(target(what, file, work)) for job, what in params.live.items()}
        placed = configuration.placed(config, file.parent, addresses)
        if params.pods:
            job = configuration.job(config, params.pods, file.name)
            pods.require_rules(job, file.name)
            there = stack.enter_context(pods.described(len(PODS), work.scratch))
            there.set(PODS)
            placed["scrape_configs"].append(there.discover(dict(job)))
        quick = configuration.every(placed, INTERVAL_S)
        yield stack.enter_context(prometheus.configured(quick, work.scratch / "prometheus"))


def proved(server: Prometheus, params: Params) -> dict[str, Any]:
    """What was seen. Raises UserError at the first thing that is not as it must be."""
    for job in params.live:
        wait(lambda job=job: bool(server.query(f'up{{job="{job}"}} == 1')), lambda job=job: unreached(server, job))
    for query in params.samples:
        wait(lambda query=query: bool(server.query(query)), lambda query=query: f"{query} returns no samples")
    evidence: dict[str, Any] = {"samples": {query: len(server.query(query)) for query in params.samples}}
    if params.pods:
        evidence["pods"] = kept_pods(server, params.pods)
    rules = [rule for group in server.ask("rules", {})["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] == "err":
            raise UserError(f"the rule {rule['name']} fails: {rule['lastError']}")
    return {**evidence, "rules": [rule["name"] for rule in rules]}


def unreached(server: Prometheus, job: str) -> str:
    targets = [one for one in server.ask("targets", {})["activeTargets"] if one["scrapePool"] == job]
    said = "; ".join(f"{one['scrapeUrl']}: {one['lastError'] or one['health']}" for one in targets)
    return f"the job {job} is not up: {said or 'its rules leave no target'}"


def kept_pods(server: Prometheus, job: str) -> dict[str, list[str]]:
    """The scraped and the dropped pods; UserError unless these are the annotated ones and the others."""

    def all_known() -> bool:
        return sum(map(len, sorted_pods(server, job).values())) == len(PODS)

    wait(all_known, lambda: f"{job}: not all pods were discovered and scraped")
    found, annotated = sorted_pods(server, job), [f"pod-{number}" for number, has in enumerate(PODS) if has]
    if found["scraped"] != annotated:
        said = ", ".join(found["scraped"]) or "none"
        wanted = ", ".join(annotated)
        raise UserError(f"of four pods {wanted} are annotated and must be scraped; scraped are: {said}", where=job)
    return found


def sorted_pods(server: Prometheus, job: str) -> dict[str, list[str]]:
    """The pods that were scraped, whether or not they answered, and those that were dropped."""
    answer = server.ask("targets", {})
    label = f"{pods.META}_name"
    tried = [one for one in answer["activeTargets"] if one["scrapePool"] == job and one["health"] != "unknown"]
    found = {"scraped": tried, "dropped": answer["droppedTargets"]}
    return {what: sorted(one["discoveredLabels"].get(label, "") for one in ones) for what, ones in found.items()}


def wait(done: Any, otherwise: Any) -> None:
    """Poll until `done()`; then, or after WAIT_S, UserError with what `otherwise()` says."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline:
            raise UserError(otherwise())
        time.sleep(0.1)
