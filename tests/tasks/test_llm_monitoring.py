"""vLLM and the GPU under Prometheus: the dashboard's panels, the exporter's page, what is missing is named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import api
from tasks.catalog import KINDS
from tasks.observability import configuration, dcgm, live, llm_dashboard, llm_live
from tasks.services import prometheus

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
PLAN = Path(__file__).parents[2] / "plans" / "four_weeks"
BOARD = PLAN / "days-11-14" / "vllm_dashboard.json"
WATCH = PLAN / "days-8-10"

# a page of dcgm-exporter 4.2 on an H100 (shortened)
PAGE = """# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 100
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 8645
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 412.5
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 0.97
# TYPE DCGM_FI_PROF_PIPE_TENSOR_ACTIVE gauge
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 0.62
"""
DRAM = 'DCGM_FI_PROF_DRAM_ACTIVE{gpu="0",UUID="GPU-6a",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 0.31\n'
OTHER = 'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-00",device="nvidia0",modelName="NVIDIA H100 80GB HBM3"} 3\n'
EXPORTER = """#!/usr/bin/env python3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
host, _, port = sys.argv[sys.argv.index("-a") + 1].partition(":")
page = open(__file__ + ".page", "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)
HTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture
def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A `dcgm-exporter` first on PATH that serves a given page."""
    script = tmp_path / "bin" / dcgm.EXPORTER
    script.parent.mkdir()
    script.write_text(EXPORTER, encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return lambda page: script.with_name(script.name + ".page").write_text(page, encoding="utf-8") and None


def watched(tmp_path: Path) -> dict[str, float]:
    """The exporter under a real Prometheus with the day's own configuration, for two seconds."""
    config = configuration.load(WATCH / "prometheus.yaml")
    with dcgm.exporter(WATCH / "dcgm_counters.csv", tmp_path / "exporter.log") as address:
        placed = configuration.placed(config, WATCH, {dcgm.JOB: address}, interval_s=0.5)
        with prometheus.configured(placed, tmp_path / "prometheus") as watcher:
            prometheus.await_targets(watcher, 1, 120)
            start = time.time()
            while watcher.query('count_over_time(up{job="dcgm"}[1m])')[0].samples[0][1] < 4:
                time.sleep(0.1)
            return dcgm.seen(watcher, start, time.time(), "GPU-6a")


def test_the_gpus_counters_are_read_through_the_days_configuration(
    exporter: Callable[[str], None], tmp_path: Path
) -> None:
    exporter(OTHER + PAGE + DRAM)
    found = watched(tmp_path)
    assert found["gpu_util_pct"] == 100  # of the GPU that was put to work, not of the host's first
    assert found["dram_active_pct"] == pytest.approx(31)
    assert found["sm_active_pct"] == pytest.approx(97)
    assert found["series_count"] == 7
    assert set(found) == set(dcgm.METRICS)


def test_a_counter_that_the_gpu_does_not_give_is_named(exporter: Callable[[str], None], tmp_path: Path) -> None:
    exporter(PAGE)
    with pytest.raises(api.UserError, match=r"gives no DCGM_FI_PROF_DRAM_ACTIVE\n.*need a data-centre GPU"):
        watched(tmp_path)


def test_dcgm_needs_a_gpu_and_its_exporter_and_asks_for_the_days_counters() -> None:
    (need,) = dcgm.needs(dcgm.Params())
    assert need.gpus == 1
    assert dcgm.EXPORTER in need.binaries
    words = dcgm.argv(WATCH / "dcgm_counters.csv", "127.0.0.1:9400")
    assert words[1:5] == ["-f", str(WATCH / "dcgm_counters.csv"), "-a", "127.0.0.1:9400"]
    asked = (WATCH / "dcgm_counters.csv").read_text(encoding="utf-8")
    assert all(query.split()[-1] in asked for query in dcgm.QUERIES.values())


def test_every_panel_of_the_dashboard_is_live_on_a_recorded_load(tmp_path: Path) -> None:
    panels = llm_dashboard.read(BOARD)
    with live.vllm() as address, prometheus.serve({llm_live.JOB: address}, tmp_path / "prometheus") as watcher:
        quiet = llm_live.Window(watcher, time.time(), time.time())
        while watcher.query("count_over_time(up[1m])")[0].samples[0][1] < 16:
            time.sleep(0.1)
        busy = llm_live.Window(watcher, quiet.end, time.time())
        curves = {title: {name: busy.curve(query) for name, query in own.items()} for title, own in panels.items()}
    assert len(panels) == 6
    for title, own in curves.items():
        assert all(own.values()), title
    left = llm_dashboard.within(curves["KV cache left"]["left"], busy)
    assert min(left) < 0.6


def test_a_dashboard_without_the_panel_or_no_dashboard_at_all_is_refused(tmp_path: Path) -> None:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    board["panels"] = [panel for panel in board["panels"] if "KV" not in panel["title"]]
    file = tmp_path / "board.json"
    file.write_text(json.dumps(board), encoding="utf-8")
    with pytest.raises(api.UserError, match="no panel asks for vllm:kv_cache_usage_perc"):
        llm_dashboard.panel_of(llm_dashboard.read(file), llm_dashboard.Point(panel="kv_cache"), file.name)
    file.write_text('{"panels": [', encoding="utf-8")
    with pytest.raises(api.UserError, match=r"board\.json:1: is not JSON"):
        llm_dashboard.read(file)
    with pytest.raises(api.UserError, match="cannot be read"):
        llm_dashboard.read(tmp_path / "none.json")


def test_a_curve_that_the_load_does_not_move_is_not_live() -> None:
    assert llm_dashboard.shows([0, 0], [0, 3])
    assert llm_dashboard.shows([1, 1], [0.4, 1])
    assert not llm_dashboard.shows([0, 1], [0, 1])
    assert not llm_dashboard.shows([], [1])


@pytest.mark.slow
def test_prometheus_and_the_client_count_the_same_tokens_and_the_load_shows(run_kind: RunKind) -> None:
    files = {"prometheus.yaml": WATCH / "prometheus.yaml"}
    rows, _ = run_kind("llm_metrics", {"requests": 48, "idle_s": 2.0}, [{"load": "idle"}, {"load": "loaded"}], files)
    idle, loaded = (row["metrics"] for row in rows)
    assert idle["running_max"] == idle["tokens_by_prometheus"] == 0
    assert loaded["tokens_by_prometheus"] == loaded["tokens_by_client"] == 48 * 96
    assert loaded["running_max"] > 4
    assert loaded["waiting_max"] > 0
    assert set(loaded) == set(KINDS["llm_metrics"].METRICS)
