"""`?wait=ASSET`: the answer to events is what they came to in another asset, as soon as it is committed there.

Rules of this file:
  * where the events cannot come to the asset, nothing of the request is taken;
  * when time is up the events are as durable as ever: 202, with a link to what follows;
  * who waits holds nothing but a place on the list of listeners.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from anyio import to_thread
from starlette.responses import Response

from tidemill.core.errors import UserError
from tidemill.project.serving import Served
from tidemill.server.answer import json_answer
from tidemill.server.outcome import Outcome
from tidemill.server.rows import whole

__all__ = ["EVENTS_MAX", "TIMEOUT_MS_DEFAULT", "TIMEOUT_MS_MAX", "Wait", "wait_in"]

TIMEOUT_MS_DEFAULT = 5_000
TIMEOUT_MS_MAX = 60_000
EVENTS_MAX = 1_000
"""So many events may be waited for in one request."""


@dataclass(slots=True)
class Wait:
    """What a request waits for."""

    served: Served
    way: Any
    asset: str
    timeout_ms: int

    async def answer(self, outcome: Outcome) -> Response:
        """The rows that the events of a request produced (200), or 202 with a link when time is up."""
        offsets = outcome.offsets
        if offsets and not await self._arrived(max(offsets)):
            link = f"/v1/assets/{self.asset}/changes?from={self.way.began_at}"
            return json_answer({**outcome.value(), "link": link}, 202, {"Link": f'<{link}>; rel="monitor"'})
        rows = await to_thread.run_sync(self.served.produced, self.way, offsets)
        return json_answer({**outcome.value(), "asset": self.asset, "rows": rows})

    async def _arrived(self, offset: int) -> bool:
        self.way.set_out(offset)
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        is_over = False

        def hear() -> bool:
            if is_over:
                return False
            if not self.served.has_arrived(self.way):
                return True
            with suppress(RuntimeError):  # the server is gone, and with it whoever waited
                loop.call_soon_threadsafe(there.set)
            return False

        self.served.listen(hear)
        try:
            async with asyncio.timeout(self.timeout_ms / 1_000):
                await there.wait()
        except TimeoutError:
            return False
        finally:
            is_over = True
        return True


def wait_in(served: Served, topic: str, query: bytes) -> Wait | None:
    """What the address of a request waits for; None for nothing. Raises what is wrong with it."""
    if not query:
        return None
    asked = {name: values[-1] for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items()}
    unknown = sorted(asked.keys() - {"wait", "timeout_ms"})
    if unknown:
        raise UserError(f"unknown parameter {unknown[0]}", mend="the parameters are wait and timeout_ms")
    timeout = whole(asked.get("timeout_ms", str(TIMEOUT_MS_DEFAULT)), "timeout_ms", TIMEOUT_MS_MAX)
    if "wait" not in asked:
        return None
    return Wait(served, served.journey(topic, asked["wait"]), asked["wait"], timeout)
