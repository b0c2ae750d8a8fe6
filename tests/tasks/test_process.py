"""Servers as children: a port out of everybody else's way, and the last lines of their logs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tasks.services import process


def test_a_free_port_is_none_that_an_outgoing_connection_is_given() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    found = {process.free_port() for _ in range(20)}
    assert len(found) > 10, "servers that start together do not want the same one"
    if lowest > 20_000:
        assert all(1024 <= port < lowest for port in found)


def test_a_port_on_which_somebody_listens_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((process.LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        ports = tmp_path / "range"
        ports.write_text(f"{taken + 1} 60999\n", encoding="ascii")
        monkeypatch.setattr(process, "OUTGOING", ports)
        monkeypatch.setattr(process, "BELOW", 1)  # the taken one alone
        assert process.free_port() != taken


def test_where_all_ports_are_for_outgoing_connections_the_kernel_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = tmp_path / "range"
    ports.write_text("1024 65535\n", encoding="ascii")
    monkeypatch.setattr(process, "OUTGOING", ports)
    assert process.free_port() >= 1024


def test_the_last_lines_of_a_log_leave_tracebacks_to_the_log(tmp_path: Path) -> None:
    """Plain ones, and those of a server that prefixes its lines."""
    log = tmp_path / "server.log"
    log.write_text(
        """loading the weights
Traceback (most recent call last):
  File "/lib/engine.py", line 7, in run
    load(folder)
    ^^^^^^^^^^^^
ValueError: the header is damaged
(Engine pid=7) ERROR 11-23 [core.py:12] Traceback (most recent call last):
(Engine pid=7) ERROR 11-23 [core.py:12]   File "/lib/core.py", line 9, in start
(Engine pid=7) ERROR 11-23 [core.py:12]     raise RuntimeError(
(Engine pid=7) ERROR 11-23 [core.py:12] RuntimeError: see above
    advice that is indented
""",
        encoding="utf-8",
    )
    assert process.tail(log).splitlines() == [
        "loading the weights", "ValueError: the header is damaged",
        "(Engine pid=7) ERROR 11-23 [core.py:12] RuntimeError: see above", "    advice that is indented",
    ]  # fmt: skip
    assert process.tail(log, 1) == "    advice that is indented"
