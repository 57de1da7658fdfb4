"""The door: who may ask what, and how much at once.

Rules of this file:
  * an endpoint is reached through `Door.open` or `Door.guarded`; there is no other way, and guarded is the rule;
  * only this machine: the `Host` must be a loopback name (a name that somebody else's DNS points here is refused), and
    a browser page of another site (`Origin`) is refused;
  * guarded endpoints want the token in `Authorization: Bearer`; open ones want it too unless the server `is_open`.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tidemill.core.errors import TidemillError, UserError
from tidemill.server.answer import error_answer

__all__ = ["REQUEST_BYTES_MAX", "Door", "Endpoint", "TooLarge", "body_of", "is_loopback"]

REQUEST_BYTES_MAX = 16 * 1024 * 1024
"""The most that one request may carry."""

Endpoint = Callable[[Request], Awaitable[Response]]


class TooLarge(UserError):
    """A request carries more than is taken at once."""


class Door:
    """Decides about each request before its endpoint sees it, and turns errors into answers."""

    def __init__(self, token: str, *, is_open: bool = False) -> None:
        self._token = token
        self._is_open = is_open

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that always wants the token."""
        return self._behind(endpoint, wants_token=True)

    def open(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that wants the token unless the server is open."""
        return self._behind(endpoint, wants_token=not self._is_open)

    def public(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that gives nothing away."""
        return self._behind(endpoint, wants_token=False)

    def _behind(self, endpoint: Endpoint, *, wants_token: bool) -> Endpoint:
        async def answered(request: Request) -> Response:
            try:
                refusal = _stranger(request) or (self._without_token(request) if wants_token else None)
                return refusal or await endpoint(request)
            except TooLarge as error:
                return error_answer(error, 413)
            except TidemillError as error:
                return error_answer(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer and the log the trace
                return error_answer(error)

        return answered

    def _without_token(self, request: Request) -> Response | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secrets.compare_digest(token.encode(), self._token.encode()):
            return None
        error = UserError("this needs the token of the owner", mend="send Authorization: Bearer TOKEN")
        answer = error_answer(error, 401)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _stranger(request: Request) -> Response | None:
    origin = request.headers.get("origin", "")
    for what, host in (("host", _host(f"//{request.headers.get('host', '')}")), ("origin", _host(origin))):
        if not is_loopback(host) and (what == "host" or origin):
            return error_answer(UserError(f"this {what} may not ask here", mend="ask 127.0.0.1 from this machine"), 403)
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def body_of(request: Request) -> bytes:
    """The body of a request. Raises TooLarge beyond the limit, before the rest is read."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > REQUEST_BYTES_MAX:
            raise TooLarge(f"more than {REQUEST_BYTES_MAX} bytes in one request", mend="send smaller batches")
        parts.append(part)
    return b"".join(parts)
