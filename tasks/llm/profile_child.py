"""What is profiled: vLLM's offline engine with one load for each phase. `python -m tasks.llm.profile_child plan.json`.

The plan: `model`, `folder` (traces go there), `profiler` (torch or cuda), `eager`, `max_model_len`, `max_num_seqs` and
`phases` (`name`, `sequences`, `prompt_tokens`, `output_tokens`). Prints a JSON line: each phase's seconds and tokens.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    plan = json.loads(file.read_text(encoding="utf-8"))
    engine = started(plan)
    found = {}
    for phase in plan["phases"]:
        load(engine, phase, seed=1)  # warm-up of the same shape, with other prompts
        engine.start_profile(profile_prefix=phase["name"])
        began = time.perf_counter()
        tokens = load(engine, phase, seed=2)
        seconds = time.perf_counter() - began
        engine.stop_profile()
        found[phase["name"]] = {"seconds": seconds, "tokens": tokens}
    print(f"\n{json.dumps(found)}", flush=True)


def started(plan: Mapping[str, Any]) -> Any:
    from vllm import LLM

    profiler = {"profiler": plan["profiler"]}
    if plan["profiler"] == "torch":
        profiler |= {"torch_profiler_dir": plan["folder"], "torch_profiler_with_stack": False}
    return LLM(
        model=plan["model"], dtype="bfloat16", max_model_len=plan["max_model_len"], max_num_seqs=plan["max_num_seqs"],
        enforce_eager=plan["eager"], profiler_config=profiler, enable_prefix_caching=False,
    )  # fmt: skip


def load(engine: Any, phase: Mapping[str, Any], seed: int) -> int:
    """Random prompts of one length, answered greedily to a fixed length; the number of generated tokens."""
    from vllm import SamplingParams

    rng, vocab = random.Random(seed), engine.llm_engine.model_config.get_vocab_size()
    prompts = [
        {"prompt_token_ids": [rng.randrange(3, vocab) for _ in range(phase["prompt_tokens"])]}
        for _ in range(phase["sequences"])
    ]
    sampling = SamplingParams(temperature=0, max_tokens=phase["output_tokens"], ignore_eos=True)
    return sum(len(answer.outputs[0].token_ids) for answer in engine.generate(prompts, sampling, use_tqdm=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
