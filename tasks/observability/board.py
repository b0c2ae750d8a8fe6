"""A Grafana dashboard file, read as its panels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.api import UserError


def panels(file: Path) -> list[dict[str, Any]]:
    """All panels, those inside rows too. Raises UserError when the file is no dashboard."""
    try:
        board = json.loads(file.read_text(encoding="utf-8"))
        top, title = board["panels"], board["title"]
        found = [panel for one in top for panel in (one.get("panels", []) if one.get("type") == "row" else [one])]
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=file.name) from error
    except json.JSONDecodeError as error:
        raise UserError(f"is not JSON: {error.msg}", where=f"{file.name}:{error.lineno}") from error
    except (UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError("is no dashboard: it has no title or no panels", where=file.name) from error
    if not title or not found:
        raise UserError("has no title or no panel", where=file.name)
    return found
