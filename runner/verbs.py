"""The verbs that work: `check report doctor setup sync ui lint list`. Each reads its words and calls one module."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from runner import deliver, doctor, environments, glance, groups, jobs, lint, settings, store, tracking, workflow
from runner.errors import HERE, mistake, nearest
from runner.jobs import Work
from runner.plan import Plan, names
from runner.preflight import missing_packages, probe
from runner.request import Request, plain_stanzas
from runner.show import Screen, as_json
from tasks.api import UserError
from tasks.catalog import CHECKS, KINDS

USAGE = {
    "check": "usage: run check PLAN [--json]\n\nProve the deliverables again, whatever was proved before.",
    "report": "usage: run report [PLAN] [--lang en|zh]\n\nRebuild the reports from the records alone.",
    "doctor": "usage: run doctor [PLAN] [--json] [--card GB]\n\n"
    "This machine, its environments, which models fit its GPU (or a card of that size), what a plan can run on it.",
    "setup": "usage: run setup [PLAN]\n\n"
    "Install what a plan needs: Debian packages (as root or with sudo -n), environments.",
    "sync": "usage: run sync [tracking=NAME]\n\nSend every record that MLflow has not got yet, each exactly once.",
    "ui": "usage: run ui [--port N] [tracking=NAME]\n\nMLflow's own pages on loopback; Ctrl-C stops them.",
    "lint": "usage: run lint\n\nProve the content: every plan, reference, checker and fixture.",
    "list": "usage: run list [--json]\n\nEvery plan, model, engine, kind and check.",
}
FLAGS = {"check": ("--json",), "doctor": ("--json",), "list": ("--json",)}
VALUED = {"report": ("--lang",), "ui": ("--port",), "doctor": ("--card",)}


def run(verb: str, root: Path, argv: list[str]) -> int:
    """One verb. Returns the exit code; raises Mistakes."""
    if {"-h", "--help"} & set(argv):
        print(USAGE[verb])
        return 0
    most = 0 if verb in ("lint", "list") else 1
    words, given = glance.options(verb, argv, FLAGS.get(verb, ()), VALUED.get(verb, ()), most)
    try:
        return VERBS[verb](root, words, given)
    except UserError as error:
        print(error, file=sys.stderr)
        return workflow.FAILED


def request_for(root: Path, plan: Plan, lang: str = "en") -> Request:
    """The request of a verb that overrides nothing."""
    chosen = groups.defaults(root)
    return Request(root=root, settings=chosen, defaults=chosen, plain=plain_stanzas(plan), lang=lang)


def planned(root: Path, words: list[str], default: str = "") -> tuple[Plan, Work]:
    name = words[0] if words else default
    if not name:
        raise mistake("which plan?", where=HERE, remedy="a week, a day or another plan: week03, day18, …")
    return jobs.read(root, name)


def check(root: Path, words: list[str], given: dict[str, object]) -> int:
    plan, work = planned(root, words)
    request, screen, machine = request_for(root, plan), Screen(), probe(root)
    for proof in work.proofs:
        store.verdict_file(root, proof.day.week, proof.day.id, proof.deliverable.path).unlink(missing_ok=True)
    verdicts = deliver.prove(work.proofs, machine, request, Screen.quiet() if given.get("json") else screen)
    if given.get("json"):
        print(as_json(verdicts))
    else:
        for verdict in verdicts:
            for one in verdict["checks"]:
                screen.line(f"    {verdict['path']} · {one['check']}: {one['message']}")
        waiting = len(work.proofs) - len(verdicts)
        screen.line(f"{sum(v['status'] == 'ok' for v in verdicts)} of {len(work.proofs)} proved, {waiting} not due yet")
    return workflow.exit_code([], verdicts)


def write_report(root: Path, words: list[str], given: dict[str, object]) -> int:
    plan, _ = planned(root, words, "all")
    for day in plan.days:
        for path in deliver.write(day, root, str(given.get("lang", "en"))):
            print(path.relative_to(root))
    return workflow.PASSED


def diagnose(root: Path, words: list[str], given: dict[str, object]) -> int:
    plan, work = planned(root, words, "all")
    found = doctor.examine(work, request_for(root, plan), probe(root), card(given))
    if given.get("json"):
        print(as_json(found))
    else:
        doctor.show(found, Screen())
    return workflow.PASSED


def card(given: dict[str, object]) -> float | None:
    """The size in GB that `--card` names; raises Mistakes when it is none."""
    said = str(given.get("card", "")).lower().removesuffix("gb").strip()
    if "card" not in given:
        return None
    if not said.replace(".", "", 1).isdigit() or float(said) <= 0:
        raise mistake(f"'{given['card']}' is no size", where=HERE, key="--card", remedy="gigabytes: --card 8")
    return float(said)


def setup(root: Path, words: list[str], given: dict[str, object]) -> int:
    plan, work = planned(root, words, "all")
    request, screen, machine = request_for(root, plan), Screen(), probe(root)
    options = [job.needs for job in work.jobs] + [(c.needs(p),) for proof in work.proofs for _, c, p in proof.checks]
    if why := environments.install_packages(missing_packages(options, machine), screen.progress):
        screen.notes([f"Debian packages are missing: {why}"])
    split = workflow.choose(work.jobs, machine, request, screen)
    deliver.provision(work.proofs, machine, request, screen)
    screen.line(f"{len(split.ready)} experiments can run here, {len(split.blocked)} are blocked (run doctor {plan.id})")
    return workflow.PASSED


def tracking_of(root: Path, words: list[str]) -> tracking.TrackingSettings:
    """Where MLflow is: conf/config.yaml's choice, or `tracking=NAME`."""
    name, known = settings.default_names(root)["tracking"], settings.choices(root, "tracking")
    for name in (word.removeprefix("tracking=") for word in words):
        if name not in known:
            raise mistake(f"no tracking '{name}'", where=HERE, remedy=nearest(name, known, noun="tracking"))
    return tracking.TrackingSettings(**groups.choices(root, {"tracking": name})["tracking"])


def sync(root: Path, words: list[str], given: dict[str, object]) -> int:
    screen, tracked = Screen(), tracking_of(root, words)
    with screen.busy("sending records to MLflow") as say:
        sent = tracking.sync(root / "artifacts", tracked, say)
    screen.tracked(sent)
    if not sent.sent and not sent.left:
        screen.line("MLflow has every record already")
    return workflow.FAILED if sent.left else workflow.PASSED


def ui(root: Path, words: list[str], given: dict[str, object]) -> int:
    port = str(given.get("port", "0"))
    if not port.isdigit() or int(port) > 65535:
        raise mistake(f"'{port}' is no port", where=HERE, key="--port", remedy="a number, 0 for any free one")
    return tracking.ui(root / "artifacts", tracking_of(root, words), int(port))


def prove_content(root: Path, words: list[str], given: dict[str, object]) -> int:
    return lint.run(root, Screen())


def show_list(root: Path, words: list[str], given: dict[str, object]) -> int:
    chosen = {f"{group}s": settings.choices(root, group) for group in ("model", "engine")}
    found = {"plans": names(root), **chosen, "kinds": sorted(KINDS), "checks": sorted(CHECKS)}
    if given.get("json"):
        print(as_json(found))
        return workflow.PASSED
    lines = textwrap.TextWrapper(110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    for what, entries in found.items():
        print(f"{what}:\n{lines.fill(', '.join(entries))}")
    return workflow.PASSED


VERBS: dict[str, Callable[[Path, list[str], dict[str, object]], int]] = {
    "check": check, "report": write_report, "doctor": diagnose, "setup": setup, "sync": sync, "ui": ui,
    "lint": prove_content, "list": show_list,
}  # fmt: skip
