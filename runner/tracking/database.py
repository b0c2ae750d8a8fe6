"""The default store's SQLite file: fast while it is written, a single whole file afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


def path_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:") else None


@contextmanager
def opened(store: Path | None) -> Iterator[None]:
    """Write-ahead logging: half the time per write, and the UI can read meanwhile. Afterwards the log is empty.

    A log left beside a deleted file would be played into the new one: it goes first.
    """
    if store is None:
        yield
        return
    if not store.exists():
        for rest in ("-wal", "-shm", "-journal"):
            store.with_name(store.name + rest).unlink(missing_ok=True)
    execute(store, "PRAGMA journal_mode=WAL")
    try:
        yield
    finally:
        execute(store, "PRAGMA wal_checkpoint(TRUNCATE)")


def execute(store: Path, pragma: str) -> None:
    """Each of these only saves time or files: a store that is busy with a reader goes on without."""
    try:
        with closing(sqlite3.connect(store)) as connection:
            connection.execute(pragma)
    except sqlite3.OperationalError:
        pass  # locked by a reader just now
