"""MLC-LLM's compiled engine asked greedily in chat: `python -m tasks.llm.mlc_child plan.json`.

The plan: `model`, `library`, `device`, `tokens`, `prompts`. Prints a JSON line: the answers' `texts`, and the `rate` in
tokens for each second. The first prompt is asked once before, to warm up.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    plan = json.loads(file.read_text(encoding="utf-8"))
    mlc = importlib.import_module("mlc_llm")  # from its makers' own index: not installed where this is checked
    engine = mlc.MLCEngine(plan["model"], device=plan["device"], model_lib=plan["library"])

    def ask(text: str) -> Any:
        turn = [{"role": "user", "content": text}]
        return engine.chat.completions.create(messages=turn, temperature=0, max_tokens=plan["tokens"], stream=False)

    ask(plan["prompts"][0])
    began = time.perf_counter()
    answers = [ask(text) for text in plan["prompts"]]
    spent = time.perf_counter() - began
    engine.terminate()
    texts = [answer.choices[0].message.content for answer in answers]
    rate = sum(answer.usage.completion_tokens for answer in answers) / spent
    print(f"\n{json.dumps({'texts': texts, 'rate': rate})}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
