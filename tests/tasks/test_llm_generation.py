"""generate() and its batches: what a step reads, the same tokens by every way, a wrong server refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from runner import environments
from tasks.services.process import LOOPBACK

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
# builds a model that answers with the tokenizer of bytes, then judges the server at argv[1]
JUDGE = """
import sys
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from tasks.api import UserError
from tasks.llm import agreement
from tasks.models import random_lm
from tasks.services.llm.endpoint import Endpoint
folder = Path(sys.argv[2])
letters = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
core = Tokenizer(models.BPE(vocab=letters, merges=[]))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(folder)
random_lm.make(seed=1).save_pretrained(folder)
try:
    agreement.require(Endpoint(sys.argv[1], "tiny", Path("/dev/null"), 0), folder, 90)
except UserError as error:
    print("refused:", error)
"""


@pytest.fixture
def wrong_server() -> Iterator[str]:
    """An API that gives every prompt the same three tokens."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            choice = {"text": "abc", "finish_reason": "length", "token_ids": [97, 98, 99]}
            body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_server_that_answers_wrongly_is_refused_before_timing(wrong_server: str, tmp_path: Path) -> None:
    python = environments.provision(ROOT, "training", "managed", print)
    argv = [str(python), "-c", JUDGE, wrong_server, str(tmp_path / "model")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert "refused: tiny: it answers 'abc' to" in done.stdout, done.stdout + done.stderr[-2000:]
    assert "standard deviations below what the model thinks best" in done.stdout
    assert "nothing was timed" in done.stdout


@pytest.mark.slow
def test_with_a_cache_a_step_reads_one_token_without_it_everything(run_kind: RunKind) -> None:
    params = {"questions": 7, "prompt_tokens": 40, "forced": 16}
    rows, out = run_kind("llm_generate_steps", params, [{"cache": "on"}, {"cache": "off"}])
    cached, plain = (row["metrics"] for row in rows)
    assert cached["steps_count"] == plain["steps_count"] == 16
    assert (cached["tokens_read"], cached["last_step_tokens"]) == (40 + 15, 1)
    assert (plain["tokens_read"], plain["last_step_tokens"]) == (sum(range(40, 56)), 55)
    assert cached["argmax_pct"] == plain["argmax_pct"] == 100
    assert cached["exact_match_pct"] == plain["exact_match_pct"] > 0
    assert cached["cache_kib"] > 0 == plain["cache_kib"]
    with (out / "generate_steps_on.csv").open(encoding="utf-8") as source:
        steps = list(csv.DictReader(source))
    assert [step["phase"] for step in steps[:3]] == ["prefill", "decode", "decode"]
    assert [int(step["tokens_in_cache"]) for step in steps[:3]] == [0, 40, 41]


@pytest.mark.slow
def test_all_ways_of_batching_give_the_tokens_of_one_request_at_a_time(run_kind: RunKind) -> None:
    params = {"requests": 8, "width": 4, "short": 4, "long": 24, "rounds": 1}
    points = [{"engine": "transformers", "batching": way} for way in ("one_by_one", "static", "continuous")]
    rows, _ = run_kind("llm_batching", params, points)
    found = {row["point"]["batching"]: row["metrics"] for row in rows}
    assert all(metrics["tokens_equal_pct"] == 100 for metrics in found.values())
    assert found["static"]["wasted_pct"] > 20
    assert found["one_by_one"]["wasted_pct"] == found["continuous"]["wasted_pct"] == 0
