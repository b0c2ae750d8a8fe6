"""Days 3 and 4: the digit networks in ONNX Runtime under witness, in OpenVINO, on the rehearsal stage of TensorRT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rehearsal_stage import ROOT, Stage

from tasks import api
from tasks.api import UserError
from tasks.catalog import KINDS
from tasks.engines import profile
from tasks.onnx import session, witness

INFER = ROOT / "plans/week01/day03/onnx_infer.py"
ENGINE_INFER = ROOT / "plans/week01/day04/tensorrt_infer.py"

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
FixtureFile = Callable[[str], Path]


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[str], Stage]:
    return lambda kind: Stage(tmp_path, kind, own_cache=False)  # the networks take seconds to train


@pytest.mark.parametrize(
    ("kind", "params", "backends"),
    [
        ("onnx_session", {}, ["ONNX Runtime"]),
        ("onnx_session", {"provider": "cuda"}, ["ONNX Runtime CUDA EP", "ONNX Runtime CPU EP"]),
        ("engine_precision", {}, ["TensorRT", "OpenVINO"]),
        ("engine_workspace", {}, ["TensorRT"]),
        ("engine_calibration", {}, ["TensorRT", "OpenVINO"]),
        ("engine_profile", {}, ["TensorRT", "OpenVINO"]),
        ("engine_loading", {}, ["TensorRT", "OpenVINO"]),
    ],
)
def test_what_has_a_stand_in_says_what_it_stands_for(kind: str, params: dict[str, Any], backends: list[str]) -> None:
    needs = KINDS[kind].needs(KINDS[kind].Params.model_validate(params))
    assert [need.backend for need in needs] == backends
    assert [need.stand_in_for for need in needs] == ["", backends[0]][: len(backends)]
    assert needs[0].gpus == (0 if backends == ["ONNX Runtime"] else 1)


@pytest.mark.parametrize("text", ["min:8 opt:1 max:64", "min:0 opt:1 max:2", "1 8 64", "min:1 opt:8 max:x"])
def test_a_profile_that_makes_no_sense_is_refused_by_name(text: str) -> None:
    assert profile.parse("min:1 opt:8 max:64") == (1, 8, 64)
    with pytest.raises(UserError, match="is not 'min:A opt:B max:C'") as told:
        profile.parse(text)
    assert text in str(told.value)


def test_a_session_that_fell_back_to_the_cpu_is_not_taken_for_cuda(tmp_path: Path) -> None:
    fell_back = witness.Session("all", 1, ["CPUExecutionProvider"], 1.0, [(1, 0.1)] * 100)
    account = witness.Account(0, "", "", [fell_back], 1.0)
    params, point = session.Params(provider="cuda"), session.Point(opt_level="all")
    work = api.Context(day=tmp_path, scratch=tmp_path, settings={}, backend=session.CUDA)
    with pytest.raises(UserError, match="fell back to CPUExecutionProvider"):
        session.trusted(account, point, params, work)
    assert session.trusted(account, point, params, replace(work, backend=session.CPU)) is fell_back


@pytest.mark.slow
def test_the_days_script_runs_at_each_opset_and_the_model_is_delivered(run_kind: RunKind, run_check: Any) -> None:
    points = [{"opset": 13, "opt_level": "disable_all"}, {"opset": 17, "opt_level": "all"}]
    params = {"deliver": "mlp.onnx", "seconds": 0.1, "batch": 32, "both_exporters": True}
    rows, out = run_kind("onnx_session", params, points, {"onnx_infer.py": INFER})
    old, new = (row["metrics"] for row in rows)
    assert max(old["max_abs_error"], new["max_abs_error"]) <= 1e-4
    assert old["accuracy"] == new["accuracy"] > 0.9
    assert (old["dynamo_opset"], new["dynamo_opset"]) == (18, 17), "the newer exporter cannot go down to 13"
    assert rows[0]["spread"]["latency_p50_ms"]["n"] >= 20
    assert run_check("digits_onnx", out.parent / "day/mlp.onnx")["ok"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "point", "says"),
    [
        ("one_level", {"opt_level": "basic"}, "its session ran at all, not at basic"),
        ("smallest_logit", {}, "it names other digits than torch"),
        ("crashes", {}, "onnx_infer.py: it ended with 1: cannot"),
    ],
)
def test_a_script_that_does_something_else_is_not_timed(
    run_kind: RunKind, fixture_file: FixtureFile, script: str, point: dict[str, Any], says: str
) -> None:
    own = fixture_file(f"onnx_script/bad/{script}")
    with pytest.raises(AssertionError, match=says):
        run_kind("onnx_session", {"seconds": 0.1}, [point], {"onnx_infer.py": own})


@pytest.mark.slow
def test_an_unknown_operator_fails_at_export_and_a_translated_one_runs(run_kind: RunKind) -> None:
    points = [{"activation": name} for name in ("custom_op+symbolic", "custom_op", "autograd_function")]
    rows, out = run_kind("onnx_custom", {}, points)
    cured, unknown, seen_through = (row["metrics"] for row in rows)
    assert (unknown["export_ok_bool"], unknown["run_ok_bool"], unknown["error_class"]) == (0, 0, 1)
    assert unknown["dynamo_error_class"] == 1
    assert "UnsupportedOperatorError" in rows[1]["note"]
    assert "infra90::relu" in rows[1]["note"]
    assert cured["run_ok_bool"] == cured["dynamo_run_ok_bool"] == seen_through["run_ok_bool"] == 1
    assert cured["own_domain_run_ok_bool"] == 0
    errors = json.loads((out / "errors.json").read_text(encoding="utf-8"))
    assert errors["custom_op+symbolic"]["own_domain"]["exported"]
    assert "is not a registered function/op" in errors["custom_op+symbolic"]["own_domain"]["error"]


@pytest.mark.slow
def test_folding_leaves_fewer_nodes_and_both_graphs_are_drawn(run_kind: RunKind) -> None:
    rows, out = run_kind("onnx_folding", {}, [{"constant_folding": "off"}, {"constant_folding": "on"}])
    off, on = (row["metrics"] for row in rows)
    assert on["node_count"] < off["node_count"]
    assert on["initializer_count"] < off["initializer_count"]
    assert on["runtime_node_count"] == off["runtime_node_count"]
    for row, name in zip((off, on), ("off", "on"), strict=True):
        drawn = (out / f"graph-folding-{name}.svg").read_text(encoding="utf-8")
        assert drawn.count('rx="6"') == row["node_count"], "one box for each node"


@pytest.mark.slow
def test_openvino_tells_what_it_ran_in_and_keeps_the_accuracy(run_kind: RunKind) -> None:
    points = [{"precision": name} for name in ("fp32", "int8")]
    rows, out = run_kind("engine_precision", {"budget_s": 0.1, "calibration_images": 100}, points)
    full, eight = rows
    assert "f32" in full["note"]
    assert "8" in eight["note"].rpartition(",")[2], "the precision is read from the compiled model"
    assert abs(full["metrics"]["accuracy_pct"] - eight["metrics"]["accuracy_pct"]) <= 2
    assert eight["metrics"]["engine_size_kb"] < full["metrics"]["engine_size_kb"]
    assert not list((out.parent / "day").glob("*.engine")), "what OpenVINO made is no engine of TensorRT"


@pytest.mark.slow
def test_calibration_counts_its_real_and_its_varied_digits(run_kind: RunKind) -> None:
    points = [{"calib_samples": 50, "granularity": "per-tensor"}, {"calib_samples": 1400, "granularity": "per-channel"}]
    rows, _ = run_kind("engine_calibration", {"budget_s": 0.1}, points)
    assert rows[0]["note"].startswith("50 real digits and 0 varied copies")
    assert rows[1]["note"].startswith("1297 real digits and 103 varied copies")
    assert all("i8" in row["note"] for row in rows)
    assert rows[0]["metrics"]["max_rel_error"] != rows[1]["metrics"]["max_rel_error"]


@pytest.mark.slow
def test_an_imported_engine_answers_right_in_a_fresh_process(run_kind: RunKind) -> None:
    rows, _ = run_kind("engine_loading", {"network": "cnn", "starts": 1}, [{"start": "deserialize"}])
    assert rows[0]["metrics"]["deserialize_ms"] > 0
    assert rows[0]["metrics"]["engine_size_kb"] > 50


@pytest.mark.slow
def test_tensorrt_engines_are_kept_and_the_days_script_runs_them(stage: Callable[[str], Stage]) -> None:
    on = stage("engine_precision")
    shutil.copy(ENGINE_INFER, on.day)
    params = {"budget_s": 0.05, "calibration_images": 100}
    rows = on.run(params, [{"precision": name} for name in ("fp16", "int8")])
    assert min(row["accuracy_pct"] for row in rows) > 90
    built = on.calls("build_serialized_network")
    assert [one["profiles"] for one in built] == [[{"input": [[n, 1, 28, 28] for n in (1, 8, 64)]}]] * 2
    for name in ("fp16", "int8"):
        verdict = on.check("digits_engine", f"mlp_{name}.engine", {"precision": name})
        assert verdict["ok"], verdict["message"]
    (on.day / "mlp_int8.engine").write_bytes((on.day / "mlp_fp16.engine").read_bytes())
    assert "no layer shows INT8" in on.check("digits_engine", "mlp_int8.engine", {"precision": "int8"})["message"]


@pytest.mark.slow
def test_an_engine_is_not_kept_when_the_days_script_gets_other_logits(
    stage: Callable[[str], Stage], fixture_file: FixtureFile
) -> None:
    on = stage("engine_precision")
    shutil.copy(fixture_file("engine_script/bad/other_images"), on.day)
    done = on.drive("drive.py", on.kind, '{"budget_s": 0.05}', '[{"precision": "fp32"}]')
    assert "tensorrt_infer.py: its logits differ" in done.stderr
    assert not list(on.day.glob("*.engine"))


@pytest.mark.slow
def test_workspace_limits_reach_tensorrt_and_tactics_are_listed(stage: Callable[[str], Stage]) -> None:
    on = stage("engine_workspace")
    [row] = on.run({"network": "cnn", "budget_s": 0.05}, [{"workspace_mb": 64}])
    assert [call["size"] for call in on.calls("set_memory_pool_limit")] == [1024 << 20, 64 << 20]
    assert (row["tactic_ids"], row["tactic_changes"]) == (1, 0)
    told = json.loads((on.folder / "out/tactics.json").read_text(encoding="utf-8"))
    assert (
        told["64"]
        == told["1024"]
        == [{"layer": "input", "tactic": "rehearsed"}, {"layer": "logits", "tactic": "rehearsed"}]
    )


@pytest.mark.slow
def test_one_profile_serves_the_whole_sweep(stage: Callable[[str], Stage]) -> None:
    on = stage("engine_profile")
    rows = on.run({"network": "cnn", "budget_s": 0.05}, [{"batch": 1}, {"batch": 64}])
    [built] = on.calls("build_serialized_network")
    assert built["profiles"] == [{"input": [[n, 1, 28, 28] for n in (1, 8, 64)]}]
    assert min(row["throughput_samples_s"] for row in rows) > 0


@pytest.mark.slow
def test_a_deserializing_start_builds_nothing(stage: Callable[[str], Stage]) -> None:
    on = stage("engine_loading")
    on.run({"network": "cnn", "starts": 1}, [{"start": "build"}, {"start": "deserialize"}])
    assert len(on.calls("build_serialized_network")) == 2, "the kept one and the start that builds"
    assert len(on.calls("deserialize_cuda_engine")) == 3
