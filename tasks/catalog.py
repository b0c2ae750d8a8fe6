"""Every kind and every checker, by name. Adding one: a module, a line here, a test."""

from __future__ import annotations

from tasks import rehearsal
from tasks.api import Check, Kind
from tasks.checks import redis_client
from tasks.traffic import cache_proxy
from tasks.triton import ensemble as triton_ensemble

KINDS: dict[str, Kind] = {
    "cache_proxy": cache_proxy,
    "rehearsal": rehearsal,
    "triton_ensemble": triton_ensemble,
}

CHECKS: dict[str, Check] = {
    "redis_client": redis_client,
}
