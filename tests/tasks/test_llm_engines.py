"""Engines and their services: what they are told, why one does not come up, what a client sees."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.api import Context, UserError, read_rows
from tasks.catalog import KINDS
from tasks.containers import compose
from tasks.llm import crowd, frameworks, pace, room, serve, start_template, trtllm_build
from tasks.services import process
from tasks.services.llm import (
    diagnosis,
    endpoint,
    engines,
    figures,
    gguf_file,
    lmdeploy,
    tensorrt_build,
    tensorrt_llm,
    vllm,
)
from tasks.services.llm.jobs import LENGTH, STOP, Job, Setup, StaticBatches

ROOT = Path(__file__).resolve().parents[2]
OUT_OF_MEMORY = """(EngineCore pid=1) ERROR
(EngineCore pid=1) ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
BAD_DTYPE = "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.\n"
TAKEN = "OSError: [Errno 98] Address already in use\n"
USUAL = """(APIServer pid=1) INFO 11-23 [utils.py:233] non-default args: {'max_model_len': 512, 'dtype': 'bfloat16'}
(EngineCore pid=2) INFO 11-23 [core.py:105] Initializing engine with config: tokenizer='/m', dtype=torch.bfloat16
(EngineCore pid=2) WARNING 11-23 [cpu.py:7] Cannot use fp8 kernels
"""
TOO_LONG = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (9999) is greater than the derived max_model_len (512).
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
NO_WORDS = "OSError: Can't load tokenizer for '/models/mine'.\n"


def options(**given: Any) -> list[str]:
    return vllm.argv(Path("/m/model"), vllm.Options(python=Path("/env/python"), **given), 8123)


def test_vllm_is_told_what_is_asked_for() -> None:
    line = options(
        max_model_len=256, kv_gb=0.5, tensor_parallel=2, prefix_caching=False, chunked_prefill=True,
        speculative={"method": "ngram"}, lora={"mine": Path("/l")}, extra=("--seed", "7"),
    )  # fmt: skip
    pairs = set(itertools.pairwise(line))
    assert {("--max-model-len", "256"), ("--kv-cache-memory-bytes", str(2**29)), ("--port", "8123")} <= pairs
    assert {("--tensor-parallel-size", "2"), ("--lora-modules", "mine=/l"), ("--seed", "7")} <= pairs
    assert ("--speculative-config", '{"method": "ngram"}') in pairs
    assert {"--no-enable-prefix-caching", "--enable-chunked-prefill", "--enforce-eager"} <= set(line)


def test_on_a_gpu_vllm_compiles_and_takes_a_share_of_memory() -> None:
    line = options(gpu=True, memory_utilization=0.6)
    assert "--enforce-eager" not in line
    assert "--kv-cache-memory-bytes" not in line
    assert line[line.index("--gpu-memory-utilization") + 1] == "0.6"


@pytest.mark.parametrize(
    ("log", "cause"),
    [(OUT_OF_MEMORY, "memory"), (BAD_DTYPE, "dtype"), (TAKEN, "port"), (NO_WORDS, "tokenizer"), (TOO_LONG, "length")],
)
def test_a_server_that_dies_while_loading_says_its_last_words_and_the_cause(
    log: str, cause: str, tmp_path: Path
) -> None:
    program = f"import sys; sys.stderr.write({log!r}); sys.exit(1)"
    started = endpoint.serve(
        "vllm serve", [sys.executable, "-c", program], process.free_port(), "model", log=tmp_path / "log"
    )
    with pytest.raises(UserError) as caught, started:
        pass
    assert f"likely cause: {cause}" in caught.value.what
    assert log.splitlines()[-1] in caught.value.what
    assert caught.value.remedy


def test_the_root_cause_is_told_not_what_follows_from_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(OUT_OF_MEMORY, encoding="utf-8")
    assert diagnosis.find(log, "it exited").said.startswith("ValueError: No available memory")


def test_what_every_start_logs_is_no_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(USUAL, encoding="utf-8")
    assert diagnosis.find(log, "it was not ready within 600 s") == diagnosis.Finding()


def test_an_earlier_servers_end_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(OUT_OF_MEMORY, encoding="utf-8")
    program = f"import sys; sys.stderr.write({BAD_DTYPE!r}); sys.exit(1)"
    started = endpoint.serve("vllm", [sys.executable, "-c", program], process.free_port(), "model", log=log)
    with pytest.raises(diagnosis.NotStartedError) as caught, started:
        pass
    assert caught.value.cause == "dtype"


@pytest.mark.parametrize("status", [-9, 137])
def test_a_killed_server_had_too_little_memory(status: int, tmp_path: Path) -> None:
    assert diagnosis.find(tmp_path / "none", f"vllm exited with {status} while starting").cause == "memory"


def test_a_port_that_was_taken_in_the_meantime_costs_a_second_attempt(tmp_path: Path) -> None:
    tried: list[int] = []

    def argv(port: int) -> list[str]:
        tried.append(port)
        return [sys.executable, "-c", f"import sys; sys.stderr.write({TAKEN!r}); sys.exit(1)"]

    with (
        pytest.raises(UserError, match="likely cause: port"),
        endpoint.on_free_port("s", argv, "m", log=tmp_path / "log"),
    ):
        pass
    assert len(tried) == 2


def test_a_model_without_a_tokenizer_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"), vllm.serve(tmp_path, vllm.Options(), tmp_path / "work"):
        pass
    for engine in ("transformers_static", "llama_cpp", "ctranslate2", "openvino_genai"):
        with pytest.raises(UserError, match=r"no tokenizer\.json"):
            engines.serve(engine, tmp_path, Setup(), tmp_path / "work").__enter__()
    assert not (tmp_path / "work").exists()


def job(most: int, eos: frozenset[int], given: list[tuple[list[int], str]]) -> Job:
    return Job([1], most, eos, 0.0, lambda ids, finish: given.append((list(ids), finish)))


def test_an_answer_ends_at_its_end_token_or_at_its_length() -> None:
    given: list[tuple[list[int], str]] = []
    one = job(5, frozenset({9}), given)
    for token in (4, 9, 7):
        one.give(token)
    assert given == [([4], ""), ([], STOP)]
    given.clear()
    two = job(2, frozenset(), given)
    for token in (9, 9, 9):
        two.give(token)
    assert given == [([9], ""), ([9], LENGTH)]


def test_a_batch_that_fails_tells_its_requests_and_the_next_one_is_served() -> None:
    import queue

    ended: queue.Queue[str] = queue.Queue()

    def generate(jobs: list[Job]) -> None:
        if len(jobs[0].prompt) > 1:
            raise RuntimeError("too long")
        for each in jobs:
            each.finish(STOP)

    batches = StaticBatches(generate, 4)
    for prompt in ([1, 2], [1]):
        batches.submit(Job(prompt, 1, frozenset(), 0.0, lambda _, finish: ended.put(finish)))
        said = ended.get(timeout=120)
        assert said == (STOP if len(prompt) == 1 else "error: RuntimeError: too long")


def test_quantiles_of_a_histogram_are_interpolated() -> None:
    buckets = ['t_bucket{le="0.1"} 10', 't_bucket{le="0.2"} 30', 't_bucket{le="+Inf"} 40']
    text = "\n".join(["# TYPE t histogram", *buckets, "t_count 40", "t_sum 9"])
    read = figures.read(text + "\n")
    assert read.quantile("t", 0.5) == pytest.approx(0.15)
    assert read.quantile("t", 0.99) == pytest.approx(0.2)  # beyond the last bound nothing more is known
    assert read.mean("t") == pytest.approx(0.225)
    assert read.since(read).quantile("t", 0.5) == 0
    with pytest.raises(UserError, match="tell no u_count"):  # not a zero: nothing was measured
        read.mean("u")


def test_gguf_knows_how_words_are_split_or_says_that_it_does_not(tmp_path: Path) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    assert gguf_file.splitting({"pretokenizers": [digits, {"type": "ByteLevel"}]}, tmp_path) == "starcoder"
    assert gguf_file.splitting({"type": "ByteLevel"}, tmp_path) == "gpt-2"
    with pytest.raises(UserError, match="Whitespace"):
        gguf_file.splitting({"type": "Whitespace"}, tmp_path)
    with pytest.raises(UserError, match="no GGUF name"):
        gguf_file.splitting(None, tmp_path)


def test_positions_that_a_gguf_file_would_lose_are_told() -> None:
    assert gguf_file.stretched({"rope_theta": 10000.0}) == "default"
    assert gguf_file.stretched({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}) == "default"
    assert gguf_file.stretched({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}) == "llama3"


def test_a_share_of_memory_becomes_a_cache_less_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(2**20))
    params = serve.Params(vary="memory", memory_gb=0.03125)
    point = serve.Point(gpu_memory_utilization=0.5)
    assert serve.options(params, point, tmp_path, False).kv_gb == pytest.approx((16 - 1) / 1024)
    on_gpu = serve.options(params, point, tmp_path, True)
    assert (on_gpu.memory_utilization, on_gpu.kv_gb) == (0.5, None)
    with pytest.raises(room.NoRoomError, match="the weights alone"):
        serve.options(params, serve.Point(gpu_memory_utilization=0.01), tmp_path, False)


def test_points_that_find_no_memory_are_blocked_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = diagnosis.DeadServerError("many lines", brief="the server ended; CUDA out of memory", remedy="less")
    late = diagnosis.NotStartedError("no room\nfor it", brief="it did not start; likely cause: memory", cause="memory")
    ends = {256: None, 512: died, 1024: late, 2048: room.NoRoomError("it does not fit", remedy="take a smaller one")}

    def measure(params: Any, point: serve.Point, *_: Any) -> None:
        if error := ends[point.max_model_len]:
            raise error
        ctx.record(point, {"ready_ok": 1})

    monkeypatch.setattr(serve, "measure", measure)
    monkeypatch.setattr(room, "home", lambda *_, **__: tmp_path)
    monkeypatch.setattr(pace, "on_gpu", lambda: False)
    points = [serve.Point(max_model_len=length) for length in (2048, 1024, 512, 256)]
    ctx = Context(day=tmp_path, scratch=tmp_path, settings={}, out=tmp_path, points=points, spec="test")
    serve.run(serve.Params(), ctx)
    rows = {row["point"]["max_model_len"]: row for row in read_rows(tmp_path / "rows.jsonl", "test")}
    assert {length: row.get("blocked", "") for length, row in rows.items()} == {
        2048: "it does not fit", 1024: late.brief, 512: died.brief, 256: "",
    }  # fmt: skip
    ends[256] = diagnosis.NotStartedError("no bfloat16 here", cause="dtype")
    with pytest.raises(UserError, match="no bfloat16 here"):
        serve.run(serve.Params(), ctx)


def test_what_vllm_says_of_its_cache_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("CPU KV cache size: 174,720 tokens, Maximum concurrency for 1,024 tokens per request: 170.62x\n")
    server = endpoint.Endpoint("http://127.0.0.1:1", "m", log, 1)
    assert serve.capacity(server) == {"kv_tokens": 174720, "max_concurrency": 170.62}
    log.write_text("nothing\n")
    with pytest.raises(UserError, match="said nothing"):
        serve.capacity(server)


def test_a_model_that_does_not_fit_is_named_with_the_largest_that_does() -> None:
    model = yaml.safe_load((ROOT / "conf/model/qwen2.5-7b.yaml").read_text(encoding="utf-8"))
    said = r"qwen2.5-7b in bf16 with 4,096 tokens takes 1\d\.\d GiB, and there are 8.0"
    with pytest.raises(room.NoRoomError, match=said) as caught:
        room.require({"model": model}, 4096, gpu=True, have_bytes=8 * 2**30)
    assert "the largest model that fits is model=qwen2.5-1.5b" in caught.value.remedy
    with pytest.raises(room.NoRoomError, match="in fp32"):
        room.require({"model": model}, 4096, gpu=True, have_bytes=24 * 2**30, precision="fp32")
    with pytest.raises(room.NoRoomError, match="with 200,000 tokens"):
        room.require({"model": model}, 4096, gpu=True, have_bytes=24 * 2**30, cached=200_000)
    with pytest.raises(room.NoRoomError, match="has 32,768 positions, and a context of 65,536 tokens is asked for"):
        room.require({"model": model}, 65_536, gpu=True, have_bytes=80 * 2**30)
    room.require({"model": model}, 4096, gpu=True, have_bytes=24 * 2**30)
    room.require({"model": {"id": "tiny", "lm": {"layers": 4}}}, 4096, gpu=False, have_bytes=1)


def test_the_named_stand_ins_and_what_keeps_the_real_ones_away() -> None:
    asked = frameworks.Params(frameworks=["vllm", "fastertransformer", "tensorrt-llm"])
    native, here = frameworks.needs(asked)
    assert here.backend == "vLLM, CTranslate2 and OpenVINO GenAI"
    assert here.stand_in_for == "FasterTransformer and TensorRT-LLM"
    assert (native.gpus, native.modules, native.stand_in_for) == (1, ("tensorrt_llm",), "FasterTransformer")
    [blocked] = frameworks.needs(frameworks.Params(frameworks=["lmdeploy", "deepspeed"]))
    assert (blocked.tier, blocked.gpus, blocked.modules) == ("native", 1, ("lmdeploy", "deepspeed"))
    [alone] = frameworks.needs(frameworks.Params(frameworks=["llama.cpp"]))
    assert (alone.tier, alone.gpus) == ("native", 0)
    build = trtllm_build.needs(trtllm_build.Params())
    assert [(need.tier, need.gpus) for need in build] == [("native", 1), ("stand-in", 0)]


def test_vllm_computes_on_as_many_cores_as_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "named", lambda *_: "")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {2, 3, 4, 5})
    bound = {threads: vllm.environment(vllm.Options(threads=threads), tmp_path) for threads in (None, 2)}
    assert "VLLM_CPU_OMP_THREADS_BIND" not in bound[None]
    assert bound[2]["VLLM_CPU_OMP_THREADS_BIND"] == "2,3"
    assert engines.vllm_options(Setup(threads=2)).threads == 2


def test_an_engine_of_the_cpu_is_not_compared_with_those_of_a_gpu() -> None:
    said = frameworks.lacks("llama_cpp", gpu=True)
    assert said is not None
    assert said[0] == "llama.cpp computes on the CPU here, the others on the GPU"
    assert frameworks.lacks("llama_cpp", gpu=False) is None
    assert frameworks.lacks("vllm", gpu=True) is None
    assert frameworks.lacks("lmdeploy", gpu=True) == (
        "LMDeploy is not installed", "pip install lmdeploy into the environment `serving`, on a GPU machine",
    )  # fmt: skip


def test_the_engines_of_a_gpu_are_told_their_limits() -> None:
    setup = Setup(max_model_len=512, max_batch=4, dtype="fp8", name="mine", python=Path("/env/python"))
    line = tensorrt_llm.argv(Path("/engine"), setup, 8123)
    assert line[:5] == ["/env/python", "-m", "tensorrt_llm.commands.serve", "serve", "/engine"]
    assert line[line.index("--max_batch_size") + 1] == "4"
    assert tensorrt_build.words(Path("/m"), setup, Path("/e")) == ["/m", "/e", "fp8", "4", "512"]
    line = lmdeploy.argv(Path("/m"), setup, 8123)
    assert line[line.index("--session-len") + 1] == "512"


def test_every_engine_of_the_settings_is_one_that_can_be_started() -> None:
    chosen = {yaml.safe_load(file.read_text(encoding="utf-8"))["id"] for file in (ROOT / "conf/engine").glob("*.yaml")}
    assert chosen >= {"vllm", "openvino_genai", "llama_cpp", "tensorrt_llm"}
    assert chosen <= set(engines.TITLES)


def test_a_build_without_tensorrt_llm_ends_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(diagnosis.NotStartedError, match="No module named 'tensorrt_llm'"):
        tensorrt_build.build(tmp_path, Setup(python=Path(sys.executable)), tmp_path / "engine", tmp_path / "log")


def test_an_engine_is_not_built_for_a_model_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = yaml.safe_load((ROOT / "conf/model/qwen2.5-7b.yaml").read_text(encoding="utf-8"))
    monkeypatch.setattr(room, "available", lambda gpu: 8.0 * 2**30)
    point = trtllm_build.Point(precision="float16", max_batch=8)
    ctx = Context(day=tmp_path, scratch=tmp_path, settings={"model": model}, out=tmp_path, points=[point], spec="test")
    trtllm_build.run(trtllm_build.Params(), ctx)
    [row] = read_rows(tmp_path / "rows.jsonl", "test")
    assert row["blocked"].startswith("qwen2.5-7b in bf16 with 4,096 tokens takes")
    assert "the largest model that fits is model=qwen" in row["remedy"]
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]


def test_compose_variables_are_put_in_as_docker_does(tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    service = "{image: 'i:1', command: ['${MODEL:?name it}', '--port=${PORT:-8000}']}"
    file.write_text("# ${NOT_READ:?never}\nservices: {vllm: " + service + "}\n", encoding="utf-8")
    assert compose.service(file, "vllm", {"MODEL": "/m"}).command == ("/m", "--port=8000")
    assert compose.service(file, "vllm", {"MODEL": "/m", "PORT": "1"}).command == ("/m", "--port=1")
    with pytest.raises(UserError, match="MODEL is not set: name it"):
        compose.service(file, "vllm", {})
    with pytest.raises(UserError, match="no compose file"):
        compose.service(file, "other", {})


def test_a_container_gets_the_hubs_files_without_their_links(tmp_path: Path) -> None:
    blob, hub, plain = tmp_path / "blob", tmp_path / "hub", tmp_path / "plain"
    blob.write_text("weights", encoding="utf-8")
    hub.mkdir()
    plain.mkdir()
    (hub / "model.safetensors").symlink_to(blob)
    assert start_template.solid(plain, tmp_path / "stage") == plain
    for _ in range(2):  # a second point finds it made
        made = start_template.solid(hub, tmp_path / "stage") / "model.safetensors"
        assert not made.is_symlink()
        assert made.read_text(encoding="utf-8") == "weights"


def test_the_start_template_needs_gpus_or_a_container_engine() -> None:
    native, here = start_template.needs(start_template.Params())
    assert (native.gpus, native.tier, here.gpus, here.tier) == (1, "native", 0, "stand-in")
    assert set(crowd.METRICS) <= set(KINDS["llm_serve"].METRICS)


@pytest.mark.slow
def test_engines_give_the_answers_of_the_model(run_kind: Callable[..., tuple[list[dict[str, Any]], Path]]) -> None:
    names = ["fastertransformer", "tensorrt-llm"]
    points = [{"framework": name} for name in names]
    rows, _ = run_kind("llm_frameworks", {"frameworks": names, "requests": 16, "rounds": 2}, points)
    assert [row["point"]["framework"] for row in rows] == names
    right = [row["metrics"]["exact_match_pct"] for row in rows]
    assert min(right) > 20
    assert abs(right[0] - right[1]) <= 10  # the same model in the same precision
    for row in rows:
        assert row["metrics"]["throughput_rps"] > 0
        assert row["metrics"]["ttft_ms"] > 0
        assert row["spread"]["ttft_ms"]["n"] >= 10
        assert "float32" in row["note"]
