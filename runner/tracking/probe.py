"""Whether a tracking server answers, without MLflow: a dead one must not cost the import."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from runner.tracking.database import path_of


def away(where: str, timeout_s: float) -> str:
    """Why the server at `where` cannot be used now; empty when anything answered in HTTP, or it is a SQLite file."""
    if path_of(where) is not None:
        return ""
    parts = urlsplit(where)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    began = time.monotonic()
    connection = connect(parts.hostname or "", parts.port or (443 if secure else 80), timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path}/health")
        connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        waited = time.monotonic() - began
        return f"{where} does not answer ({error or type(error).__name__}, after {waited:.1f} s)"
    finally:
        connection.close()
    return ""
