"""`Idempotency-Key`: the same request again gets the same answer, and does nothing twice.

Rules of this file:
  * what is known of a key is stored in the same commit as the events it came with, so it is as durable as they are;
  * the same key with another body is refused (422), and while the first is being worked on, too (409);
  * a key is known for `DAYS_KEPT` to `DAYS_KEPT + 1` days.

Theory of operation. A note of a key holds how many bytes of the body are in the topic, their hash, and the counts so
far. A body that was cut in the middle (the sender died, the server was killed) is sent again with its key: the bytes
that are in the topic already are compared by their hash and passed over, the rest goes on from there. So the key makes
any body exactly once, also into a topic without `id`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tidemill.core.errors import UserError
from tidemill.project.serving import Served
from tidemill.server.refusals import KeyReused, StillRunning

__all__ = ["KEY_CHARACTERS_MAX", "Keyed", "Keys"]

KEY_CHARACTERS_MAX = 255
DAYS_KEPT = 1

_DAY_SECONDS = 86_400
_TOPIC = "idempotency:"

Note = tuple[str, str, Any]


class Keyed:
    """One request with a key, as far as it has come."""

    def __init__(self, topic: str, name: str, known: dict[str, Any] | None) -> None:
        self._topic = topic
        self._name = name
        self._known = known or {"bytes": 0, "hash": "", "is_done": False, "answer": None}
        self._left = int(self._known["bytes"])
        self._hash = hashlib.sha256()

    @property
    def is_done(self) -> bool:
        """Whether all of the request is in the topic already."""
        return bool(self._known["is_done"])

    @property
    def answer(self) -> Any:
        """The counts so far, or the answer that was given; None for a new key."""
        return self._known["answer"]

    def unseen(self, part: bytes) -> bytes:
        """What of the next bytes of the body is not in the topic yet. Raises KeyReused where it is another body."""
        if not self._left:
            if self.is_done and part:
                raise self._reused()
            return part
        seen, part = part[: self._left], part[self._left :]
        self._hash.update(seen)
        self._left -= len(seen)
        if not self._left and self._hash.hexdigest() != self._known["hash"]:
            raise self._reused()
        return self.unseen(part) if part else b""

    def end(self) -> None:
        """The body is over. Raises KeyReused where it is shorter than the one before."""
        if self._left:
            raise self._reused()

    def note(self, part: bytes, *, is_done: bool) -> Callable[[Any], Note]:
        """What to keep with the commit of the next bytes, once the answer is known."""
        self._hash.update(part)
        size = int(self._known["bytes"]) + len(part)
        self._known = {"bytes": size, "hash": self._hash.hexdigest(), "is_done": is_done, "answer": None}
        return lambda answer: (self._topic, self._name, {**self._known, "answer": answer})

    def _reused(self) -> KeyReused:
        return KeyReused("this idempotency key came with another body before", mend="use a new key for a new request")


class Keys:
    """The keys of requests."""

    def __init__(self, served: Served, now: Callable[[], float] = time.time) -> None:
        self._served = served
        self._now = now
        self._running: set[str] = set()
        self._swept_on = 0

    @asynccontextmanager
    async def using(self, asset: str, key: str) -> AsyncIterator[Keyed]:
        """Work on the request of a key; no other request with it is worked on meanwhile."""
        if not key.isprintable() or len(key) > KEY_CHARACTERS_MAX:
            raise UserError(
                f"the Idempotency-Key is not readable text of at most {KEY_CHARACTERS_MAX} characters",
                mend="send a UUID",
            )
        name = f"{asset} {key}"
        if name in self._running:
            raise StillRunning("the request with this idempotency key is still being worked on", mend="wait for it")
        self._running.add(name)
        try:
            yield await asyncio.to_thread(self._find, name)
        finally:
            self._running.discard(name)

    def _find(self, name: str) -> Keyed:
        today = int(self._now() // _DAY_SECONDS)
        self._sweep(today)
        topics = [_topic(today - day) for day in range(DAYS_KEPT + 1)]
        notes = ((topic, self._served.remembered(topic, name)) for topic in topics)
        topic, known = next(((topic, note) for topic, note in notes if note is not None), (topics[0], None))
        return Keyed(topic, name, known)

    def _sweep(self, today: int) -> None:
        if today != self._swept_on:
            self._served.forget(_topic(0), _topic(today - DAYS_KEPT - 1))
            self._swept_on = today


def _topic(day: int) -> str:
    return f"{_TOPIC}{day:08d}"
