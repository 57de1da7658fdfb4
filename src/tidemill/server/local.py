"""A server beside other work: uvicorn in a thread of its own, on this machine only.

Rules of this file:
  * without access keys only loopback addresses are bound;
  * the socket is bound before the thread begins, so a port that is taken is an error where `start` was called;
  * `stop` lets what was asked be answered first, for at most `grace_seconds`; `on_stop` ends what has no end itself.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from starlette.types import ASGIApp
from uvicorn import Config, Server

from tidemill.core.errors import OperatorError, UserError
from tidemill.project.serving import Limits
from tidemill.server.door import is_loopback
from tidemill.server.protocol import guarded

__all__ = ["GRACE_SECONDS", "HOST", "PORT", "LocalServer", "check_host"]

HOST = "127.0.0.1"
PORT = 7373
GRACE_SECONDS = 30
AT_ONCE_SECONDS = 1
KEEP_ALIVE_SECONDS = 75
BACKLOG = 256

logging.getLogger("uvicorn").addHandler(logging.NullHandler())  # whoever wants its words adds a handler; stderr is ours


class LocalServer:
    """One application, served from a background thread."""

    def __init__(
        self,
        app: ASGIApp,
        host: str = HOST,
        port: int = 0,
        *,
        grace_seconds: int = GRACE_SECONDS,
        limits: Limits | None = None,
        on_stop: Callable[[], None] = lambda: None,
        has_keys: bool = False,
    ) -> None:
        self._on_stop = on_stop
        limits = limits or Limits()
        self._socket = _bound(host, port, has_keys=has_keys)
        name, number = self._socket.getsockname()[:2]
        self.address = f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
        config = Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            http=guarded(limits),
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=grace_seconds,
            limit_concurrency=limits.connections_max,
        )
        self._server = Server(config)
        self._thread = threading.Thread(target=self._serve, name="tidemill-server", daemon=True)

    def start(self) -> LocalServer:
        """Begin to answer: connections are taken from now on."""
        self._thread.start()
        return self

    @property
    def is_taking(self) -> bool:
        """Whether new connections are taken."""
        return bool(self._server.started and not self._server.should_exit)

    def stop(self, *, at_once: bool = False) -> None:
        """Answer what was asked (unless `at_once`), close, and end the thread; idempotent."""
        if at_once:
            self._server.config.timeout_graceful_shutdown = AT_ONCE_SECONDS
        self._on_stop()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def check_host(host: str, *, has_keys: bool) -> None:
    """Raise UserError with the reason where a server may not answer at this address."""
    if not is_loopback(host) and not has_keys:
        raise UserError(
            f"others can reach {host or 'every address'}, and there is no access key that would keep them out",
            mend=f"make one first: tidemill keys add NAME --scope ingest; or use {HOST}",
        )


def _bound(host: str, port: int, *, has_keys: bool) -> socket.socket:
    check_host(host, has_keys=has_keys)
    name = HOST if host.lower() == "localhost" else host
    bound = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((name, port))
        bound.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OperatorError(f"port {port} cannot be used: {reason}", mend="choose another with --port") from error
    return bound
