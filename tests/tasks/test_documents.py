"""Numbers, tables, curves and bullets from stored records, and their reading back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tasks import api
from tasks.catalog import KINDS
from tasks.documents import (
    architecture,
    audit,
    bullet_reading,
    bullets,
    curve_reading,
    curves,
    document,
    measured_model,
    stored,
    tables,
)
from tasks.documents.figures import heading, number
from tasks.documents.tracing import numbers

RECORDS = Path(__file__).resolve().parents[1] / "resources" / "records" / "week03"


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    return {record["id"]: record for record in stored.load(RECORDS.glob("*/experiments/*/record.json"))}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (5.0, "5"), (1000, "1,000"), (12.345, "12.35"), (123.45, "123.5"), (999.96, "1,000"),
        (1234.6, "1,235"), (0.0123456, "0.01235"), (1.2e-5, "1.200e-5"), (-3.2, "-3.200"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_a_number_is_written_with_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_headings_carry_the_unit_in_both_languages() -> None:
    assert heading("latency_p99_ms") == "latency p99 (ms)"
    assert heading("throughput_samples_s", "zh") == "吞吐量 (样本/秒)"
    assert heading("replicas") == "replicas"
    assert heading("output_tokens_per_s") == "output tokens (per second)"
    assert heading("max_tokens_per_gib") == "max tokens per gib"


def test_numbers_are_quantities_and_not_parts_of_names() -> None:
    text = "p99 of INT8 fell 1,234.5 → 12 ms (102.9× lower), 延迟3.5毫秒, v1.2, day18/x-1-2-4#1a2b, 2-core at 2.70GHz"
    found = numbers(text, known={"2.70GHz"})
    assert [(one.written, one.ratio) for one in found] == [
        ("1,234.5", False), ("12", False), ("102.9", True), ("3.5", False), ("2", False),
    ]  # fmt: skip


def test_a_blocked_experiment_lists_its_points_and_leaves_them_empty(records: dict[str, Any]) -> None:
    table = tables.results(records["workspace-64-256-1024"])
    assert [row[0] for row in table.rows] == ["64", "256", "1024"]
    assert all(set(row[1:-1]) == {""} and row[-1] == "`blocked`" for row in table.rows)


def test_a_failed_experiment_keeps_what_it_measured(records: dict[str, Any]) -> None:
    record = copy.deepcopy(records["instances-1-2-4-throughput"])
    record["status"] = "failed"
    record["rows"] = record["rows"][:1]
    rows = tables.results(record).rows
    assert rows[0] == ["1", "355.6", "10.81", "98.31", "`native`"]
    assert rows[2] == ["4", "", "", "", "`failed`"]
    text = f"### `{stored.name(record)}`\n\n{tables.results(record).markdown()}\n"
    assert not audit.audit(text, [record]).faults


def test_every_drawn_point_reads_back_as_the_stored_value(records: dict[str, Any]) -> None:
    drawn = {name: curves.draw(record) for name, record in records.items() if curves.plotted(record)}
    assert len(drawn) >= 6
    for name, svg in drawn.items():
        record = records[name]
        hits, marks = curve_reading.traced(svg, record, curves.abscissa(record))
        assert hits == marks == len(record["rows"]) * len(curves.plotted(record)), name


def test_a_coordinate_that_a_kind_stores_as_a_float_is_the_same_point(records: dict[str, Any]) -> None:
    record = copy.deepcopy(records["instances-1-2-4-throughput"])
    for row in record["rows"]:
        row["point"] = {"instances": float(row["point"]["instances"])}
    text = f"### `{stored.name(record)}`\n\n{tables.results(record).markdown()}\n"
    assert not audit.audit(text, [record]).faults
    assert curve_reading.traced(curves.draw(record), record, "instances") == (9, 9)


def test_a_figure_of_other_values_does_not_trace(records: dict[str, Any]) -> None:
    record = records["instances-1-2-4-throughput"]
    other = copy.deepcopy(record)
    other["rows"][1]["metrics"]["throughput_rps"] *= 1.01
    svg = curves.draw(other)
    hits, marks = curve_reading.traced(svg, record, curves.abscissa(record))
    assert (hits, marks) == (8, 9)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_bullets_trace_and_name_stand_ins(records: dict[str, Any], lang: str) -> None:
    highlights = records["week3-resume-highlights"]["stanza"]["params"]["highlights"]
    held = list(records.values())
    lines = bullet_reading.bullets(bullets.written(highlights, held, 3, lang))
    assert len(lines) == 3
    assert [bullet_reading.faults(line, held) for line in lines] == [[], [], []]


@pytest.mark.parametrize(
    ("kind", "chosen", "said"),
    [
        ("kv_cache", {"id": "tiny", "lm": {"layers": 3, "hidden": 128}},
         "tiny, small and trained on the spot (3 layers of width 128)"),
        ("kv_cache", {"id": "qwen2.5-7b", "lm": {"repo": "Qwen/Qwen2.5-7B-Instruct"}}, "Qwen2.5-7B-Instruct"),
        ("kv_cache", {"id": "own", "lm": {"repo": "a/b", "folder": "/models/mine-13b"}}, "mine-13b"),
        ("diffusion", {"id": "qwen2.5-7b", "lm": {"repo": "Qwen/Qwen2.5-7B-Instruct"}},
         "tiny-diffusion, small and trained on the spot"),
        ("engine_build", {"id": "tiny", "encoder": {"layers": 3, "hidden": 128}}, ""),
    ],
)  # fmt: skip
def test_a_bullet_names_the_model_and_its_numbers_trace(
    records: dict[str, Any], kind: str, chosen: dict[str, Any], said: str
) -> None:
    record = {**records["instances-1-2-4-throughput"], "kind": kind, "settings": {"model": chosen}}
    highlight = {
        "experiment": stored.name(record), "metric": "throughput_rps", "baseline": {"instances": 1},
        "value": {"instances": 4}, "better": "higher", "did": {"en": "D", "zh": "D"}, "how": {"en": "H", "zh": "H"},
    }  # fmt: skip
    for lang in ("en", "zh"):
        line = bullets.bullet(highlight, [record], lang)
        assert bullet_reading.faults(line, [record]) == []
        untold = line.partition("; model: " if lang == "en" else "；模型：")[0] + f" [{stored.name(record)}]"
        assert bool(bullet_reading.faults(untold, [record])) == bool(said)
    assert ("; model: " + said in bullets.bullet(highlight, [record], "en")) == bool(said)


@pytest.mark.parametrize(("lang", "said"), [("en", "0 → 355.6 requests/s (up from 0)"), ("zh", "（原为 0）")])
def test_what_came_from_nothing_has_no_ratio(records: dict[str, Any], lang: str, said: str) -> None:
    record = copy.deepcopy(records["instances-1-2-4-throughput"])
    record["rows"][2]["metrics"]["throughput_rps"] = 0.0
    highlight = {
        "experiment": stored.name(record), "metric": "throughput_rps", "baseline": {"instances": 4},
        "value": {"instances": 1}, "better": "higher", "did": {"en": "D", "zh": "D"}, "how": {"en": "H", "zh": "H"},
    }  # fmt: skip
    line = bullets.bullet(highlight, [record], lang)
    assert said in line
    assert bullet_reading.faults(line, [record]) == []
    assert not bullets.bullet({**highlight, "better": "lower"}, [record], lang)


def test_kinds_that_measure_another_model_than_the_chosen_one_are_known_as_such() -> None:
    sources = {name: Path(str(kind.__file__)).read_text(encoding="utf-8") for name, kind in KINDS.items()}
    assert {name for name, source in sources.items() if "stands_for(" in source} == set(measured_model.WIDER)
    assert {name for name, source in sources.items() if " deeper(" in source or "(deeper(" in source} == set(
        measured_model.DEEPER
    )
    assert {*measured_model.PARTS, *measured_model.OWN} <= set(KINDS)


def test_a_bullet_of_a_machine_with_gpus_names_them(records: dict[str, Any]) -> None:
    record = copy.deepcopy(records["instances-1-2-4-throughput"])
    record["machine"]["gpus"] = ["NVIDIA H100 80GB HBM3, 79.6 GiB, sm_90"] * 2
    said = bullets.hardware(record, "en")
    assert said == "a machine with Intel(R) Xeon(R) Processor @ 2.70GHz, 2 cores and NVIDIA H100 80GB HBM3"
    assert bullet_reading.untraced(said, [record]) == []


def test_a_highlight_that_got_worse_is_left_out_and_the_file_says_so(records: dict[str, Any]) -> None:
    held = copy.deepcopy(records)
    highlights = held["week3-resume-highlights"]["stanza"]["params"]["highlights"][:1]
    rows = held["redis-triton-response-cache"]["rows"]
    rows[0]["metrics"], rows[1]["metrics"] = rows[1]["metrics"], rows[0]["metrics"]
    text = bullets.written(highlights, list(held.values()), 3)
    assert text.startswith("Only 0 of 3 bullets")
    assert "day16/redis-triton-response-cache" in text


def test_the_architecture_shows_only_what_passed(records: dict[str, Any]) -> None:
    held = [record for record in records.values() if record["kind"] != "cache_proxy"]
    assert [part.id for part in architecture.shown(held)] == ["ensemble", "multi_model", "bert", "autoscaling"]
    held = [{**record, "status": "failed"} for record in held]
    assert architecture.shown(held) == []


def test_a_box_shows_as_many_values_as_it_is_wide(records: dict[str, Any]) -> None:
    ensemble, _, bert, _ = architecture.shown(list(records.values()))[-4:]
    assert ensemble.values == "ensemble/1 → 11.05 · ensemble/4 → 18.99 …"
    assert bert.values == "1 → 3.589 · 8 → 5.492 · 16 → 6.782"


def test_kind_document_measures_what_it_wrote(tmp_path: Path, records: dict[str, Any]) -> None:
    paths = sorted(RECORDS.glob("*/experiments/*/record.json"))
    highlights = records["week3-resume-highlights"]["stanza"]["params"]
    for params in ({"make": "table"}, {"make": "curves"}, {"make": "report"}, highlights):
        out = tmp_path / str(params["make"])
        out.mkdir()
        ctx = api.Context(
            day=tmp_path, scratch=tmp_path, settings={}, records=paths, out=out, spec="s", points=[document.Point()]
        )
        document.run(document.Params.model_validate(params), ctx)
    makes = ("table", "curves", "bullets", "report")
    rows = [api.read_rows(tmp_path / make / "rows.jsonl", "s")[0]["metrics"] for make in makes]
    points = sum(len(stored.points(record)) for record in records.values() if record["day"] != "day21")
    assert rows[0] == {"rows_count": points, "numbers_traced_pct": 100}
    assert rows[1] == {"figures_count": 8, "points_traced_pct": 100}
    assert rows[2] == {"bullets_count": 3, "numbers_traced_pct": 100}
    assert rows[3] == {"tables_count": len(records), "figures_count": 8, "numbers_traced_pct": 100}


def test_kind_document_refuses_to_write_without_results(tmp_path: Path) -> None:
    ctx = api.Context(day=tmp_path, scratch=tmp_path, settings={}, out=tmp_path, spec="s", points=[document.Point()])
    with pytest.raises(api.UserError, match="no passed record"):
        document.run(document.Params(make="table"), ctx)


def test_records_of_a_table_are_looked_up_by_row(records: dict[str, Any]) -> None:
    """A value that another experiment stored does not excuse a wrong one."""
    text = f"# Week\n\n{tables.summary([records['hit-rate-10-50-90']], {}).markdown()}\n"
    assert not audit.audit(text, list(records.values())).faults
    value = number(records["hit-rate-10-50-90"]["rows"][0]["metrics"]["observed_hit_pct"])
    assert audit.audit(text.replace(value, "402.1"), list(records.values())).faults


def test_a_published_figure_is_a_quotation_and_names_its_hardware_and_source(records: dict[str, Any]) -> None:
    record = records["instances-1-2-4-throughput"]
    ours = f"`{stored.name(record)}` {tables.main_result(record, 'en', 'throughput_rps')}"
    header = ["published", "figure", "its hardware", "source", "our result", "tier"]
    for hardware, result, sound in (("an A10G", ours, True), ("", ours, False), ("an A10G", f"{ours} · 9,999", False)):
        row = ["two instances", "7 → 4321 requests/s", hardware, "its authors", result, "`native`"]
        text = f"## Beside published figures\n\n{tables.Table(header, [False] * 6, [row]).markdown()}\n"
        assert bool(audit.audit(text, [record]).faults) != sound
