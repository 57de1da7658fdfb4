"""The first thing a request meets: plain ASGI, measured before anything is looked at.

Rules of this file:
  * events pass no framework, since a framework costs more than the disk; everything else goes on to Starlette;
  * what is committed lives as long as the server: begun before the first request, ended after the last answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemill.core.errors import UserError
from tidemill.server.answer import error_answer
from tidemill.server.bell import Bell
from tidemill.server.committer import Committer
from tidemill.server.counts import Counts
from tidemill.server.door import Door

__all__ = ["Front"]

ASSETS = "/v1/assets/"
EVENTS = "/events"


class Front:
    """The application as the server calls it."""

    def __init__(
        self,
        door: Door,
        committer: Committer,
        bell: Bell,
        counts: Counts,
        *,
        events: ASGIApp,
        pages: Starlette,
        cors: Sequence[str] = (),
    ) -> None:
        self._door = door
        self._committer = committer
        self._bell = bell
        self._counts = counts
        self._events = events
        self.pages = pages
        self._inside: ASGIApp = self._serve
        if cors:
            self._inside = CORSMiddleware(self._serve, cors, allow_methods=["*"], allow_headers=["*"], max_age=600)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or begin and end with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.answers[message["status"]] += 1
            await send(message)

        try:
            self._door.measure(scope)
        except UserError as error:
            await error_answer(error)(scope, receive, counted)
            return
        await self._inside(scope, receive, counted)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        topic = _topic_in(scope)
        if topic:
            scope["path_params"] = {"asset": topic}
            await self._events(scope, receive, send)
        else:
            await self.pages(scope, receive, send)

    def stop_following(self) -> None:
        """Let those come to an end who follow without one; called from any thread when the server is to stop."""
        self._bell.end()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._committer.start()
        self._bell.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await to_thread.run_sync(self._committer.stop)
        await send({"type": "lifespan.shutdown.complete"})


def _topic_in(scope: Scope) -> str:
    """The asset that events are sent to, or "" where the request asks for something else."""
    path: str = scope["path"]
    if scope["method"] != "POST" or not path.startswith(ASSETS) or not path.endswith(EVENTS):
        return ""
    return path[len(ASSETS) : -len(EVENTS)]
