"""A kubectl that writes down what it is asked and answers from a table, for tests without a cluster."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

KUBECTL = """#!{python}
import fcntl, http.server, json, pathlib, sys
home = pathlib.Path({home!r})
words = " ".join(sys.argv[1:])
given = sys.stdin.read() if "--filename=-" in sys.argv else ""
turn = (home / "turn").open("w")
fcntl.flock(turn, fcntl.LOCK_EX)  # several may ask at once; the kernel gives it back when this one ends
with (home / "asked").open("a") as asked:
    asked.write(json.dumps([words, given]) + "\\n")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served")
    def log_message(self, *words):
        pass
if "proxy" in sys.argv or "port-forward" in sys.argv:
    told = next((word for word in sys.argv if word.startswith("--port=")), sys.argv[-1])
    port = int(told.removeprefix("--port=").partition(":")[0])
    turn.close()
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
for number, (part, answers) in enumerate(json.loads((home / "answers").read_text())):
    if part in words:
        count = home / f"count-{{number}}"
        asked_before = int(count.read_text()) if count.exists() else 0
        count.write_text(str(asked_before + 1))
        answer = answers[min(asked_before, len(answers) - 1)]
        if answer.startswith("Error"):
            sys.exit(answer)
        print(answer)
        break
"""
NAME = ("--output=jsonpath={.items[0].metadata.name}", "triton")


class Kubectl:
    """`answers(*pairs)`: what it says to commands with a text in them, or in turn (the last one stays)."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def answers(self, *pairs: tuple[str, str | Sequence[str]]) -> None:
        for count in self.home.glob("count-*"):
            count.unlink()
        table = [(part, [answer] if isinstance(answer, str) else answer) for part, answer in [*pairs, NAME]]
        (self.home / "answers").write_text(json.dumps(table), encoding="utf-8")

    def asked(self) -> list[str]:
        """The commands so far."""
        return [words for words, _ in self._asked()]

    def given(self) -> list[str]:
        """What was put into its standard input, command by command."""
        return [given for _, given in self._asked() if given]

    def _asked(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.home / "asked").read_text(encoding="utf-8").splitlines()]


def installed(home: Path) -> tuple[Kubectl, Path]:
    """The fake and the folder to put in front of PATH."""
    script = home / "bin" / "kubectl"
    script.parent.mkdir(parents=True)
    script.write_text(KUBECTL.format(python=sys.executable, home=str(home)), encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    fake = Kubectl(home)
    fake.answers()
    return fake, script.parent
