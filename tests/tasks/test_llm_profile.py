"""Profiles of a language model: traces and nsys summaries read, the roofline's arithmetic, the chart read back."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from tasks import api
from tasks.checks import bottleneck_chart
from tasks.llm import bottleneck_picture, bottlenecks, compiled, mlc, operators, profile, profile_child, roofline
from tasks.llm.roofline import Roof
from tasks.models.shape import Shape

NSYS = """Generating SQLite file report.sqlite from report.nsys-rep
Processing [report.sqlite] with [/opt/nvidia/nsight-systems/host-linux-x64/reports/cuda_gpu_kern_sum.py]...

 ** CUDA GPU Kernel Summary (cuda_gpu_kern_sum):

Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
80.0,8000000,100,80000.0,79000.0,70000,99000,120.5,"void cutlass::Kernel2<cutlass_80_tensorop_bf16, int>(T1::Params)"
20.0,2000000,50,40000.0,40000.0,39000,41000,10.0,"flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<(int)128>>"
"""
ROOF = Roof(flops=200e9, bytes=20e9)
SHAPE = Shape(
    layers=8, hidden=1024, heads=16, kv_heads=4, head_dim=64, intermediate=2816, vocab=512, parameters=90_000_000
)


def trace(file: Path, events: list[dict[str, Any]]) -> Path:
    whole = {"traceEvents": [{"ph": "M", "name": "process_name"}, *events]}
    with gzip.open(file, "wt", encoding="utf-8") as out:
        json.dump(whole, out)
    return file


def event(name: str, ts: float, dur: float, cat: str = "cpu_op", tid: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 1, "tid": tid}


def test_time_of_what_an_operator_calls_is_not_its_own(tmp_path: Path) -> None:
    file = trace(tmp_path / "t.json.gz", [
        event("aten::linear", 0, 100), event("aten::t", 5, 10), event("_C::onednn_mm", 20, 70),
        event("aten::silu", 100, 40), event("aten::linear", 10, 30, tid=2), event("step", 0, 500, "annotation"),
    ])  # fmt: skip
    found = {one.name: (one.calls, one.self_ms) for one in operators.of_trace(file)}
    assert found == {
        "_C::onednn_mm": (1, 0.07), "aten::linear": (2, 0.05), "aten::silu": (1, 0.04), "aten::t": (1, 0.01),
    }  # fmt: skip


def test_a_trace_of_a_gpu_is_read_by_its_kernels(tmp_path: Path) -> None:
    file = trace(tmp_path / "t.json.gz", [event("aten::mm", 0, 50), event("nvjet_tst_128x64", 60, 30, "kernel", 7)])
    assert [one.name for one in operators.of_trace(file)] == ["nvjet_tst_128x64"]


def test_a_trace_without_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(api.UserError, match=r"t\.json\.gz: the trace holds no operators"):
        operators.of_trace(trace(tmp_path / "t.json.gz", []))


def test_the_kernel_summary_of_nsys_is_read() -> None:
    found = operators.of_nsys(NSYS)
    assert [(one.family, one.calls, one.self_ms) for one in found] == [("gemm", 100, 8.0), ("attention", 50, 2.0)]
    shares = operators.shares_pct(found)
    assert shares["gemm"] == 80
    assert sum(shares.values()) == pytest.approx(100)
    with pytest.raises(api.UserError, match="nsys stats lists no CUDA kernels"):
        operators.of_nsys("SKIPPED: report.sqlite does not contain CUDA kernel data.\n")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("_C::cpu_attention_with_kv_cache", "attention"), ("vllm::unified_kv_cache_update", "cache"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "cache"),
        ("_C::onednn_mm", "gemm"), ("aten::addmm", "gemm"), ("_C::rms_norm", "norm"), ("_C::rotary", "rotary"),
        ("_C::silu_and_mul", "activation"), ("aten::argmax", "sampling"), ("aten::mul", "elementwise"),
        ("void at::native::vectorized_elementwise_kernel<4>", "elementwise"), ("aten::index_select", "other"),
    ],
)  # fmt: skip
def test_operators_are_sorted_into_families(name: str, family: str) -> None:
    assert operators.Operator(name, 1, 1.0).family == family


def test_the_table_of_operators_adds_up(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    operators.write(operators.of_nsys(NSYS), file)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "operator,family,calls,self_ms,share_pct"
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["80.00", "20.00"]


def test_nsys_is_wrapped_around_the_same_load(tmp_path: Path) -> None:
    plain = profile.command(tmp_path / "plan.json", tmp_path / "report", nsight=False)
    wrapped = profile.command(tmp_path / "plan.json", tmp_path / "report", nsight=True)
    assert plain[1:3] == ["-m", profile_child.__name__]
    assert wrapped[-len(plain) :] == plain
    assert wrapped[:2] == ["nsys", "profile"]
    assert {"--capture-range=cudaProfilerApi", f"--output={tmp_path / 'report'}"} < set(wrapped)
    native, stand_in = profile.needs(profile.Params())
    assert (native.binaries, native.gpus, native.stand_in_for) == (("nsys",), 1, "")
    assert stand_in.stand_in_for == "Nsight Systems"


def test_an_engine_that_dies_says_its_last_words(tmp_path: Path) -> None:
    plan = {"model": "/nowhere", "phases": []}
    with pytest.raises(api.UserError, match=r"the profiled engine ended with 1(.|\n)*(KeyError|ModuleNotFoundError)"):
        profile.captured(plan, tmp_path / "work", nsight=False)


def test_an_engine_that_hangs_is_given_up_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(60)"]
    monkeypatch.setattr(profile, "command", lambda *given, **how: hanging)
    monkeypatch.setattr(profile, "TIMEOUT_S", 3.0)
    with pytest.raises(api.UserError, match=r"not done after 3 s:\nloading"):
        profile.captured({}, tmp_path / "work", nsight=False)


def test_a_phase_without_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(api.UserError, match="vLLM wrote no trace of decode"):
        profile.of_phase(tmp_path, "decode", nsight=False)


def test_the_ridge_decides_what_bounds_a_pass() -> None:
    assert ROOF.ridge == 10
    decode = roofline.placed(ROOF, flops=2e8, moved=2e8, latency_ms=20)
    assert (decode["memory_bound_ok"], decode["roof_gflops"], decode["of_roof_pct"]) == (1, 20, 50)
    prefill = roofline.placed(ROOF, flops=4e10, moved=2e8, latency_ms=250)
    assert (prefill["memory_bound_ok"], prefill["roof_gflops"], prefill["of_roof_pct"]) == (0, 200, 80)


def test_a_decoding_step_moves_the_weights_and_a_batch_shares_them() -> None:
    one = roofline.least_bytes(SHAPE, roofline.Point(phase="decode", batch=1), 256)
    eight = roofline.least_bytes(SHAPE, roofline.Point(phase="decode", batch=8), 256)
    weights = 2 * (8 * (2 * 1024 * 64 * 20 + 3 * 1024 * 2816) + 512 * 1024)
    assert weights < one < 1.05 * weights
    assert eight < 1.2 * one
    prefill = roofline.least_bytes(SHAPE, roofline.Point(phase="prefill", batch=1), 256)
    cache = 2 * 256 * 2 * 8 * 4 * 64  # 2 bytes for each of 256 tokens' keys and values: 8 layers, 4 heads of 64
    activations = 256 * 8 * 2 * (4 * 1024 + 3 * 2816 + 2 * 64 * 16)
    assert prefill == weights + 2 * cache + activations  # the cache is written and read


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows as the two experiments record them."""
    placed = {
        ("prefill", 1): roofline.placed(ROOF, 4e10, 2e8, 250), ("decode", 1): roofline.placed(ROOF, 2e8, 2e8, 20),
    }  # fmt: skip
    phases = [{"point": {"phase": phase, "batch": batch}, "metrics": found} for (phase, batch), found in placed.items()]
    shares = {f"{family}_share_pct": share for family, share in operators.shares_pct(operators.of_nsys(NSYS)).items()}
    return phases, [{"point": {"phase": "prefill"}, "metrics": shares}]


def test_the_chart_is_read_back_and_a_forged_one_is_found(tmp_path: Path) -> None:
    file, (phases, capture) = tmp_path / "chart.svg", rows()
    bottleneck_picture.draw(phases, capture, file, "test")
    wanted = bottleneck_picture.expected(phases, capture)
    assert bottleneck_picture.labels(file) == wanted
    assert bottleneck_picture.panels(file) == 2
    assert "decode ×1: memory-bound, 1 FLOP/byte, 10 GFLOP/s" in wanted
    assert "prefill gemm 80.0 %" in wanted
    file.write_text(file.read_text(encoding="utf-8").replace("memory-bound", "compute-bound"), encoding="utf-8")
    with pytest.raises(api.UserError, match="do not agree with the records"):
        bottlenecks.refuse(bottleneck_picture.labels(file), wanted)


def test_the_chart_is_where_its_checker_looks_for_it(tmp_path: Path) -> None:
    day, out = tmp_path / "day", tmp_path / "out"
    day.mkdir()
    out.mkdir()
    records = sorted((ROOT / "tests/resources/records/four_weeks").glob("*/experiments/*/record.json"))
    given: dict[str, Any] = {"scratch": tmp_path, "settings": {}, "records": records}
    bottlenecks.run(
        bottlenecks.Params(), api.Context(day=day, out=out, spec="s", points=[bottlenecks.Point()], **given)
    )
    [row] = api.read_rows(out / "rows.jsonl", "s")
    found = bottleneck_chart.check(day / bottlenecks.CHART, bottleneck_chart.Params(), api.Workspace(day=day, **given))
    assert found.ok, found.message
    assert found.evidence["labels"] == row["metrics"]["labels_count"]


def test_mlc_llm_is_asked_to_convert_configure_and_compile(tmp_path: Path) -> None:
    convert, configure, compile_ = mlc.commands(Path("/m"), tmp_path, "q0f32", "cuda")
    assert convert[2:] == [
        "mlc_llm",
        "convert_weight",
        "/m",
        "--quantization",
        "q0f32",
        "--output",
        f"{tmp_path}/model",
    ]
    assert configure[configure.index("--conv-template") + 1] == "chatml_nosystem"
    assert compile_[3:5] == ["compile", f"{tmp_path}/model/mlc-chat-config.json"]
    native, stand_in = compiled.needs(compiled.Params())
    assert native.modules == ("mlc_llm",)
    assert (stand_in.stand_in_for, stand_in.binaries) == ("MLC-LLM", ("g++",))


ENGINE = """
from types import SimpleNamespace as Some

class MLCEngine:
    def __init__(self, model, device, model_lib):
        self.chat = Some(completions=self)

    def create(self, messages, temperature, max_tokens, stream):
        answer = Some(message=Some(content=messages[0]["content"].upper()))
        return Some(choices=[answer], usage=Some(completion_tokens=max_tokens))

    def terminate(self):
        print("engine stopped")
"""


def test_mlc_llms_engine_is_asked_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlc_llm.py").write_text(ENGINE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setattr(mlc, "commands", lambda *given: [])
    found = mlc.compiled(Path("/m"), tmp_path / "work", "q0f32", "cpu", 8)
    assert found.texts == [prompt.upper() for prompt in mlc.prompts()]
    assert found.rate > 0
    (tmp_path / "mlc_llm.py").write_text("raise SystemExit('no such library')", encoding="utf-8")
    with pytest.raises(api.UserError, match="MLC-LLM failed: no such library"):
        mlc.compiled(Path("/m"), tmp_path / "work", "q0f32", "cpu", 8)
