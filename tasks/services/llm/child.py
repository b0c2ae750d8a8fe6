"""`python -m tasks.services.llm.child ENGINE MODEL PORT SETUP`: an engine in its own process.

It answers the OpenAI API. ENGINE names a module of this package with `run(model, setup, port, mode)`, or `module:mode`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.api import UserError
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import Setup

ROOT = Path(__file__).resolve().parents[3]
REMEDY = "save it again with transformers (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)), or take vllm"


@contextmanager
def serve(
    engine: str, model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print
) -> Iterator[Endpoint]:
    """Serve `model` with an engine of this package until the block ends; its log goes to `folder`.

    All of them read `tokenizer.json`: UserError before anything starts when there is none.
    """
    if not (model / "tokenizer.json").is_file():
        raise UserError("the model has no tokenizer.json", where=str(model), remedy=REMEDY)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{engine.replace(':', '-')}.log"
    with endpoint.on_free_port(
        engine, lambda port: argv(engine, model, port, setup), setup.name or model.name, log=log, cwd=ROOT,
        env={"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"},
    ) as server:  # fmt: skip
        say(f"{engine} serves {server.model} on {server.address}")
        yield server


def argv(engine: str, model: Path, port: int, setup: Setup) -> list[str]:
    given = {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(setup).items()}
    python = str(setup.python or sys.executable)
    return [python, "-m", "tasks.services.llm.child", engine, str(model), str(port), json.dumps(given)]


def main() -> None:
    engine, model, port, given = sys.argv[1:]
    values = json.loads(given)
    for key in ("cache", "python"):
        values[key] = Path(values[key]) if values[key] else None
    setup = Setup(**values)
    name, _, mode = engine.partition(":")
    module = importlib.import_module(f"tasks.services.llm.{name}")
    module.run(Path(model), setup, int(port), mode)


if __name__ == "__main__":
    main()
