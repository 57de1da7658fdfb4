"""Moments of schedules: cron lines in the project's time zone, safe over clock changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

__all__ = ["moments_in"]


def moments_in(timezone: str) -> Callable[[str, float], float]:
    """(cron line, after) -> the first moment of the schedule after that time, in seconds since the epoch.

    A moment that the spring clock change skips is served right after it; one that the autumn change doubles is served
    once (Debian cron's rules, as cronsim implements them).
    """
    zone = ZoneInfo(timezone)

    @lru_cache(maxsize=10_000)
    def following(line: str, after: float) -> float:
        start = datetime.fromtimestamp(max(0.0, after), UTC).astimezone(zone)
        return next(CronSim(line, start)).timestamp()

    return following
