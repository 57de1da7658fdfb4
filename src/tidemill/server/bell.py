"""Wakes the requests that follow an asset: one bell for all of them, rung when any log has moved.

Rules of this file:
  * ringing is one call into the event loop, however many events came and however many requests wait;
  * nobody is handed anything: who is woken looks for itself, at its own pace, so a slow one never holds up the others;
  * when the server ends, everybody is woken and told that it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bell"]


class Bell:
    """The bell of one server."""

    def __init__(self, listen: Callable[[Callable[[], bool]], None]) -> None:
        self._listen = listen
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved = asyncio.Event()
        self._is_ringing = False
        self.is_over = False

    def start(self) -> None:
        """Begin to listen; called on the event loop whose requests wait."""
        self._loop = asyncio.get_running_loop()
        self._listen(self._heard)

    def end(self) -> None:
        """Let everybody who follows come to an end; any thread may call, and again."""
        self.is_over = True
        self._call()

    @property
    def next(self) -> asyncio.Event:
        """What is set at the next ring: taken before looking, so that nothing is missed between looking and waiting."""
        return self._moved

    def _heard(self) -> bool:
        if not self._is_ringing:
            self._is_ringing = True
            self._call()
        return not self.is_over

    def _call(self) -> None:
        with suppress(RuntimeError, AttributeError):  # the loop is gone or never was: nobody waits
            self._loop.call_soon_threadsafe(self._ring)  # type: ignore[union-attr]

    def _ring(self) -> None:
        self._is_ringing = False
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
