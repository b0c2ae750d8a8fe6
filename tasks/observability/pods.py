"""Pods that Prometheus can discover: real ones of a cluster, or exporters here that a file describes like pods."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tasks.api import UserError
from tasks.observability.configuration import drop_discovery
from tasks.services.cluster import answers, kubectl
from tasks.services.exposition import expose
from tasks.services.process import LOOPBACK, free_port, serve

Job = dict[str, Any]
META = "__meta_kubernetes_pod"
NAMESPACE, PATH = "infra90", "/metrics"


class Source(Protocol):
    """Where the pods of a run come from."""

    def discover(self, job: Job) -> Job:
        """The learner's scrape job, its rules unchanged, finding the pods of this source."""

    def set(self, annotated: Sequence[bool]) -> None:
        """From now on there are exactly these running pods, each with the annotation or without it.

        Returns when their state is published.
        """


@dataclass
class FilePods:
    """Exporters on loopback, listed in a file with the labels that Kubernetes discovery gives to pods."""

    file: Path
    addresses: list[str] = field(default_factory=list)

    def discover(self, job: Job) -> Job:
        drop_discovery(job)
        return {**job, "file_sd_configs": [{"files": [str(self.file)]}]}

    def set(self, annotated: Sequence[bool]) -> None:
        groups = [self.group(number, has) for number, has in enumerate(annotated)]
        staged = self.file.with_suffix(".new")
        staged.write_text(json.dumps(groups), encoding="utf-8")
        staged.replace(self.file)

    def group(self, number: int, annotated: bool) -> dict[str, Any]:
        """A pod as kubernetes_sd shows it: the port is in an annotation, and asking to be scraped is one, too."""
        host, port = self.addresses[number].split(":")
        labels = {
            "__meta_kubernetes_namespace": NAMESPACE, f"{META}_name": f"pod-{number}", f"{META}_phase": "Running",
            f"{META}_label_app": "drill", f"{META}_annotation_prometheus_io_port": port,
            f"{META}_annotation_prometheus_io_path": PATH,
        }  # fmt: skip
        if annotated:
            labels[f"{META}_annotation_prometheus_io_scrape"] = "true"
        return {"targets": [f"{host}:1"], "labels": labels}  # the container's port is not the one to scrape


@contextmanager
def described(count: int, folder: Path) -> Iterator[FilePods]:
    """`count` exporters that run until the block ends, none of them listed yet."""
    from prometheus_client import CollectorRegistry, Gauge

    source = FilePods(folder / "pods.json")
    source.file.write_text("[]", encoding="utf-8")
    with ExitStack() as stack:
        for number in range(count):
            registry = CollectorRegistry()
            Gauge("pod_number", "Which pod this is", registry=registry).set(number)
            source.addresses.append(stack.enter_context(expose(registry)))
        yield source


@dataclass(frozen=True)
class ClusterPods:
    """Pods of a cluster, discovered and scraped through `kubectl proxy`, which needs no route to the pods."""

    namespace: str
    proxy: str  # 127.0.0.1:port
    image: str
    port: int

    def discover(self, job: Job) -> Job:
        drop_discovery(job)
        discovery = {"role": "pod", "api_server": f"http://{self.proxy}", "namespaces": {"names": [self.namespace]}}
        name = [f"{META}_name", f"{META}_annotation_prometheus_io_port"]
        path = f"/api/v1/namespaces/{self.namespace}/pods/$1:$2/proxy{PATH}"
        through = [
            {"source_labels": name, "separator": ";", "regex": "(.+);(.+)", "replacement": path,
             "target_label": "__metrics_path__"},
            {"target_label": "__address__", "replacement": self.proxy},
        ]  # fmt: skip
        rules = [*job.get("relabel_configs", []), *through]
        return {**job, "kubernetes_sd_configs": [discovery], "relabel_configs": rules}

    def set(self, annotated: Sequence[bool]) -> None:
        space = ("--namespace", self.namespace)
        kubectl(*space, "delete", "pods", "--all", "--now", "--wait=true")
        for number, has in enumerate(annotated):
            pod = json.dumps(self.manifest(number, has))
            argv = ["run", f"pod-{number}", f"--image={self.image}", "--restart=Never", f"--overrides={pod}"]
            kubectl(*space, *argv)
        if annotated:
            kubectl(*space, "wait", "pods", "--all", "--for=condition=Ready", "--timeout=300s")

    def manifest(self, number: int, annotated: bool) -> dict[str, Any]:
        annotations = {"prometheus.io/port": str(self.port), "prometheus.io/path": PATH}
        if annotated:
            annotations["prometheus.io/scrape"] = "true"
        container = {"name": f"pod-{number}", "image": self.image, "ports": [{"containerPort": self.port}]}
        labels = {"app": "drill"}
        metadata = {"annotations": annotations, "labels": labels}
        return {"apiVersion": "v1", "metadata": metadata, "spec": {"containers": [container]}}


@contextmanager
def in_cluster(image: str, port: int, folder: Path) -> Iterator[ClusterPods]:
    """A namespace of its own in the cluster, deleted when the block ends."""
    namespace, proxy_port = f"infra90-pods-{os.getpid()}", free_port()
    kubectl("create", "namespace", namespace)
    try:
        argv = ["kubectl", "proxy", f"--port={proxy_port}", f"--address={LOOPBACK}"]
        with serve(argv, log=folder / "kubectl-proxy.log", ready=lambda: answers(proxy_port)):
            yield ClusterPods(namespace, f"{LOOPBACK}:{proxy_port}", image, port)
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def require_rules(job: Job, file: str) -> None:
    if not job.get("relabel_configs"):
        raise UserError(
            f"the scrape job {job['job_name']!r} has no relabel_configs: it would scrape every pod", where=file
        )
