"""The command `run`: verbs and the Hydra entry. No logic: it dispatches, prints mistakes, returns exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.errors import HERE, Mistakes, disk_full, mistake, nearest

HELP = """\
run – execute a plan for real, check every deliverable, record every figure

  run plan=week03                 a week, a day (plan=day18), another plan (four_weeks) or all; goes on where it ended
  run plan=week03 day=18          one day of it            experiment=ID   one experiment of it
  run plan=week12 model=NAME      another model; engine=, machine=, tracking=, environment= likewise (kept apart)
  run plan=day18 force=true       measure again            wait=true       wait for another run on the same week
  run plan=day18 plan.days.day18.experiments.ID.matrix.instances=[1,8]     change anything (kept apart)
  run -m plan=day18 plan.days.day18.experiments.ID.matrix.instances=[1],[4]   sweep (hydra/launcher=joblib: at once)
  run task=KIND params.seconds=1  one kind, ad hoc         --cfg job       print what would run

  run status [PLAN] [--json] [--lang zh]     where you stand     run next     what comes next
  run check PLAN                  prove the deliverables again, and say what each check saw
  run done DAY [ITEM]             tick your own checklist (leetcode, question-1 …); without ITEM: show it
  run report [PLAN] [--lang zh]   rebuild the reports from the records
  run doctor [PLAN] [--card GB]   this machine: what it can run, which models fit; what is missing, with remedies
  run setup [PLAN]                install what a plan needs: Debian packages, environments
  run sync                        send waiting records to MLflow        run ui [--port N]   MLflow's own pages
  run list                        plans, models, engines, kinds …       run lint            prove the content

PLAN is week03, day18, four_weeks, days-1-3 … or all (the default). `run VERB --help` says more.
Exit: 0 all passed, 1 something failed, 2 your mistake, 3 nothing failed but something is blocked, 130 interrupted.
"""

LIGHT = ("status", "next", "done")
WORKING = ("check", "report", "doctor", "setup", "sync", "ui", "lint", "list")
VERBS = (*LIGHT, *WORKING)


def main() -> None:
    """Console entry point."""
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(argv: list[str]) -> int:
    """Run one command line. Returns the exit code."""
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(HELP, end="")
            return 0
        verb, root = argv[0], project()
        if verb in LIGHT:
            from runner import glance

            return glance.VERBS[verb](root, argv[1:])
        if verb in WORKING:
            from runner import verbs

            return verbs.run(verb, root, argv[1:])
        for word in argv:
            if "=" not in word and not word.startswith(("-", "~")) and not _option_value(argv, word):
                raise mistake(f"'{word}' is no verb", where=HERE, remedy=nearest(word, VERBS, noun="verbs"))
        from runner import glance

        if glance.nothing_to_do(root, argv):
            return 0
        from runner import compose

        return compose.run(root, argv)
    except Mistakes as found:
        print(found, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured is kept; the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0  # `run status | head`
    except OSError as error:
        if not (full := disk_full(error)):
            raise
        print(full, file=sys.stderr)
        return 1


def _option_value(argv: list[str], word: str) -> bool:
    """Hydra's `--cfg job` and the like take a bare word."""
    at = argv.index(word)
    return at > 0 and argv[at - 1] in (
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--info",
        "-i",
        "--config-dir",
        "--config-name",
    )


def project(here: Path | None = None) -> Path:
    """The project that is run: the nearest folder above with plans/ and conf/, else the checkout of this code."""
    here = here or Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "plans").is_dir() and (folder / "conf" / "config.yaml").is_file():
            return folder
    return Path(__file__).resolve().parent.parent
