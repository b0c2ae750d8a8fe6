"""Day 12: the plugin's experiments on their stand-in, what a wrong plugin does to them, and the way to TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.plugins import contract, tensorrt

DAY = Path(__file__).parents[2] / "plans/week02/day12"
OPERATION = {"activation_op.cc": DAY / "activation_op.cc"}
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def changed(old: str, new: str) -> dict[str, str]:
    """The day's operation with one replacement."""
    text = (DAY / "activation_op.cc").read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    return {"activation_op.cc": text.replace(old, new)}


@pytest.mark.slow
def test_plugin_and_native_operator_are_right_before_they_are_timed(run_kind: RunKind) -> None:
    points = [{"op": "mish", "impl": impl} for impl in ("plugin", "native")]
    rows, _ = run_kind("plugin_latency", {"budget_s": 0.1}, points, OPERATION)
    for row in rows:
        assert row["metrics"]["max_abs_error"] < 1e-5
        assert row["spread"]["latency_p50_us"]["n"] >= 20


@pytest.mark.slow
def test_a_plugin_that_computes_something_else_is_not_timed(run_kind: RunKind) -> None:
    wrong = changed("return x * std::tanh(softplus(x));", "return x * softplus(x);")
    with pytest.raises(AssertionError, match="plugin mish: the result differs from mish in float64"):
        run_kind("plugin_latency", {}, [{"op": "mish", "impl": "plugin"}], wrong)


@pytest.mark.slow
def test_a_plugin_that_does_not_compile_is_told_with_its_line(run_kind: RunKind) -> None:
    with pytest.raises(AssertionError, match=r"activation_op\.cc:\d+: .*softplos"):
        run_kind("plugin_latency", {}, [{}], changed("std::tanh(softplus(x))", "std::tanh(softplos(x))"))


@pytest.mark.slow
def test_the_cache_is_filled_by_the_first_frame_and_gives_the_same_values(run_kind: RunKind) -> None:
    points = [{"cache": cache, "frame": "first"} for cache in ("off", "on")]
    rows, _ = run_kind("plugin_cache", {"sessions": 8}, points, OPERATION)
    plain, cached = (row["metrics"] for row in rows)
    assert cached["first_frame_us"] > cached["later_frame_p50_us"]  # it makes 65,538 values for the 8,192 it returns
    assert max(plain["max_abs_error"], cached["max_abs_error"]) < 1e-5


@pytest.mark.slow
def test_every_shape_is_followed_and_a_wrong_one_is_a_result(run_kind: RunKind, tmp_path: Path) -> None:
    points = [{"shape": shape} for shape in ("1x16", "32x7x5", "0x16")]
    rows, _ = run_kind("plugin_shapes", {}, points, OPERATION)
    assert [row["metrics"]["shape_ok_bool"] for row in rows] == [1, 1, 1]
    assert [row["metrics"]["error_class"] for row in rows] == [0, 0, 0]
    (tmp_path / "out" / "rows.jsonl").unlink()
    # OpenVINO passes over what evaluate throws, and answers with what the output held before
    shape = "outputs[0].set_shape(inputs[0].get_shape());"
    text = changed(shape, f'{shape} OPENVINO_ASSERT(inputs[0].get_size() != 57, "not three by nineteen");')
    check = "set_output_type(0, get_input_element_type(0), get_input_partial_shape(0));"
    refusing = f'NODE_VALIDATION_CHECK(this, get_input_partial_shape(0).size() == 2, "two axes only"); {check}'
    wrong = {"activation_op.cc": text["activation_op.cc"].replace(check, refusing)}
    three_axes, empty = run_kind("plugin_shapes", {}, points[1:], wrong)[0]
    assert (three_axes["metrics"]["shape_ok_bool"], three_axes["metrics"]["error_class"]) == (0, 1)
    assert "two axes only" in three_axes["note"]
    assert (empty["metrics"]["shape_ok_bool"], empty["metrics"]["error_class"]) == (0, 3)


@pytest.mark.slow
def test_saving_loses_nothing_and_a_forgotten_field_is_found(run_kind: RunKind, tmp_path: Path) -> None:
    rows, _ = run_kind("plugin_roundtrip", {}, [{"rounds": 3}], OPERATION)
    assert rows[0]["metrics"] == pytest.approx({"bytes_equal_bool": 1, "failures": 0, "max_abs_error": 0}, abs=1e-5)
    (tmp_path / "out" / "rows.jsonl").unlink()
    forgetful = changed('        visitor.on_attribute("kind", kind_);\n', "")
    rows, _ = run_kind("plugin_roundtrip", {}, [{"rounds": 1}], forgetful)
    assert rows[0]["metrics"]["max_abs_error"] > 0.1


@pytest.mark.slow
def test_a_cache_without_a_guard_gives_wrong_answers_to_some_instance(run_kind: RunKind, tmp_path: Path) -> None:
    params = {"seconds": 0.5, "shape": [8, 1024]}
    rows, _ = run_kind("plugin_instances", params, [{"instances": 4}], OPERATION)
    assert rows[0]["metrics"]["mismatches"] == 0
    assert rows[0]["metrics"]["throughput_rps"] > 0
    (tmp_path / "out" / "rows.jsonl").unlink()
    guard = "std::call_once(once_, [&] { table_ = std::make_unique<Table>(function); });"
    early = (  # seen half-made by the others; nothing is freed, so that they read wrong values and do not crash
        "if (!table_) { auto none = std::make_unique<Table>(nought); table_.swap(none); (void)none.release(); "
        "std::this_thread::sleep_for(std::chrono::milliseconds(20)); "
        "auto whole = std::make_unique<Table>(function); table_.swap(whole); (void)whole.release(); }"
    )
    racing = (
        changed(guard, early)["activation_op.cc"]
        .replace("inline float swish", "inline float nought(float) { return 0.0f; }\ninline float swish")
        .replace("#include <string>", "#include <string>\n#include <thread>")
    )
    rows, _ = run_kind("plugin_instances", params, [{"instances": 4}], {"activation_op.cc": racing})
    assert rows[0]["metrics"]["mismatches"] > 0


def test_without_a_gpu_the_native_way_is_passed_over_for_the_stand_in() -> None:
    native, stand_in = contract.needs(contract.Params())
    assert (native.backend, native.gpus, native.modules) == ("TensorRT", 1, ("tensorrt",))
    assert stand_in.stand_in_for == "TensorRT"


def test_the_library_is_built_of_both_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "NvInfer.h").touch()
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    monkeypatch.setenv("TENSORRT_HOME", str(tmp_path))
    headers = tensorrt.include()
    assert headers == tmp_path / "include"
    sources = [DAY / "my_relu_plugin.cc", DAY / "my_relu_plugin.cu"]
    command = tensorrt.command(sources, headers, tmp_path / "x.so")
    assert command[0] == str(nvcc)
    assert {"-shared", "-arch=native", f"-I{headers}", *map(str, sources)} <= set(command)


def test_missing_headers_are_named_with_their_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORRT_HOME", raising=False)
    monkeypatch.setattr(tensorrt, "PLACES", (str(tmp_path),))
    with pytest.raises(UserError, match=r"NvInfer\.h.*\n.*TENSORRT_HOME"):
        tensorrt.library([DAY / "my_relu_plugin.cc"], tmp_path)


def test_a_dynamic_axis_may_be_empty_and_a_fixed_one_stays() -> None:
    assert tensorrt.bounds((-1, 37)) == ((0, 37), (16, 37), (256, 37))
