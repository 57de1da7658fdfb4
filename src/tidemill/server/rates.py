"""How often each access key may ask: so many requests a second, and as many at once after a pause.

Rules of this file:
  * a key that asks too often is refused with the time to come again; the others do not notice;
  * the state is in memory and of this server alone; used by the thread of the event loop.

Theory of operation. Each key has a bucket that holds a second's worth of requests. A request takes one; time fills it
again. So a key may send a second's worth at once, and in any longer time hardly more than its rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tidemill.server.refusals import RETRY_AFTER_SECONDS, TooOften

__all__ = ["Rates"]


class Rates:
    """The buckets of all keys, by name."""

    def __init__(self, per_second: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, key: str) -> None:
        """Count a request of a key. Raises TooOften."""
        now = self._now()
        left, at = self._left.get(key, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - at) * self._per_second)
        if left < 1.0:
            self._left[key] = left, now
            raise TooOften(
                f"the key {key} asks more than {self._per_second} times a second (key_requests_per_second_max)",
                mend=f"send it again after {RETRY_AFTER_SECONDS} s, or many events in one request",
            )
        self._left[key] = left - 1.0, now
