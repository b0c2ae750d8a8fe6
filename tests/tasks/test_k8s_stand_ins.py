"""Day 2 without a cluster: real Pods of podman under the kernel's limits, real hops in front of a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.kubernetes import memory, memory_pod
from tasks.kubernetes.memory_pod import Pair
from tasks.services import closed_load, pods, process, relay

root_podman = pytest.mark.skipif(
    not shutil.which("podman") or os.getuid() != 0, reason="needs podman and the right to set memory limits"
)
HEY = """
Summary:
  Total:	3.0021 secs
  Slowest:	0.0161 secs
  Fastest:	0.0003 secs
  Average:	0.0021 secs
  Requests/sec:	7839.6772

Latency distribution:
  50% in 0.0019 secs
  99% in 0.0056 secs

Status code distribution:
{statuses}
"""


@pytest.mark.slow
@root_podman
def test_the_kernel_kills_what_outgrows_its_limit(run_kind: Callable[..., Any]) -> None:
    points = [{"requests_limits": "1Gi/512Mi"}, {"requests_limits": "512Mi/1Gi"}]
    (refused, allowed), _ = run_kind("k8s_memory", {"overshoot": 1.2}, points)
    for row in (refused, allowed):
        assert (row["metrics"]["oom_killed_bool"], row["metrics"]["exit_code"]) == (1, 137)
        assert row["metrics"]["time_to_kill_s"] > 0
        assert row["spread"]["time_to_kill_s"]["n"] == 3
        assert row["metrics"]["schema_ok_bool"] == 1
    assert refused["metrics"]["oom_score_adj"] == allowed["metrics"]["oom_score_adj"]  # both requests are 512Mi
    assert (refused["metrics"]["dies_first_bool"], allowed["metrics"]["dies_first_bool"]) == (0, 1)
    assert "the request 1Gi must be less than or equal to the limit of 512Mi" in refused["note"]


@pytest.mark.slow
@root_podman
def test_a_pod_that_podman_cannot_run_is_told_in_its_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pods.pods(tmp_path, print) as engine:
        broken = memory_pod.pod("infra90-broken", Pair("1Mi", "2Mi"), "localhost/infra90-no-such-image:1", "true")
        assert "no-such-image" in engine.refusal(broken)
        with pytest.raises(UserError, match="infra90-broken"):
            engine.pid("infra90-broken-hog")


@pytest.mark.slow
def test_each_way_in_serves_the_model(run_kind: Callable[..., Any]) -> None:
    points = [{"exposure": exposure} for exposure in ("port-forward", "nodeport", "ingress")]
    rows, _ = run_kind("k8s_exposure", {"seconds": 1, "saturated_s": 1, "qps": 50}, points)
    assert [row["point"] for row in rows] == points
    for row in rows:
        assert 0 < row["metrics"]["latency_p50_ms"] <= row["metrics"]["latency_p99_ms"]
        assert row["metrics"]["throughput_rps"] > 0
        assert row["spread"]["latency_p50_ms"]["n"] > 5


def test_what_the_container_wrote_is_read() -> None:
    """As podman's logs had it on cgroup v1 (oom_control) and v2 (memory.events)."""
    lines = ["adj 978", "start 10.5", "Killed", "end 12.75", "start 13.0", "Killed", "end 14.0", "oom_kill 2"]
    assert memory_pod.tale("\n".join(lines)) == memory_pod.Tale(978, (2.25, 1.0), 2)
    assert memory_pod.tale("adj 979\nstart 1795383265.245176858\n") == memory_pod.Tale(979, (), 0)
    with pytest.raises(ValueError, match="No such file"):
        memory_pod.tale("sh: 1: cat: No such file or directory")


@pytest.mark.parametrize(
    ("requests", "capacity_gib", "adj"),
    [
        ("4Gi", 16, 750),  # 1000 - 1000 × 4 / 16
        ("512Mi", 24, 980),  # 1000 - 20.8, whose fraction is dropped before the subtraction
        ("1Ki", 1024, 999),  # never as cheap to kill as BestEffort's 1000
        ("16Gi", 16, 3),  # never as safe as Guaranteed
    ],
)
def test_oom_score_adj_is_the_kubelets(requests: str, capacity_gib: int, adj: int) -> None:
    """pkg/kubelet/qos/policy.go, GetContainerOOMScoreAdjust, with its integer division."""
    assert Pair(requests, "32Gi").oom_score_adj(capacity_gib * 2**30) == adj


def test_a_pair_that_the_api_server_refuses_runs_with_its_limit_alone() -> None:
    assert memory.Point(requests_limits="1Gi/512Mi").pair.in_force == Pair("512Mi", "512Mi")
    assert memory.Point(requests_limits="512Mi/1Gi").pair.in_force == Pair("512Mi", "1Gi")


def test_heys_report_is_read() -> None:
    assert closed_load.rate(HEY.format(statuses="  [200]\t23535 responses")) == 7839.6772


@pytest.mark.parametrize(
    "statuses",
    [
        "  [200]\t23530 responses\n  [502]\t5 responses",
        "  [404]\t23535 responses",
        "",
        "  [200]\t23535 responses\n\nError distribution:\n  [3]\tGet http://127.0.0.1:1: connection refused",
    ],
)
def test_a_rate_of_failures_is_no_throughput(statuses: str) -> None:
    with pytest.raises(UserError, match="not every request"):
        closed_load.rate(HEY.format(statuses=statuses))


def test_the_relay_carries_every_byte_and_the_end_of_each_side() -> None:
    """The peer answers, backwards, only once it has seen the end of what it was sent."""
    payload = os.urandom(1 << 20)

    async def backwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        await writer.drain()
        writer.close()

    async def through() -> bytes:
        server = await asyncio.start_server(backwards, process.LOOPBACK, 0)
        port = process.free_port()
        upstream = f"{process.LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        relaying = asyncio.create_task(relay.relay(port, upstream))
        while True:
            try:
                reader, writer = await asyncio.open_connection(process.LOOPBACK, port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)
        writer.write(payload)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        relaying.cancel()
        server.close()
        return answer

    assert asyncio.run(asyncio.wait_for(through(), 120)) == payload[::-1]
