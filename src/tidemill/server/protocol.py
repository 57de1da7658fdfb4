"""HTTP/1.1 as uvicorn reads it, with an end to heads that never end.

Rules of this file:
  * a head (request line and headers) has a time and a size; beyond either the connection is closed, for nothing was
    asked yet that could be answered. What is only too long by a little is answered (431, see front.py);
  * a connection that nothing is asked on may stay as long as keep-alive lets it.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidemill.project.serving import Limits

__all__ = ["guarded"]


def guarded(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol of a server with these limits."""
    return type("GuardedProtocol", (_GuardedProtocol,), {"limits": limits})


class _GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    limits = Limits()
    _head_bytes = 0
    _is_in_head = True
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A connection: its first head is awaited from now on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes: of a head, of a body, or of several requests."""
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._timer is None:
                self._await_head()
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self._head_bytes_max():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A head is complete: what follows is its body."""
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is complete: what follows is another head."""
        super().on_message_complete()
        self._is_in_head, self._head_bytes = True, 0

    def _head_bytes_max(self) -> int:
        """Enough for everything that is answered with 414 or 431, and for what was read together with it."""
        return 4 * (self.limits.header_bytes_max + self.limits.address_bytes_max) + 64 * 1024

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.limits.head_seconds_max, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
