"""Kind `recording_rules`: the same chart from raw counters and from a recording rule, over hours of history."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import configuration, promtool
from tasks.observability.history import MODELS, Counters
from tasks.services import prometheus
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus, Series
from tasks.services.timing import repeat, spread

METRICS = {
    "query_p50_ms": "median time of a range query over the whole history, seen by the client",
    "query_p95_ms": "95th percentile of the same",
    "rule_eval_ms": "mean time of one evaluation of the rule, by Prometheus; the raw query needs none",
    "value_diff_pct": "mean distance of the chart from the raw query's at the same times; 0 for the raw query itself",
    "true_diff_pct": "mean distance of the chart from the true rate of the known counters at the same times",
    "samples": "samples of history that the raw query reads",
}
JOB = "service"
PHASES_S = (0, 3, 6, 9, 12)  # where a dashboard's moments fall between two evaluations is chance


class Params(Base):
    config: str = "prometheus.yaml"
    rules: str = "rules.yaml"
    record: str = "model:http_requests:rate1m"  # the rule that is compared with its own expression
    series: int = 400
    hours: float = 4
    step_s: int = 15  # of the history: its scrape and evaluation interval
    chart_step_s: int = 60
    window_s: int = 60  # of the rule's rate: the truth is the increase over it
    budget_s: float = 3  # of repeated queries, for each point
    live_s: float = 6  # how long the rule is evaluated live, once a second


class Point(Base):
    query: Literal["raw", "recorded"] = "raw"
    window: Literal["1m"] = "1m"


@dataclass(frozen=True)
class Rule:
    """A recording rule and what one evaluation of it takes, in ms."""

    record: str
    expression: str
    evaluation_ms: float


@dataclass(frozen=True)
class Chart:
    """A range of the history and the distance of its moments, in s."""

    start: float
    end: float
    step_s: int

    def draw(self, server: Prometheus, expression: str, shift_s: float = 0) -> list[Series]:
        return server.query_range(expression, self.start + shift_s, self.end + shift_s, self.step_s)


def needs(params: Params) -> Sequence[Needs]:
    tools = ("prometheus", "promtool")
    return [Needs("Prometheus", binaries=tools, modules=("prometheus_client",), unmeasured=("rule_eval_ms",))]


def run(params: Params, ctx: Context) -> None:
    """Backfill, record the rule over the history, go on live under scraping, then ask both ways in turn."""
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    expression = recorded_expression(ctx.day / params.rules, params.record)
    end = float(int(time.time()) // params.step_s * params.step_s)
    counters = Counters(params.series, end - params.hours * 3600)
    with expose(counters.registry(time.time)) as address:
        data = ctx.scratch / "server" / "data"
        ctx.say(f"writing {params.hours:g} hours of {params.series} series")
        samples = fill(params, counters, address, end, data, expression)
        placed = configuration.placed(config, ctx.day, {JOB: address}, interval_s=1)
        with prometheus.configured(placed, ctx.scratch / "server") as server:
            prometheus.await_targets(server, 1, timeout_s=20)
            rule = Rule(params.record, expression, evaluation_ms(server, params))
            chart = Chart(counters.start + 600, end - params.chart_step_s, params.chart_step_s)
            compare(params, ctx, server, counters, rule, chart, samples)


def compare(
    params: Params, ctx: Context, server: Prometheus, counters: Counters, rule: Rule, chart: Chart, samples: int
) -> None:
    """Draw the chart both ways: how long it takes, and how far apart the values are."""
    raw = whole(chart, server, rule.expression)
    truth = {key: true_rate(counters, *key, params.window_s) for key in raw}
    for point in ctx.points:
        ctx.say(f"asking the {point.query} query")
        asked = rule.record if point.query == "recorded" else rule.expression
        shifts = [(server, asked, -float(shift)) for shift in range(params.step_s)]  # no two alike in a row
        times = spread(repeat(chart.draw, shifts, params.budget_s))
        found = whole(chart, server, asked)
        metrics = {
            "query_p50_ms": times.p50,
            "query_p95_ms": times.p95,
            **({"rule_eval_ms": rule.evaluation_ms} if point.query == "recorded" else {}),
            "value_diff_pct": distance_pct(found, raw),
            "true_diff_pct": distance_pct(found, truth),
            "samples": samples,
        }
        ctx.record(point, metrics, {"query_p50_ms": times, "query_p95_ms": times})


def recorded_expression(file: Path, record: str) -> str:
    """The expression of a recording rule. Raises UserError when promtool refuses the file or has no such rule."""
    import yaml

    promtool.check_rules(file)
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    rules = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}
    if record not in rules:
        raise UserError(f"there is no recording rule {record!r} (there: {', '.join(rules) or 'none'})", where=file.name)
    return str(rules[record])


def fill(params: Params, counters: Counters, address: str, end: float, data: Path, expression: str) -> int:
    """History of the counters and of the rule as blocks in `data`; returns the number of the counters' samples."""
    folder = data.parent
    folder.mkdir(parents=True)
    file = folder / "history.om"
    samples = counters.write(file, {"instance": address, "job": JOB}, end, params.step_s)
    promtool.backfill(file, data)
    file.unlink()
    rules = folder / "recorded.yaml"  # this rule alone: promtool would record alerts too
    group = {"name": "recorded", "rules": [{"record": params.record, "expr": expression}]}
    rules.write_text(json.dumps({"groups": [group]}), encoding="utf-8")
    with reading(data) as server:
        made = folder / "made"
        promtool.backfill_rules(rules, server.address, counters.start, end, params.step_s, made)
    for block in made.iterdir():
        shutil.move(block, data / block.name)
    return samples


@contextmanager
def reading(data: Path) -> Iterator[Prometheus]:
    """A Prometheus that only serves the blocks in `data`."""
    with prometheus.configured({"scrape_configs": []}, data.parent) as server:
        yield server


def evaluation_ms(server: Prometheus, params: Params) -> float:
    """The mean of the rule's evaluation times, as Prometheus reports each, while it is evaluated live."""
    found: dict[str, float] = {}
    error = "not within the time given"
    deadline = time.monotonic() + params.live_s
    while time.monotonic() < deadline:
        rules = [rule for group in server.ask("rules", {})["groups"] for rule in group["rules"]]
        rule = next((one for one in rules if one["name"] == params.record), None)
        if rule is None:
            raise UserError(f"no rule file of {params.config} has {params.record}", where=params.config)
        if rule["health"] == "ok":
            found[rule["lastEvaluation"]] = rule["evaluationTime"] * 1000
        error = rule.get("lastError", error)
        time.sleep(0.2)
    if not found:
        raise UserError(f"{params.record} was not evaluated: {error}", where=params.rules)
    return sum(found.values()) / len(found)


def whole(chart: Chart, server: Prometheus, expression: str) -> dict[tuple[str, float], float]:
    """(model, unix time) -> value, at moments of every phase between two evaluations of the rule."""
    drawn = [one for shift in PHASES_S for one in chart.draw(server, expression, -shift)]
    if any("model" not in one.labels for one in drawn):
        raise UserError("must keep the label model: sum by (model) (…)", where=expression)
    return {(one.labels["model"], at): value for one in drawn for at, value in one.samples}


def true_rate(counters: Counters, model: str, at: float, window_s: float) -> float:
    """Requests per second of a model over the window before a unix time."""
    rates = (counters.values(at) - counters.values(at - window_s)) / window_s
    return float(rates[int(model.removeprefix("model_")) :: MODELS].sum())


def distance_pct(found: Mapping[Any, float], reference: Mapping[Any, float]) -> float:
    """The mean relative distance in percent, over the points that both have; UserError when there are none."""
    shared = found.keys() & reference.keys()
    if not shared:
        raise UserError("the query has no values for the time of the history")
    return 100 * sum(abs(found[key] - reference[key]) / reference[key] for key in shared) / len(shared)
