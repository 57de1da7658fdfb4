"""Events in: `POST /v1/assets/{asset}/events`, as plain ASGI, because this is the road that everything takes.

Rules of this file:
  * 2xx only after the commit; an answer tells of every event that was not accepted, by its place in the request;
  * lines of JSON are committed while they come, in chunks; every other body is read whole and committed at once;
  * what is wrong with one event parks that event; what is wrong with the request refuses it, and nothing of it is kept
    (of lines that came before a failure in the middle, the answer says how many are kept).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Receipt, Sending
from tidemill.project.serving import Served
from tidemill.server.answer import error_answer, json_answer
from tidemill.server.body import Body, Room, too_large
from tidemill.server.chunks import Chunk, Shape, chunk_of, shape_of
from tidemill.server.committer import Committer
from tidemill.server.door import READ, Door
from tidemill.server.idempotency import Keyed, Keys
from tidemill.server.lines import plain_lines
from tidemill.server.outcome import Outcome
from tidemill.server.refusals import Left, NotTaken
from tidemill.server.tracing import traceparent_in
from tidemill.server.waiting import EVENTS_MAX, Wait, wait_in

__all__ = ["CHUNK_BYTES", "Events"]

CHUNK_BYTES = 1024 * 1024
"""Lines of JSON are committed in chunks of about so many bytes."""

_JSON_TYPE = (b"content-type", b"application/json")

Keep = Callable[[Any], tuple[str, str, Any]]


class Events:
    """The endpoint."""

    def __init__(self, served: Served, door: Door, committer: Committer, room: Room) -> None:
        self._served = served
        self._door = door
        self._committer = committer
        self._room = room
        self._keys = Keys(served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        outcome = Outcome(self._room.limits.results_max)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._door.admit(headers, f"ingest:{scope['path_params']['asset']}")
            wait = wait_in(self._served, scope["path_params"]["asset"], scope["query_string"])
            outcome.keeps_offsets = wait is not None
            if wait is not None:
                self._door.check(headers, READ)
            answer = await self._answer(scope, headers, receive, outcome, wait)
        except Left:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer and the log the trace
            answer = error_answer(error, said=outcome.value() if outcome.count or outcome.results else None)
        await answer(scope, receive, send)

    async def _answer(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, outcome: Outcome, wait: Wait | None
    ) -> ASGIApp:
        name = scope["path_params"]["asset"]
        asset = self._served.asset(name)
        if asset.kind is AssetKind.EXTERNAL:
            return json_answer(await to_thread.run_sync(self._served.touch, name), 202)
        if asset.kind is not AssetKind.TOPIC:
            raise UserError(f"`{name}` is a {asset.kind.value}: events go to topics", mend="name a topic")
        outcome.topic = asset
        body = Body(receive, headers, self._room)
        request = _Request(asset, headers, body, outcome, traceparent_in(scope["headers"]))
        try:
            key = headers.get("idempotency-key", "")
            if key and wait is not None:
                raise UserError(
                    "an Idempotency-Key does not go with wait", mend="let the topic's id tell the same event"
                )
            if not key:
                await self._take(request)
                return _Taken(outcome) if wait is None else await wait.answer(outcome)
            async with self._keys.using(name, key) as keyed:
                request.keyed = keyed
                return await self._take_once(request, keyed)
        finally:
            body.release()

    async def _take_once(self, request: _Request, keyed: Keyed) -> ASGIApp:
        if not keyed.is_done:
            request.outcome.restore(keyed.answer)
            await self._take(request)
            return _Taken(request.outcome)
        async for part in request.body.parts():
            keyed.unseen(part)
        keyed.end()
        return json_answer(keyed.answer, 202, {"Idempotent-Replayed": "true"})

    async def _take(self, request: _Request) -> None:
        """Commit all that a request brings; its outcome grows with each commit."""
        shape = shape_of(request.headers)
        if shape is Shape.LINES and not request.is_strict and not request.outcome.keeps_offsets:
            await self._take_stream(request)
            return
        whole = await request.body.whole()
        if request.keyed is not None:
            request.keyed.unseen(whole)
            request.keyed.end()
        chunk = chunk_of(shape, whole, request.headers, request.asset)
        if request.outcome.keeps_offsets and chunk.count > EVENTS_MAX:
            raise UserError(
                f"{chunk.count} events are too many to wait for", mend=f"send at most {EVENTS_MAX} with wait"
            )
        if request.is_strict and chunk.refused:
            raise request.not_taken(Receipt(), chunk)
        await self._commit(request, chunk, request.keep(whole, is_done=True))

    async def _take_stream(self, request: _Request) -> None:
        most = self._room.limits.request_bytes_max
        pending = bytearray()
        async for part in request.body.parts():
            new = part if request.keyed is None else request.keyed.unseen(part)
            request.body.hold(len(new))
            pending += new
            if len(pending) < CHUNK_BYTES and not self._room.is_tight:
                continue
            cut = pending.rfind(b"\n") + 1
            if cut:
                lines = bytes(pending[:cut])
                del pending[:cut]
                await self._commit(request, Chunk(lines), request.keep(lines, is_done=False))
                request.body.let_go(len(lines))
            elif len(pending) > most:
                raise too_large(most)
        if request.keyed is not None:
            request.keyed.end()
        last = bytes(pending)
        await self._commit(request, Chunk(*plain_lines(last)), request.keep(last, is_done=True))

    async def _commit(self, request: _Request, chunk: Chunk, keep: Keep | None) -> None:
        if not chunk.lines and not chunk.refused and keep is None:
            return
        sending = Sending(
            request.asset,
            chunk.lines,
            chunk.count,
            request.is_strict,
            chunk.refused,
            keep and (lambda receipt: keep(request.outcome.after(receipt, chunk).value())),
            traceparent=request.traceparent or chunk.traceparent,
        )
        receipt = await self._committer.commit(sending)
        if request.is_strict and receipt.refusals:
            raise request.not_taken(receipt, chunk)
        request.outcome.add(receipt, chunk)


class _Taken:
    """The answer to what was taken: counts, and whatever was not accepted. Plain ASGI: it is given for every event."""

    __slots__ = ("_body",)

    def __init__(self, outcome: Outcome) -> None:
        self._body = msgspec.json.encode(outcome.value())

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        length = (b"content-length", b"%d" % len(self._body))
        await send({"type": "http.response.start", "status": 202, "headers": [_JSON_TYPE, length]})
        await send({"type": "http.response.body", "body": self._body})


class _Request:
    """One request on its way in."""

    def __init__(
        self, asset: Asset, headers: Mapping[str, str], body: Body, outcome: Outcome, traceparent: str
    ) -> None:
        self.asset = asset
        self.headers = headers
        self.body = body
        self.outcome = outcome
        self.traceparent = traceparent
        self.keyed: Keyed | None = None
        self.is_strict = "handling=strict" in headers.get("prefer", "").replace(" ", "").lower()

    def keep(self, part: bytes, *, is_done: bool) -> Keep | None:
        """What to keep of these bytes of the body with their commit."""
        return None if self.keyed is None else self.keyed.note(part, is_done=is_done)

    def not_taken(self, receipt: Receipt, chunk: Chunk) -> NotTaken:
        """The refusal of a request that was to be taken whole; its outcome lists why."""
        self.outcome.refuse(receipt, chunk)
        count = len(receipt.refusals) + len(chunk.refused)
        return NotTaken(f"{count} events cannot be taken, so none was", mend="mend them, or leave out handling=strict")
