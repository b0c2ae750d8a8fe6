"""The peers: the same number of no-op tasks for doit, Snakemake and DVC, each in its own virtual environment."""

from __future__ import annotations

import shutil
import subprocess
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.parsed import cache_home
from runner.spec import file_hash
from tests.benchmarks import timing

PINS = Path(__file__).resolve().parent / "peers"
ENV = {**timing.ENV, "DVC_NO_ANALYTICS": "1", "XDG_CACHE_HOME": str(cache_home() / "benchmarks" / "cache")}

DODO = """\
def task_noop():
    for name in {names}:
        target = f"out/{{name}}"
        yield {{"name": name, "actions": [f"touch {{target}}"], "file_dep": ["work.txt"], "targets": [target]}}
"""
SNAKEFILE = """\
rule all:
    input: expand("out/{{name}}", name={names})

rule noop:
    input: "work.txt"
    output: "out/{{name}}"
    shell: "touch {{output}}"
"""
DVC_STAGE = "  {name}: {{cmd: touch out/{name}, deps: [work.txt], outs: [out/{name}]}}\n"


@dataclass(frozen=True)
class Peer:
    """A tool with its words for: do everything, do what changed, show what is done."""

    name: str
    first: tuple[tuple[str, ...], ...]
    rerun: tuple[str, ...]
    status: tuple[str, ...]
    says_done: Mapping[str, str] = field(default_factory=dict)  # what 'rerun' and 'status' print when all is done

    def file(self, names: list[str]) -> tuple[str, str]:
        """Its description of the tasks: file name and text."""
        if self.name == "doit":
            return "dodo.py", DODO.format(names=names)
        if self.name == "snakemake":
            return "Snakefile", SNAKEFILE.format(names=names)
        return "dvc.yaml", "stages:\n" + "".join(DVC_STAGE.format(name=name) for name in names)

    def command(self, words: Iterable[str]) -> list[str]:
        return [str(environment(self.name) / "bin" / self.name), *words]

    def version(self) -> str:
        pins = (PINS / f"{self.name}.txt").read_text(encoding="utf-8").splitlines()
        return next(line.partition("==")[2] for line in pins if line.startswith(f"{self.name}=="))


PEERS = (
    Peer("doit", ((),), (), ("list", "--all", "--status"), {"rerun": "-- noop:", "status": "U noop:"}),
    Peer(
        "snakemake", (("--cores", "2", "--quiet", "all"),), ("--cores", "2"), ("--cores", "2", "--summary"),
        {"rerun": "Nothing to be done", "status": "no update"},
    ),
    # DVC takes minutes to execute the tasks one by one; `commit` records the outputs as if it had.
    Peer(
        "dvc", (("init", "--no-scm", "--quiet"), ("commit", "--force", "--quiet")), ("repro",), ("status",),
        {"rerun": "up to date", "status": "up to date"},
    ),
)  # fmt: skip


def environment(name: str) -> Path:
    """Its virtual environment, made on demand and kept beside the runner's. Raises CalledProcessError."""
    pins = PINS / f"{name}.txt"
    place = cache_home() / "benchmarks" / f"{name}-{file_hash(pins)[:12]}"
    whole = place / "whole"
    if not whole.exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        pip = [str(place / "bin/python"), "-m", "pip", "install", "-qq", "--no-deps", "-r", str(pins)]
        subprocess.run(pip, check=True)
        whole.touch()
    return place


def prepare(peer: Peer, folder: Path, names: list[str]) -> None:
    """Describe the tasks in `folder` and do them all. Raises CalledProcessError."""
    (folder / "out").mkdir(parents=True)
    (folder / "work.txt").write_text("the same input for every task\n", encoding="utf-8")
    file, text = peer.file(names)
    (folder / file).write_text(text, encoding="utf-8")
    if peer.name == "dvc":
        for name in names:
            (folder / "out" / name).touch()
    for words in peer.first:
        subprocess.run(peer.command(words), cwd=folder, env=ENV, check=True, capture_output=True)
