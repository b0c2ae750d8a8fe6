"""What the cache_proxy kind can be asked: its parameters and the axes of its matrix."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks import api

Scenario = Literal["response_cache", "hit_rate", "expiry", "concurrency", "inconsistent_update"]
PLUGIN_BACKEND = "Triton's Redis cache"  # Triton's own cache plug-in, part of the NGC image


class Params(api.Params):
    """Which question, and how much load. Every scenario reads only the fields that it needs."""

    scenario: Scenario
    client: str = Field("redis_client.py", pattern=r"^[\w.-]+\.py$")  # a file of the day's folder
    requests: int = Field(300, ge=1)  # for each repeat (concurrency: for each connection and repeat)
    repeats: int = Field(3, ge=1)
    workers: int = Field(4, ge=1)  # requests in flight (closed loop)
    pool: int = Field(150, ge=8)  # different inputs that are asked again and again
    zipf: float = Field(1.0, ge=0)  # popularity of the pool's inputs: the n-th is asked n^-zipf times as often
    ttl_s: float = Field(60.0, gt=0)
    rate_rps: float = Field(60.0, gt=0)  # open loop
    window_s: float = Field(14.0, gt=0)  # how long is watched
    update_every_s: float = Field(3.0, gt=0)
    one_off_pct: float = Field(25.0, ge=0, le=100)  # share of inputs that are asked once
    notice_s: float = Field(0.3, ge=0)  # the cache hears of an update this much after Triton
    lag_s: float = Field(1.5, ge=0)  # one-way delay of the slow replica's link to Redis


class Point(api.Params):
    cache: Literal["off", "redis", "triton_local"] = "off"
    hit_rate_pct: int = Field(50, ge=0, le=100)
    ttl_s: int = Field(10, ge=1)
    concurrency: int = Field(1000, ge=1, le=7000)
    invalidation: Literal["none", "ttl", "delete_on_update", "versioned_key"] = "ttl"
