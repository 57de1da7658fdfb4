"""Following an asset: `GET /v1/assets/{asset}/changes`, as lines of JSON or as server-sent events.

Rules of this file:
  * a line, or an event, is one change, with the offset to go on from; whoever goes on from it misses nothing;
  * lines end at the head unless `follow=true`; server-sent events never end, and are resumed by `Last-Event-ID`;
  * each follower reads for itself and waits for its own reader: what is slow slows nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tidemill.core.errors import TidemillError
from tidemill.project.serving import Served
from tidemill.server.answer import error_value, json_bytes
from tidemill.server.bell import Bell
from tidemill.server.rows import OFFSET_MAX, whole

__all__ = ["BEAT_SECONDS", "Following"]

BEAT_SECONDS = 15.0
"""After so long without a change a follower gets a sign of life."""

LIMIT_DEFAULT = 1_000
LIMIT_MAX = 100_000
LINES_AT_ONCE = 500
READERS_MAX = 8

NDJSON = "application/x-ndjson"
SERVER_SENT = "text/event-stream"


@dataclass(frozen=True, slots=True)
class _Written:
    """How changes are written, and the sign of life between them."""

    media_type: str
    change: Callable[[dict[str, Any]], bytes]
    beat: bytes


class Following:
    """The endpoint."""

    def __init__(self, served: Served, bell: Bell) -> None:
        self._served = served
        self._bell = bell
        self._readers = CapacityLimiter(READERS_MAX)

    async def __call__(self, request: Request) -> Response:
        """Answer one follower."""
        name, asked = request.path_params["asset"], request.query_params
        limit = whole(asked.get("limit", str(LIMIT_DEFAULT)), "limit", LIMIT_MAX)
        is_sent = SERVER_SENT in request.headers.get("accept", "")
        from_ = self._from(name, request.headers.get("last-event-id") or asked.get("from", "0"))
        listed, to = await self._read(name, from_, limit)
        written = AS_EVENTS if is_sent else AS_LINES
        if is_sent or asked.get("follow") == "true":
            endless = self._followed(name, listed, to, written)
            return StreamingResponse(endless, media_type=written.media_type, headers={"Cache-Control": "no-store"})
        following = request.url.include_query_params(**{"from": to})
        headers = {"Link": f'<{following.path}?{following.query}>; rel="next"', "Tidemill-Offset": str(to)}
        return StreamingResponse(self._lines(listed, written), media_type=NDJSON, headers=headers)

    def _from(self, name: str, said: str) -> int:
        return self._served.head(self._served.asset(name).name) if said == "now" else whole(said, "from", OFFSET_MAX)

    async def _read(self, name: str, from_: int, limit: int) -> tuple[Iterator[dict[str, Any]], int]:
        return await to_thread.run_sync(self._served.changes, name, from_, limit, limiter=self._readers)

    async def _lines(self, listed: Iterator[dict[str, Any]], written: _Written) -> AsyncIterator[bytes]:
        def some() -> bytes:
            return b"".join(written.change(change) for change in islice(listed, LINES_AT_ONCE))

        while lines := await to_thread.run_sync(some, limiter=self._readers):
            yield lines

    async def _followed(
        self, name: str, listed: Iterator[dict[str, Any]], at: int, written: _Written
    ) -> AsyncIterator[bytes]:
        """The changes so far, and then each as it comes, until the server ends or the reader leaves."""
        yield written.beat  # the reader knows at once that it is connected
        while True:
            async for lines in self._lines(listed, written):
                yield lines
            while True:
                moved = self._bell.next
                if self._bell.is_over:
                    return
                if self._served.head(name) > at:
                    break
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await moved.wait()
                except TimeoutError:
                    yield written.beat
            try:
                listed, at = await self._read(name, at, LIMIT_DEFAULT)
            except TidemillError as error:  # what follows was trimmed meanwhile: the reader must begin again
                yield written.change(error_value(error))
                return


def _line(change: dict[str, Any]) -> bytes:
    return json_bytes(change) + b"\n"


def _event(change: dict[str, Any]) -> bytes:
    if "error" in change:
        return b"event: error\ndata: " + json_bytes(change) + b"\n\n"
    return b"id: %d\nevent: change\ndata: %s\n\n" % (change["offset"], json_bytes(change))


AS_LINES = _Written(NDJSON, _line, b"\n")
AS_EVENTS = _Written(SERVER_SENT, _event, b": nothing new\n\n")
