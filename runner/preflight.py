"""What this machine has, and what a job needs that it has not – each lack with its remedy."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from runner.spec import digest
from tasks.api import Needs

# executable → Debian/Ubuntu package
PACKAGES = {
    "ab": "apache2-utils",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "debootstrap": "debootstrap",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "g++": "g++",
    "hey": "hey",
    "nginx": "nginx-light",
    "podman": "podman",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "runc": "runc",
    "setpriv": "util-linux",
    "shellcheck": "shellcheck",
}

# minikube lets its node use the GPUs and runs NVIDIA's device plugin there; kind does neither by itself.
CLUSTER_REMEDY = (
    "make one with `kind create cluster`, for GPU Pods with `minikube start --driver=docker --gpus=all`,"
    " or point KUBECONFIG at one (kubectl get nodes must answer)"
)

# executables that no Debian package brings
VENDORS = {
    "compute-sanitizer": "install the CUDA toolkit, which has compute-sanitizer",
    "dcgm-exporter": "install NVIDIA DCGM (datacenter-gpu-manager) and dcgm-exporter, which reads it",
    "kubectl": "install kubectl: https://kubernetes.io/docs/tasks/tools/",
    "ncu": "install NVIDIA Nsight Compute, which has ncu",
    "nsys": "install NVIDIA Nsight Systems, which has nsys",
}


@dataclass(frozen=True)
class Machine:
    host: str
    os: str
    cpu: str
    cores: int
    memory_gb: float
    gpus: tuple[str, ...]  # "NVIDIA H100 80GB HBM3, 79.6 GiB, sm_90"
    driver: str
    cluster: str  # the current kubectl context when its API server answers, else ""
    disk_free_gb: float

    def facts(self) -> dict[str, Any]:
        """What a record says of the machine; `fingerprint` changes when figures stop being comparable."""
        facts = {**asdict(self), "gpus": list(self.gpus)}
        facts.pop("disk_free_gb")
        return {**facts, "fingerprint": digest([self.cpu, self.cores, round(self.memory_gb), facts["gpus"]])}


@dataclass(frozen=True)
class Lack:
    """One thing that a backend needs and the machine has not."""

    what: str
    remedy: str


def probe(root: Path) -> Machine:
    """Look at the machine once. Never raises: what cannot be seen is reported as absent."""
    import psutil

    gpus, driver = _gpus()
    return Machine(
        host=socket.gethostname(),
        os=_os_name(),
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=gpus,
        driver=driver,
        cluster=_cluster(),
        disk_free_gb=round(shutil.disk_usage(root).free / 2**30, 1),
    )


def lacks(needs: Needs, machine: Machine) -> list[Lack]:
    """What the machine itself is missing for these needs; what an environment holds is asked by `module_lacks`."""
    found = []
    if len(machine.gpus) < needs.gpus:
        have = f"{len(machine.gpus)} here" if machine.gpus else "none here"
        several = f"{needs.gpus} NVIDIA GPUs" if needs.gpus > 1 else "an NVIDIA GPU"
        remedy = f"run this plan on a machine with {several} and the driver"
        found.append(Lack(f"needs {several} for {needs.backend}, {have}", remedy))
    elif len({gpu.split(",")[0] for gpu in machine.gpus}) < needs.gpu_models and needs.gpus:
        models = f"{needs.gpu_models} different GPU models"
        found.append(Lack(f"needs {models} for {needs.backend}", f"run this plan on a machine with {models}"))
    if needs.cluster and not machine.cluster:
        found.append(Lack("needs a reachable Kubernetes cluster", CLUSTER_REMEDY))
    if machine.memory_gb < needs.memory_gb:
        memory = f"{needs.memory_gb:g} GB of memory"
        remedy = f"use a machine with {memory}"
        found.append(Lack(f"needs {memory} for {needs.backend}, {machine.memory_gb:g} here", remedy))
    for binary in needs.binaries:
        if not find(binary):
            found.append(Lack(f"{binary} is not installed", _install(binary)))
    return found


def _install(binary: str) -> str:
    """How to get an executable; a file that is asked for by its place comes with a vendor's image."""
    if "/" in binary:
        return f"use an image that has {binary}"
    return VENDORS.get(binary) or f"sudo apt-get install -y {PACKAGES.get(binary, binary)}"


def module_lacks(needs: Needs, python: Path) -> list[Lack]:
    """Vendor packages that the environment which will run the job has not: modules, or distributions by their name.

    (`onnxruntime-gpu` brings the same module as `onnxruntime`: only the distribution's name tells them apart.)
    """
    sites = list((python.parent.parent / "lib").glob("python3*/site-packages"))
    own = python == Path(sys.executable)
    return [
        Lack(f"{name} is not installed in the environment '{needs.environment}'", f"{python} -m pip install {name}")
        for name in needs.modules
        if not (importlib.util.find_spec(name) if own else any((s / name / "__init__.py").is_file() for s in sites))
        and not any(any(s.glob(f"{name.replace('-', '_')}-*.dist-info")) for s in sites)
    ]


def find(binary: str) -> str | None:
    """The executable's path; Debian keeps some servers in sbin, which a user's PATH may lack."""
    return shutil.which(binary, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def missing_packages(all_needs: Iterable[Sequence[Needs]], machine: Machine) -> list[str]:
    """Debian packages that would let a job run which nothing else stops."""
    wanted = set()
    for options in all_needs:
        for needs in options:
            if not lacks(replace(needs, binaries=()), machine):
                wanted |= {PACKAGES[b] for b in needs.binaries if b in PACKAGES and not find(b)}
                break
    return sorted(wanted)


def _gpus() -> tuple[tuple[str, ...], str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), ""
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_gpu_name(pynvml, handle) for handle in handles), str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


def _gpu_name(pynvml: Any, handle: Any) -> str:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return f"{pynvml.nvmlDeviceGetName(handle)}, {memory:.1f} GiB, sm_{major}{minor}"


@functools.cache
def _cluster() -> str:
    if not shutil.which("kubectl") or not (os.environ.get("KUBECONFIG") or (Path.home() / ".kube/config").exists()):
        return ""
    try:
        ask = ["kubectl", "--request-timeout=3s", "get", "--raw=/readyz"]
        if subprocess.run(ask, capture_output=True, timeout=6).returncode:
            return ""
        named = subprocess.run(["kubectl", "config", "current-context"], capture_output=True, timeout=6, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return named.stdout.strip() or "unnamed"


def _cpu_name() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform()
