"""The résumé bullets: so many, each citing a passed record, each number stored there, stand-ins named as such."""

from __future__ import annotations

from pathlib import Path

from tasks import api
from tasks.checks.report_numbers import read, told
from tasks.documents import bullet_reading, stored


class Params(api.Params):
    bullets: int = 3


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """A bullet starts with `-`, `*` or `•` and cites records as `day18/instances-1-2-4-throughput`."""
    text = read(file)
    lines = bullet_reading.bullets(text)
    if len(lines) != params.bullets:
        said = [line for line in text.splitlines() if line.strip()]
        return api.Verdict(False, f"{len(lines)} bullets, wanted {params.bullets}. {said[-1] if said else ''}".strip())
    records = stored.load(work.records)
    faults = [
        f"bullet {count}: {fault}"
        for count, line in enumerate(lines, 1)
        for fault in bullet_reading.faults(line, records)
    ]
    evidence = {"records": [stored.name(record) for line in lines for record in bullet_reading.cited(line, records)[0]]}
    if faults:
        return api.Verdict(False, told(faults), {**evidence, "faults": faults[:20]})
    return api.Verdict(True, f"{len(lines)} bullets, every number traced to a passed record", evidence)
