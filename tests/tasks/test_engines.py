"""Engines: TensorRT rehearsed on a recording stage, OpenVINO for real, and what runs where."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rehearsal_stage import STAGE, Stage

from runner import environments
from tasks.api import UserError
from tasks.engines import build, script, tensorrt

ROOT = Path(__file__).parents[2]
SERVED = [[1, 32], [8, 128], [32, 512]]
REFERENCE = ROOT / "plans/week03/day15/tensorrt_tactic_test.py"

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
RunCheck = Callable[..., dict[str, Any]]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("measure", "backends"),
    [
        ("workspace", ["TensorRT"]),
        ("tactics", ["TensorRT"]),
        ("across_gpus", ["TensorRT"]),
        ("cold_start", ["TensorRT", "OpenVINO"]),
        ("batch_load", ["TensorRT", "OpenVINO"]),
        ("runtimes", ["TensorRT", "OpenVINO"]),
        ("precisions", ["TensorRT", "OpenVINO"]),
    ],
)
def test_only_questions_with_an_equivalent_have_a_stand_in(measure: Any, backends: list[str]) -> None:
    needs = build.needs(build.Params(measure=measure))
    assert [need.backend for need in needs] == backends
    assert [need.tier for need in needs] == ["native", "stand-in"][: len(backends)]
    assert needs[0].modules == ("tensorrt",)
    wanted = 2 if measure == "across_gpus" else 1
    assert (needs[0].gpus, needs[0].gpu_models) == (wanted, wanted)


def test_layers_that_are_fused_differently_count_as_tactic_changes() -> None:
    def layers(**tactics: str) -> list[dict[str, str]]:
        return [{"layer": name, "tactic": tactic} for name, tactic in tactics.items()]

    assert script.tactic_changes(layers(a="1", b="2"), layers(a="1", b="2")) == 0
    assert script.tactic_changes(layers(a="1", b="9"), layers(a="1", b="2")) == 1
    assert script.tactic_changes(layers(ab="3"), layers(a="1", b="2")) == 3


class Trt10:
    TacticSource = type("T", (), {"__members__": {"CUBLAS": 0, "CUBLAS_LT": 1, "CUDNN": 2, "JIT_CONVOLUTIONS": 4}})


class Trt11:
    TacticSource = type("T", (), {"__members__": {"EDGE_MASK_CONVOLUTIONS": 0, "JIT_CONVOLUTIONS": 1}})


@pytest.mark.parametrize(
    ("library", "masks"), [(Trt10, (0b10111, 0b10100, 0b10011, 0)), (Trt11, (0b11, 0b11, 0b11, 0))]
)
def test_tactic_masks_know_which_sources_a_version_has(library: Any, masks: tuple[int, ...]) -> None:
    wanted = ("all", "no_cublas", "no_cudnn", "none")
    assert tuple(tensorrt.tactic_mask(library, name) for name in wanted) == masks


@pytest.mark.slow
def test_runtimes_keeps_an_engine_that_covers_the_served_shapes(stage: Stage) -> None:
    ort, engine = stage.run({"measure": "runtimes", "budget_s": 0.05}, [{"runtime": "ort"}, {"runtime": "tensorrt"}])
    assert ort["max_abs_error"] < 1e-4
    assert engine["max_abs_error"] < 1e-4
    assert (stage.day / "bert.engine").stat().st_size > 1000
    [built] = stage.calls("build_serialized_network")
    assert built["detailed"]
    assert built["profiles"] == [{"input_ids": SERVED, "attention_mask": SERVED}]
    assert stage.calls("create_network")[0]["flags"] == 0b10, "TensorRT 10 must be asked for strong typing"


@pytest.mark.slow
def test_precisions_are_written_into_the_onnx_file(stage: Stage) -> None:
    points = [{"precision": "fp16"}, {"precision": "int8"}]
    half, eight = stage.run({"measure": "precisions", "budget_s": 0.05, "calibration_texts": 20}, points)
    assert half["output_cosine"] > 0.999
    assert eight["output_cosine"] > 0.95
    assert half["output_cosine"] != eight["output_cosine"]
    assert {"accuracy", "accuracy_fp32", "engine_size_mb"} <= eight.keys()


@pytest.mark.slow
def test_cold_start_reuses_the_serialized_engine_and_the_timings(stage: Stage) -> None:
    points = [{"engine_cache": "off"}, {"engine_cache": "on"}]
    off, on = stage.run({"measure": "cold_start", "starts": 2}, points)
    assert off["cache_bytes"] == 0 < on["cache_bytes"]
    assert len(stage.calls("build_serialized_network")) == 2 + 1, "two cold builds and the one that fills the cache"
    assert len(stage.calls("set_timing_cache")) == 1


@pytest.mark.slow
def test_workspace_times_the_engines_of_the_days_own_script(stage: Stage) -> None:
    shutil.copy(STAGE / "own_script.py", stage.day / "tensorrt_tactic_test.py")
    small, large = stage.run({"measure": "workspace", "budget_s": 0.05}, [{"workspace_mb": 64}, {"workspace_mb": 1024}])
    assert (small["tactic_changes"], large["tactic_changes"]) == (1, 0)
    assert small["build_time_s"] == 1.5
    assert small["latency_p50_ms"] > 0.001, "the script's own latency is not taken on trust"
    assert {call["size"] for call in stage.calls("set_memory_pool_limit")} == {64 << 20, 1024 << 20}


@pytest.mark.slow
def test_across_gpus_records_whether_it_loads_and_asks_for_compatibility(stage: Stage) -> None:
    points = [{"gpu": gpu, "hardware_compat": wish} for wish in ("off", "on") for gpu in ("build_gpu", "other_gpu")]
    rows = stage.run({"measure": "across_gpus", "budget_s": 0.05}, points)
    assert [row["load_ok_bool"] for row in rows] == [1, 1, 1, 1]
    assert not any(math.isnan(row["latency_p50_ms"]) for row in rows)
    assert [call["hardware_compat"] for call in stage.calls("build_serialized_network")] == [0, 1]


@pytest.mark.slow
def test_reference_script_passes_and_refuses_clearly_without_tensorrt(run_check: RunCheck) -> None:
    assert run_check("tactic_script", REFERENCE)["ok"]
    python = environments.provision(ROOT, "torch", "managed", print)
    done = subprocess.run([str(python), str(REFERENCE), "--onnx", "x.onnx"], capture_output=True, text=True)
    if done.returncode:  # on a machine with TensorRT it would look for the file instead
        assert done.returncode == 3
        assert done.stderr.startswith("tensorrt_tactic_test: TensorRT")


def test_engine_check_fails_without_an_engine_or_its_source(tmp_path: Path) -> None:
    from tasks import api
    from tasks.checks import tensorrt_engine

    work = api.Workspace(day=tmp_path, scratch=tmp_path, settings={})
    engine = tmp_path / "bert.engine"
    assert "missing or empty" in tensorrt_engine.check(engine, tensorrt_engine.Params(), work).message
    engine.write_bytes(b"something")
    verdict = tensorrt_engine.check(engine, tensorrt_engine.Params(), work)
    assert not verdict.ok
    assert "bert.onnx" in verdict.message


def test_a_baseline_in_another_precision_is_refused() -> None:
    from tasks.engines import ort
    from tasks.engines.contract import Build

    with pytest.raises(UserError, match="fp32, not int8"):
        ort.build(Build(Path("x.onnx"), Path("."), "int8"))
