"""Every kind and every checker, by name. Adding one: a module, a line here, a test."""

from __future__ import annotations

from tasks.api import Check, Kind

KINDS: dict[str, Kind] = {}

CHECKS: dict[str, Check] = {}
