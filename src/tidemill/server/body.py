"""Reading the body of a request: piece by piece, decoded, within the limits.

Rules of this file:
  * every byte held here is counted in the `Room` of all requests until `release`: memory is bounded by one number;
  * a body that pauses too long ends its request; a sender that leaves is `Left`, and gets no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.types import Message, Receive

from tidemill.project.serving import Limits
from tidemill.server.encoding import decoding
from tidemill.server.refusals import RETRY_AFTER_SECONDS, Busy, Left, TooLarge, TooSlow

__all__ = ["Body", "Room", "too_large"]


class Room:
    """The memory that requests may hold together; used by the thread of the event loop alone."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes_held = 0

    @property
    def is_tight(self) -> bool:
        """Whether little is left, so that what can be made durable should be."""
        return self.bytes_held > self.limits.waiting_bytes_max // 2

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises Busy where there is no room."""
        if self.bytes_held + size > self.limits.waiting_bytes_max:
            raise Busy(
                f"{self.bytes_held} bytes wait to be made durable: there is no room for more now",
                mend=f"send it again after {RETRY_AFTER_SECONDS} s",
            )
        self.bytes_held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.bytes_held -= size


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], room: Room) -> None:
        self._receive = receive
        self._room = room
        self._limits = room.limits
        encoding = headers.get("content-encoding", "")
        self._is_plain = not encoding
        self._decoding = decoding(encoding)
        self._held = 0
        self._declared = headers.get("content-length", "")

    def hold(self, size: int) -> None:
        """Count bytes that are held for this request."""
        self._room.take(size)
        self._held += size

    def let_go(self, size: int) -> None:
        """Count bytes no more."""
        self._held -= size
        self._room.give_back(size)

    def release(self) -> None:
        """Count nothing of this request any more; idempotent."""
        self.let_go(self._held)

    async def parts(self) -> AsyncIterator[bytes]:
        """The decoded body as it comes, in pieces."""
        async for piece in self._pieces(await self._message()):
            yield piece

    async def _pieces(self, first: Message) -> AsyncIterator[bytes]:
        message, is_over = first, False
        while not is_over:
            is_over = not message.get("more_body", False)
            for number, piece in enumerate(self._decoding.feed(message.get("body", b"")), 1):
                yield piece
                if number % 4 == 0:
                    await asyncio.sleep(0)  # others have their turn while a large body is decoded
            if not is_over:
                message = await self._message()
        self._decoding.finish()

    async def whole(self) -> bytes:
        """All of the decoded body. Raises TooLarge as soon as it is clear that it is."""
        most = self._limits.request_bytes_max
        if self._declared.isdigit() and int(self._declared[:18]) > most:
            raise too_large(most)
        first = await self._message()
        if self._is_plain and not first.get("more_body", False) and len(first["body"]) <= most:
            self.hold(len(first["body"]))
            return bytes(first["body"])
        parts: list[bytes] = []
        size = 0
        async for part in self._pieces(first):
            size += len(part)
            if size > most:
                raise too_large(most)
            self.hold(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _message(self) -> Message:
        try:
            async with asyncio.timeout(self._limits.silence_seconds_max):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.silence_seconds_max
            raise TooSlow(f"nothing of the body came for {seconds} s", mend="send it without pauses") from None
        if message["type"] == "http.disconnect":
            raise Left
        return message


def too_large(most: int) -> TooLarge:
    """The refusal of a body, or of a line in one, beyond so many bytes."""
    return TooLarge(
        f"more than {most} bytes in one request",
        mend="send smaller batches, or lines of JSON as application/x-ndjson, which may be of any size",
    )
