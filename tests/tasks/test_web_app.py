"""The chat page: really used in a browser; the knowledge map: drawn from records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from tasks import api
from tasks.documents import concepts
from tasks.services import browser

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
UNIT = ROOT / "plans" / "twelve_weeks" / "week-12"
PAGE = """<!doctype html><input id="question"><button id="send">Send</button><p class="answer"></p><script>
document.querySelector("#send").addEventListener("click", () => setTimeout(() => {
  const answer = document.querySelector(".answer");
  answer.textContent = "you said " + document.querySelector("#question").value;
  answer.dataset.done = "1";
}, 50));
</script>"""


@pytest.mark.slow
def test_a_browser_types_clicks_reads_and_photographs(tmp_path: Path) -> None:
    file, picture = tmp_path / "page.html", tmp_path / "page.png"
    file.write_text(PAGE, encoding="utf-8")

    async def used() -> str:
        async with browser.page(tmp_path) as page:
            await page.open(file.as_uri())
            await page.type("#question", "héllo 你好")
            await page.click("#send")
            await page.until("document.querySelector('.answer').dataset.done === '1'")
            await page.photograph(picture)
            with pytest.raises(api.UserError, match="TypeError"):
                await page.click("#nothing")
            return str(await page.value("document.querySelector('.answer').textContent"))

    assert asyncio.run(used()) == "you said héllo 你好"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_over_vllm_shows_what_the_model_says(run_kind: RunKind) -> None:
    files = {f"web_ui/{name}": UNIT / "web_ui" / name for name in ("app.py", "index.html")}
    [row], out = run_kind("web_app", {"users": 2, "questions": 2}, ({"design": "streaming"},), files)
    found = row["metrics"]
    assert found["page_answer_ok"] == 1
    assert found["same_as_model_pct"] == 100
    assert found["first_text_p50_ms"] <= found["answer_p50_ms"]
    assert (out / "streaming.png").read_bytes().startswith(b"\x89PNG")


def test_the_reference_map_covers_eleven_weeks_with_planned_experiments() -> None:
    given = concepts.read(UNIT / "knowledge_map.yaml")
    assert concepts.faults(given, 11) == []
    for name, concept in given.concepts.items():
        unit, _, experiment = concept.shown_by.partition("/")
        [file] = [*ROOT.glob(f"plans/twelve_weeks/{unit}/day.yaml"), *ROOT.glob(f"plans/week*/{unit}/day.yaml")]
        stanza = yaml.safe_load(file.read_text(encoding="utf-8"))["experiments"].get(experiment)
        assert stanza, f"{name}: {concept.shown_by} is planned nowhere"
        assert concept.metric in stanza["metrics"], f"{name}: {concept.shown_by} does not measure {concept.metric}"


def test_a_map_without_records_says_that_nothing_is_measured(run_kind: RunKind) -> None:
    [row], out = run_kind("knowledge_map", {}, day_files={"knowledge_map.yaml": UNIT / "knowledge_map.yaml"})
    assert row["metrics"]["measured_pct"] == 0
    assert row["metrics"]["weeks_count"] == 11
    day = out.parent / "day"
    assert "not measured yet" in (day / "knowledge_map.md").read_text(encoding="utf-8")
    assert "投机解码" in (day / "knowledge_map.svg").read_text(encoding="utf-8")


def test_a_concept_whose_figure_its_experiment_left_out_is_not_measured() -> None:
    given = concepts.read(UNIT / "knowledge_map.yaml")
    concept = given.concepts["kv-cache"]
    rows = [{"metrics": {"ttft_ms": 1.0}}, {"metrics": {concept.metric: 2.0}}]
    assert not concepts.measured(concept, {concept.shown_by: {"rows": rows[:1]}})
    assert concepts.measured(concept, {concept.shown_by: {"rows": rows}})
    assert not concepts.measured(concept, {})


def test_a_map_with_a_circle_is_refused(run_kind: RunKind) -> None:
    broken = yaml.safe_load((UNIT / "knowledge_map.yaml").read_text(encoding="utf-8"))
    broken["concepts"]["autoregression"]["needs"] = ["autoregression"]
    with pytest.raises(AssertionError, match="in a circle: autoregression → autoregression"):
        run_kind("knowledge_map", {}, day_files={"knowledge_map.yaml": json.dumps(broken)})
