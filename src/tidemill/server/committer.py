"""Group commit for requests: one thread makes durable what all of them brought, and answers each.

Rules of this file:
  * an answer is given after its commit and never before; a request that was cancelled is committed all the same;
  * what waits is bounded: beyond `waiting_requests_max` a request is refused, never dropped;
  * the event loop is woken once a commit, however many requests it answers.

Theory of operation. A sync costs the same for one event and for a thousand. While one group is being committed the next
one gathers; so the group is as large as the load is, and one request alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from tidemill.core.errors import OperatorError
from tidemill.core.ports import Receipt, Sending
from tidemill.server.counts import Counts
from tidemill.server.refusals import Busy

__all__ = ["Committer"]

GROUP_MAX = 1_000
"""So many requests share a commit at most."""

Take = Callable[[Sequence[Sending]], list[Receipt | Exception]]
_Asked = tuple[Sending, "asyncio.Future[Receipt]"]


class Committer:
    """Makes durable what the requests of one event loop bring."""

    def __init__(self, take: Take, waiting_max: int, counts: Counts) -> None:
        self._take = take
        self._counts = counts
        self._waiting_max = waiting_max
        self.waiting = 0
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="tidemill-committer", daemon=True)

    def start(self) -> None:
        """Begin; called on the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Commit what was asked, and end."""
        if self._thread.is_alive():
            self._asked.put(None)
            self._thread.join()
        self._loop = None

    async def commit(self, sending: Sending) -> Receipt:
        """The receipt of a sending, once it is durable. Raises Busy where too much waits, and what went wrong."""
        if self._loop is None:
            raise OperatorError("the server is closing", mend="send it again to the one that follows")
        if self.waiting >= self._waiting_max:
            raise Busy(f"{self.waiting} requests wait for their commit", mend="send it again after 1 s")
        self.waiting += 1
        answer: asyncio.Future[Receipt] = self._loop.create_future()
        self._asked.put((sending, answer))
        return await answer

    def _work(self) -> None:
        while True:
            group = self._group()
            asked = [each for each in group if each is not None]
            if asked:
                self._commit(asked)
            if len(asked) < len(group):
                return

    def _group(self) -> list[_Asked | None]:
        group = [self._asked.get()]
        with suppress(queue.Empty):
            while len(group) < GROUP_MAX and group[-1] is not None:
                group.append(self._asked.get_nowait())
        return group

    def _commit(self, asked: list[_Asked]) -> None:
        began_at = time.perf_counter()
        try:
            answers = self._take([sending for sending, _ in asked])
        except Exception as error:  # noqa: BLE001 - whatever it is, every request of this commit is told
            answers = [error] * len(asked)
        with suppress(RuntimeError, AttributeError):  # the loop is gone: nobody waits for the answers
            seconds = time.perf_counter() - began_at
            self._loop.call_soon_threadsafe(self._answer, asked, answers, seconds)  # type: ignore[union-attr]

    def _answer(self, asked: list[_Asked], answers: list[Receipt | Exception], seconds: float) -> None:
        self.waiting -= len(asked)
        self._counts.committed(seconds)
        for (sending, future), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Receipt):
                self._count(sending, answer)
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _count(self, sending: Sending, receipt: Receipt) -> None:
        rows, asset = self._counts.rows, sending.asset.name
        rows[asset, "accepted"] += receipt.accepted
        rows[asset, "duplicate"] += receipt.duplicate
        rows[asset, "parked"] += receipt.parked + len(sending.refused)
