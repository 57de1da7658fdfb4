"""The tracking API: Segment's HTTP addresses, so that its clients deliver here by a change of host.

Rules of this file:
  * a message lands in every topic whose `tracking` takes its type and that its write key may ingest into, and is known
    by its `messageId`;
  * success is said only when it is durable in all of them; after anything else the client sends again, and what had
    landed already is a duplicate.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tidemill.core.errors import NotFound
from tidemill.core.model import Asset
from tidemill.core.ports import Sending
from tidemill.project.serving import Served
from tidemill.server.answer import json_answer
from tidemill.server.body import Body, Room
from tidemill.server.committer import Committer
from tidemill.server.door import Door
from tidemill.server.messages import TYPES, Message, chunk_for, messages_in
from tidemill.server.outcome import Outcome
from tidemill.server.refusals import Forbidden
from tidemill.server.tracing import traceparent_in

__all__ = ["ADDRESSES", "Tracking"]

ADDRESSES = {"/v1/batch": "", "/v1/import": "", **{f"/v1/{type_}": type_ for type_ in TYPES}}
"""Each address and the type of its messages ("": they say it themselves)."""


class Tracking:
    """The endpoint of all its addresses."""

    def __init__(self, served: Served, door: Door, committer: Committer, room: Room) -> None:
        self._served = served
        self._door = door
        self._committer = committer
        self._room = room

    async def __call__(self, request: Request) -> Response:
        """Take the messages of one request."""
        takers = self.topics()
        if not takers:
            raise NotFound("no topic takes tracking calls", mend="add tracking = true to a topic of tidemill.toml")
        topics = [topic for topic in takers if self._door.may(request.headers, f"ingest:{topic.name}")]
        if not topics:
            raise Forbidden("this write key may not ingest into any of them", mend="make one with --scope ingest")
        body = Body(request.receive, request.headers, self._room)
        try:
            messages = messages_in(await body.whole(), ADDRESSES[request.url.path], time.time())
            traced = traceparent_in(request.scope["headers"])
            answers = await asyncio.gather(*(self._take(topic, messages, traced) for topic in topics))
        finally:
            body.release()
        return json_answer({"success": True, "topics": dict(zip((t.name for t in topics), answers, strict=True))})

    def topics(self) -> list[Asset]:
        """The topics that take tracking calls."""
        return [topic for topic in self._served.topics() if topic.options.get("tracking")]

    async def _take(self, topic: Asset, messages: list[Message], traceparent: str) -> dict[str, Any]:
        outcome = Outcome(self._room.limits.results_max)
        chunk = chunk_for(topic, messages)
        if chunk.lines or chunk.refused:
            sending = Sending(topic, chunk.lines, chunk.count, refused=chunk.refused, traceparent=traceparent)
            outcome.add(await self._committer.commit(sending), chunk)
        return outcome.value()
