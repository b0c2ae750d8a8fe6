"""Reports from records: what a reader finds in them, in both languages, and that a rebuild gives the same bytes."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.report import write_day, write_week

RECORDS = Path(__file__).resolve().parents[1] / "resources" / "records" / "week03"


@pytest.fixture
def week(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDS, tmp_path / "week03"))


def day(week: Path, number: int, **more: Any) -> SimpleNamespace:
    stanzas = [json.loads(file.read_text()) for file in sorted(week.glob(f"day{number}/experiments/*/record.json"))]
    experiments = [SimpleNamespace(id=each["id"], kind=each["kind"], title=each["stanza"]["title"]) for each in stanzas]
    given = {
        "id": f"day{number}",
        "title": {"en": f"Subject {number}", "zh": f"主题 {number}"},
        "notes": [],
        "experiments": experiments,
        "deliverables": [],
    }
    return SimpleNamespace(**{**given, **more})


def days(week: Path) -> list[SimpleNamespace]:
    return [day(week, number) for number in range(15, 22)]


def weekly(week: Path, lang: str = "en") -> list[Path]:
    return write_week("week03", days(week), week.glob("*/experiments/*/record.json"), week / "day21", lang)


def test_a_day_report_shows_points_tier_claims_and_spread(week: Path) -> None:
    text = write_day(day(week, 18), week / "day18" / "experiments", week / "day18").read_text(encoding="utf-8")
    assert "# Day 18 · Subject 18" in text
    assert "| 2 | 402.1 | 17.82 | 171.5 | `native` |" in text
    assert "| ≥ 1.5 × | 1.100 | `refuted` |" in text
    assert "2 cores" in text
    assert "no GPU" in text
    assert (week / "day18" / "plots" / "day18-instances-1-2-4-throughput.svg").is_file()


def test_a_blocked_experiment_says_why_and_what_to_do(week: Path) -> None:
    text = write_day(day(week, 15), week / "day15" / "experiments", week / "day15").read_text(encoding="utf-8")
    assert "> Reason: no NVIDIA GPU" in text
    assert "> Remedy: run it on a machine with an NVIDIA GPU" in text
    assert "`stand-in for tensorrt` · measured on openvino" in text


def test_an_experiment_without_a_record_is_listed_as_not_run(week: Path) -> None:
    shutil.rmtree(week / "day18" / "experiments" / "instances-1-2-4-throughput")
    lost = SimpleNamespace(id="instances-1-2-4-throughput", kind="k", title={"en": "Instances", "zh": "实例"})
    text = write_day(day(week, 18, experiments=[lost]), week / "day18" / "experiments", week / "day18").read_text()
    assert "1 not run" in text
    assert "Not run yet. Run it with `run plan=day18`." in text


def test_own_files_overrides_verdicts_and_notes_are_told(week: Path) -> None:
    folder = week / "day18" / "experiments" / "instances-1-2-4-throughput"
    record = json.loads((folder / "record.json").read_text())
    variant = folder.with_name(folder.name + "+0a1b2c3d")
    shutil.copytree(folder, variant)
    (variant / "record.json").write_text(
        json.dumps({**record, "variant": "0a1b2c3d", "overrides": ["matrix.instances=[1]"]})
    )
    (folder / "record.json").write_text(json.dumps({**record, "origin": "own"}))
    (week / "day18" / "verdicts").mkdir()
    verdict = {"status": "failed", "checks": [{"check": "triton_config", "ok": False, "message": "no instance_group"}]}
    (week / "day18" / "verdicts" / "multi_model_config.pbtxt.json").write_text(json.dumps(verdict))
    given = day(
        week,
        18,
        notes=[{"en": "Shared cores.", "zh": "共享 CPU 核。"}],
        deliverables=[
            SimpleNamespace(path="multi_model_config.pbtxt", made_by="reference"),
            SimpleNamespace(path="report_day18.md", made_by="report"),
        ],
        experiments=day(week, 18).experiments[:1],
    )
    text = write_day(given, week / "day18" / "experiments", week / "day18").read_text(encoding="utf-8")
    assert "`own` executed the learner's own files" in text
    assert "With overrides `day18/instances-1-2-4-throughput+0a1b2c3d`" in text
    assert "`matrix.instances=[1]`" in text
    assert "`multi_model_config.pbtxt`: `failed`\n    - triton_config: no instance_group" in text
    assert "`report_day18.md`: written by this report" in text
    assert "- Shared cores." in text


def test_the_same_records_give_the_same_bytes(week: Path) -> None:
    def written() -> dict[str, bytes]:
        for each in days(week):
            write_day(each, week / each.id / "experiments", week / each.id)
        weekly(week)
        paths = [path for path in week.glob("day*/**/*") if path.is_file() and "experiments" not in path.parts]
        return {str(path): path.read_bytes() for path in paths}

    first = written()
    from runner.report import facts

    facts.PLOTS.drawn.clear()
    assert written() == first
    staged = [path for path in first if "/." in path and not path.endswith(".written.json")]
    assert not staged


@pytest.mark.parametrize(("lang", "suffix"), [("en", ""), ("zh", ".zh")])
def test_the_week_has_its_four_documents(week: Path, lang: str, suffix: str) -> None:
    written = weekly(week, lang)
    assert [path.name for path in written] == [
        f"weekly_report_wk3{suffix}.md",
        f"weekly_report_wk3{suffix}.html",
        f"resume_bullet_week3{suffix}.txt",
        f"architecture{suffix}.svg",
    ]
    text = written[0].read_text(encoding="utf-8")
    assert ("推翻" if lang == "zh" else "refuted") in text
    assert "73 → 272 requests/s" in text  # published, beside our own
    steps = text.partition("## 下一步" if lang == "zh" else "## Next steps")[2].partition("## ")[0]
    assert "`day15/workspace-64-256-1024`" in steps  # blocked: its remedy is the next step
    assert len(written[2].read_text(encoding="utf-8").splitlines()) == 3


class Page(HTMLParser):
    """What a page loads, its pictures and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.anchors.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        self.loads += [given[name] or "" for name in ("src", "srcset", "data") if given.get(name)]
        if tag in ("script", "link", "iframe", "object"):
            self.loads.append(tag)


def test_the_html_twin_is_self_contained_and_has_every_figure(week: Path) -> None:
    html = weekly(week)[1].read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.loads == []
    assert "url(http" not in html
    assert "@import" not in html
    assert page.tags.count("svg") == 9  # eight curves and the architecture
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.anchors for link in page.links)
    assert 'class="badge stand-in"' in html
    assert "prefers-color-scheme: dark" in html
    assert len(re.findall(r'<i class="', html)) == 11  # one square for each experiment


def test_text_from_records_cannot_become_markup(week: Path) -> None:
    file = week / "day15" / "experiments" / "workspace-64-256-1024" / "record.json"
    record = json.loads(file.read_text())
    record["reason"] = "<script>alert(1)</script> | pipe"
    file.write_text(json.dumps(record))
    html = weekly(week)[1].read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_too_few_results_are_said_and_not_invented(week: Path) -> None:
    for name in ("day16/experiments/redis-triton-response-cache", "day19/experiments/bert-fp16-vs-int8"):
        shutil.rmtree(week / name)
    for name in ("day16/experiments/hit-rate-10-50-90", "day15/experiments/engine-cache-cold-start"):
        shutil.rmtree(week / name)
    shutil.rmtree(week / "day18" / "experiments")
    lines = weekly(week)[2].read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Only 1 of 3 bullets")
    assert "day16/redis-triton-response-cache" in lines[1]


def test_what_failed_is_a_next_step_with_its_command(week: Path) -> None:
    file = week / "day18" / "experiments" / "instances-1-2-4-throughput" / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "failed", "reason": "the server died"}))
    steps = weekly(week)[0].read_text(encoding="utf-8").partition("## Next steps")[2].partition("## ")[0]
    assert "the server died → `run plan=day18 experiment=instances-1-2-4-throughput`: `day18/" in steps
