"""What a person sees while a plan runs: a table first, then every experiment and point, then a summary."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Table

from runner import grid, store
from runner.jobs import Job, Proof
from runner.plan import Plan
from runner.preflight import Lack, Machine
from tasks.api import Needs, read_rows

COLOUR = {"passed": "green", "failed": "red", "blocked": "yellow", "ok": "green", "stale": "magenta"}
SHOWN_METRICS = 3


class Screen:
    """Prints to a terminal with live progress, or plain lines to a file or pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.last = ""
        self.spinner: Status | None = None
        self.began = time.monotonic()

    @classmethod
    def quiet(cls) -> Screen:
        """For `--json`: nothing but the answer goes to standard output."""
        return cls(Console(highlight=False, stderr=True))

    def line(self, text: str) -> None:
        self.rest()
        self.console.print(text, soft_wrap=True)

    def rest(self) -> None:
        """Take the spinner away: something that stays is printed next."""
        if self.spinner:
            self.spinner.stop()
            self.spinner = None

    def progress(self, message: str) -> None:
        """One step of long work: a spinner's text in a terminal, else a line (a repeated message once)."""
        if self.live:
            self.spinner = self.spinner or self.console.status("")
            self.spinner.start()
            self.spinner.update(escape(message))
        elif message != self.last:
            self.line(f"[dim]· {escape(message)}[/dim]")
        self.last = message

    @contextmanager
    def busy(self, what: str) -> Iterator[Callable[[str], None]]:
        """A spinner whose text the work keeps changing; nothing but the first line goes to a file or pipe."""
        if not self.live:
            self.progress(what)
            yield lambda message: None
            return
        self.rest()
        with self.console.status(escape(what)) as spinner:
            yield lambda message: spinner.update(escape(message))

    def notes(self, messages: Sequence[str]) -> None:
        for message in messages:
            self.line(f"[yellow]! {escape(message)}[/yellow]")

    def waiting(self, busy: store.Busy) -> None:
        self.line(f"waiting: {escape(str(busy))}")

    def opening(
        self, plan: Plan, machine: Machine, todo: Sequence[tuple[Job, Needs]],
        blocked: Sequence[tuple[Job, tuple[Lack, ...]]], done: int,
    ) -> None:  # fmt: skip
        """What will run, on what, for how long; what cannot, and why."""
        gpus = "; ".join(machine.gpus) or "no GPU"
        self.line(f"[bold]{plan.id}[/bold] on {machine.host}: {machine.cores} cores, {machine.memory_gb:g} GB, {gpus}")
        minutes = sum(job.experiment.minutes for job, _ in todo)
        took = f", about {minutes:.0f} min" if minutes >= 1 else ""
        self.line(f"{len(todo)} to measure{took} · {done} already done · {len(blocked)} blocked here")
        if not todo and not blocked:
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("day", "experiment"):
            table.add_column(heading, no_wrap=True)
        for heading in ("backend", "tier"):
            table.add_column(heading, overflow="fold")
        for job, needs in todo:
            tier = f"stand-in for {needs.stand_in_for}" if needs.stand_in_for else "native"
            table.add_row(job.day.id, job.id, needs.backend, tier)
        for job, lacks in blocked:
            reason = escape("; ".join(lack.what for lack in lacks))
            table.add_row(job.day.id, job.id, job.needs[0].backend, f"[yellow]blocked: {reason}[/yellow]")
        self.console.print(table)

    @contextmanager
    def job(self, number: int, total: int, job: Job, needs: Needs) -> Iterator[Callable[[int], None]]:
        """A progress bar over the experiment's points (in a terminal), or a line for each point."""
        head = f"[{number}/{total}] {job.day.id} {job.id}"
        planned, seen = len(job.points), 0
        self.rest()
        if self.live:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20),
                       TextColumn("{task.completed:.0f}/{task.total:.0f} points"), TimeElapsedColumn())  # fmt: skip
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(escape(f"{head} · {needs.backend}"), total=planned)
                yield lambda count: bar.update(task, completed=count)
            return
        self.line(escape(f"{head} · {needs.backend} …"))

        def tick(count: int) -> None:
            nonlocal seen
            if count != seen:
                seen = count
                self.line(f"    {count}/{planned} points")

        yield tick

    def ended(self, record: Mapping[str, Any], root: Path) -> None:
        """The experiment's outcome with its first figures, or its reason and how to go on."""
        status = record["status"]
        tier = f" (stand-in for {record['stand_in_for']})" if record["tier"] == "stand-in" else ""
        self.line(
            f"  [{COLOUR[status]}]{status}[/] {record['day']} {record['id']}{escape(tier)} {record['seconds']:.1f} s"
        )
        folder = store.experiment_dir(root, record["week"], record["day"], record["id"], record["variant"])
        for row in read_rows(folder / "rows.jsonl", record["spec"]) if status == "passed" else ():
            self.line(f"      [dim]{escape(figures(row, record['stanza']['metrics']))}[/dim]")
        for claim in record["claims"]:
            if claim["verdict"] != "unknown":
                mark = "[green]✓[/]" if claim["verdict"] == "confirmed" else "[cyan]✗ refuted, a finding[/]"
                self.line(f"      {mark} {escape(claim['text']['en'])}: {claim['measured']:.4g}")
        if status == "failed":
            self.line(f"      {escape(record['reason'])}")
            for line in log_tail(folder / "log.txt", 6):
                self.line(f"      [dim]{escape(line)}[/dim]")
            self.line(f"      log: {folder / 'log.txt'}")
            if record["week"] != "adhoc":
                self.line(f"      go on with: run plan={record['day']} experiment={record['id']}")

    def verdict(self, proof: Proof, verdict: Mapping[str, Any]) -> None:
        status = verdict["status"]
        self.line(f"  [{COLOUR[status]}]{status}[/] {proof.day.id}/{proof.deliverable.path}")
        for check in verdict["checks"]:
            if not check["ok"]:
                self.line(f"      {check['check']}: {escape(check['message'])}")
        if verdict["reason"]:
            self.line(f"      {escape(verdict['reason'])}; {escape(verdict['remedy'])}")

    def tracked(self, sent: Any) -> None:
        if sent.left:
            self.notes([f"MLflow: {sent.left} records and days wait on disk ({sent.reason}); `run sync` sends them"])
        elif sent.sent:
            self.line(f"[dim]· MLflow has them: {sent.sent} records and days sent[/dim]")

    def closing(self, status: Mapping[str, Any] | None, ended: Sequence[Mapping[str, Any]]) -> None:
        """Where the plan stands (if it is one), what is blocked with its remedy, where to look."""
        self.line("")
        for text in grid.lines(status, colour=self.live) if status else ():
            print(text)
        for record in ended:
            if record["status"] == "blocked":
                self.line(f"[yellow]blocked[/] {record['day']} {record['id']}: {escape(record['reason'])}")
                self.line(f"        {escape(record['remedy'])}")
        self.line(f"took {duration(time.monotonic() - self.began)} · reports under artifacts/ · `run ui` opens MLflow")

    def closing_variants(self, ended: Sequence[Mapping[str, Any]]) -> None:
        """Where the figures of what was overridden are kept."""
        where = sorted({f"{r['day']}/experiments/{r['id']}+{r['variant']}" for r in ended if r["variant"]})
        if where:
            self.line("overridden, so kept apart from the plan's own (which conf/config.yaml chooses for);")
            self.line("compare them in MLflow (`run ui`):")
        for path in where:
            self.line(f"    {path}")


def figures(row: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """`instances=4  throughput_rps 354  latency_p99_ms 12.1`."""
    axes = " ".join(f"{axis}={value}" for axis, value in row["point"].items())
    shown = [name for name in metrics or row["metrics"] if name in row["metrics"]][:SHOWN_METRICS]
    if row.get("blocked"):
        return f"{axes}  blocked: {row['blocked']}"
    return "  ".join([axes, *(f"{name} {row['metrics'][name]:.4g}" for name in shown)]).strip()


def log_tail(log: Path, count: int) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-count:]


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
