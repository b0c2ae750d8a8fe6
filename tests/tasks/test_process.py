"""Ports for servers: free, and out of the way of everybody else's connections."""

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
