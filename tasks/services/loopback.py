"""A private network for this process and its children: only `lo`, so nothing that they open is seen outside.

Some servers (Ray, its HAProxy) cannot be told to listen on 127.0.0.1 alone. Inside a network namespace of their own
they cannot do otherwise, and their fixed ports never meet those of another run.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000  # linux/sched.h
SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP, IFF_RUNNING = 0x1, 0x40  # linux/if.h


def isolate() -> bool:
    """Move the calling process into a network of its own; False where the machine does not allow it.

    Irreversible: call it in a process that needs no other network. Without root it needs unprivileged user
    namespaces, and a process that has started no thread yet.
    """
    user, group = os.getuid(), os.getgid()
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(CLONE_NEWNET) != 0:
        if unshare(CLONE_NEWNET | CLONE_NEWUSER) != 0:
            return False
        keep_identity(user, group)
    with socket.socket() as handle:
        request = struct.pack("16sH22x", b"lo", IFF_UP | IFF_RUNNING)
        fcntl.ioctl(handle, SIOCSIFFLAGS, request)
    return True


def keep_identity(user: int, group: int) -> None:
    """In a new user namespace: the same user and group as before, so that files keep their owner."""
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny", encoding="ascii")
    (own / "uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    (own / "gid_map").write_text(f"{group} {group} 1", encoding="ascii")
