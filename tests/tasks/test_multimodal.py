"""Pictures in and out: what is held out, what is refused, and real servers that describe and paint."""

from __future__ import annotations

import base64
import itertools
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import preflight
from tasks.api import UserError
from tasks.models import diffusion_parts, scenes, vlm, vlm_files, vlm_lessons
from tasks.models.scenes import Place, Thing
from tasks.multimodal import exam, omni, seeing
from tasks.services.llm import vllm

ROOT = Path(__file__).resolve().parents[2]
DAY = ROOT / "plans" / "four_weeks" / "days-26-28"
TINY = ("tiny-vlm", "tiny-diffusion")
MODELS = ROOT / "conf" / "model"
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def test_no_training_picture_shows_a_held_out_scene() -> None:
    taught = {scene.caption for scene in scenes.TAUGHT}
    asked = {example.scene.caption for example in scenes.held_out(200, 90)}
    assert len(asked) > 20
    assert not taught & asked


def test_pictures_of_one_scene_differ_and_a_seed_repeats_them() -> None:
    one, two = (list(itertools.islice(scenes.examples(scenes.HELD_OUT[:1], random.Random(3)), 4)) for _ in range(2))
    drawn = [example.picture.tobytes() for example in one]
    assert drawn == [example.picture.tobytes() for example in two]
    assert len(set(drawn)) == 4


def test_a_patch_is_covered_by_the_thing_that_lies_on_it() -> None:
    thing = Thing("blue", "cross")
    found = vlm_lessons.covering((Place(thing, 20.0, 12.0, 6.0),), patch=8)
    nothing = len(scenes.THINGS)
    assert [index for index, label in enumerate(found) if label != nothing] == [6]  # second row, third column
    assert found[6] == scenes.THINGS.index(thing)


def test_a_colour_is_asked_only_of_a_shape_that_is_there_once() -> None:
    twice = next(scene for scene in scenes.PAIRS if scene.second and scene.first.shape == scene.second.shape)
    once = next(scene for scene in scenes.PAIRS if scene.second and scene.first.shape != scene.second.shape)
    assert [question.task for question in vlm_files.questions(twice)] == ["describe"]
    assert [question.task for question in vlm_files.questions(once)] == ["describe", "colour", "colour"]


def test_an_answer_is_right_whatever_its_capitals_and_full_stop() -> None:
    asked = exam.Asked("describe", b"", "describe the picture", "a red circle above a blue cross")
    assert asked.right("A red circle above\na blue cross.")
    assert not asked.right("a blue cross above a red circle")


@pytest.mark.parametrize("name", ["llava-1.5-7b", "qwen2.5-vl-3b", "stable-diffusion-1.5"])
def test_real_models_are_pinned_to_a_commit(name: str) -> None:
    part = yaml.safe_load((MODELS / f"{name}.yaml").read_text(encoding="utf-8"))
    source = part.get("vlm") or part["diffusion"]
    assert re.fullmatch(r"[0-9a-f]{40}", source["revision"])


def test_the_tiny_settings_are_what_a_plan_without_them_gets() -> None:
    settings = {name: yaml.safe_load((MODELS / f"{name}.yaml").read_text("utf-8")) for name in TINY}
    assert vlm.shape({"model": settings["tiny-vlm"]}) == vlm.shape({"model": {"lm": {"layers": 4}}})
    assert diffusion_parts.Shape.model_validate(settings["tiny-diffusion"]["diffusion"]) == diffusion_parts.Shape()


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model_index\.json"):
        exam.painter({"model": {"diffusion": {"folder": str(tmp_path)}}}, 90, print)


def test_weights_that_do_not_fit_are_told_before_they_are_loaded(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(9 * 2**30)  # a file of holes: on a disk it takes nothing
    assert exam.fitting(tmp_path, 11 * 2**30, gpu=True) == tmp_path
    with pytest.raises(UserError, match=r"take 19\.6 GiB, and there are 11\.0(.|\n)*tiny-vlm"):
        exam.fitting(tmp_path, 11 * 2**30, gpu=False)


def test_the_server_gets_one_picture_at_a_time_and_the_pillow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.models.device.name", lambda: "cpu")
    options = seeing.options(tiny=True)
    argv = vllm.argv(Path("/models/vlm"), options, 8000)
    assert argv[argv.index("--limit-mm-per-prompt") + 1] == '{"image": 1}'
    assert argv[argv.index("--dtype") + 1] == "float32"
    assert (options.paths[0] / "sitecustomize.py").is_file()


def test_a_gpu_serves_in_bfloat16_and_lets_vllm_size_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.models.device.name", lambda: "cuda")
    argv = vllm.argv(Path("/models/llava"), seeing.options(tiny=False), 8000)
    assert argv[argv.index("--dtype") + 1] == "bfloat16"
    assert "--enforce-eager" not in argv
    assert "--kv-cache-memory-bytes" not in argv


def test_vllm_omni_is_started_for_this_machine_only() -> None:
    argv = omni.argv(Path("/models/z"), 8091)
    assert argv[1:] == [
        "-m", "vllm_omni.entrypoints.cli.main", "serve", "/models/z", "--omni", "--served-model-name", "omni",
        "--host", "127.0.0.1", "--port", "8091",
    ]  # fmt: skip


def test_a_picture_is_taken_from_an_answer_in_openai_s_form() -> None:
    answer = {"created": 1700000000, "data": [{"b64_json": base64.b64encode(b"\x89PNG...").decode()}]}
    assert omni.picture_of(answer) == b"\x89PNG..."
    with pytest.raises(UserError, match="without a picture"):
        omni.picture_of({"created": 1700000000, "data": []})


def test_without_a_gpu_vllm_omni_says_what_is_missing() -> None:
    machine = replace(preflight.probe(ROOT), gpus=(), memory_gb=64.0)
    (lack,) = preflight.lacks(omni.needs(omni.Params())[0], machine)
    assert "needs an NVIDIA GPU for vLLM-Omni" in lack.what


@pytest.mark.slow
def test_a_llava_behind_vllm_and_behind_the_demo_answers_like_transformers(run_kind: RunKind) -> None:
    points = [{"server": server, "concurrency": 2} for server in ("vllm", "http")]
    script = {"multimodal_demo.py": DAY / "multimodal_demo.py"}
    rows, out = run_kind("vlm", {"pictures": 12, "compared": 6}, points, script)
    for row in rows:
        assert row["metrics"]["same_as_transformers_pct"] >= 95
        assert row["metrics"]["exact_match_pct"] >= 80
    assert (out / "captions-vllm-2.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_service_that_answers_otherwise_is_not_timed(run_kind: RunKind) -> None:
    constant = ROOT / "tests" / "checks" / "multimodal_service" / "bad" / "constant" / "multimodal_demo.py"
    told = constant.read_text(encoding="utf-8").replace('"painter": True', '"painter": False')
    with pytest.raises(AssertionError, match="of its answers are transformers'"):
        run_kind("vlm", {"compared": 3}, [{"server": "http"}], {"multimodal_demo.py": told})


@pytest.mark.slow
def test_painted_pictures_show_the_prompt_and_a_compiled_unet_paints_the_same(run_kind: RunKind) -> None:
    points = [{"engine": engine, "scheduler": "ddim", "steps": 10} for engine in ("eager", "compiled")]
    rows, out = run_kind("diffusion", {"samples": 16, "repeats": 2}, points)
    eager, compiled = (row["metrics"] for row in rows)
    assert eager["accuracy_pct"] >= 80
    assert compiled["accuracy_pct"] == pytest.approx(eager["accuracy_pct"], abs=7)
    assert compiled["pixel_difference_max"] <= 3
    assert (out / "contact-sheet.png").stat().st_size > 1000
