"""The door: who may ask what.

Rules of this file:
  * an endpoint is reached through `Door.open` or `Door.guarded`; there is no other way, and guarded is the rule;
  * only this machine: the `Host` must be a loopback name (a name that somebody else's DNS points here is refused), and
    a browser page of another site (`Origin`) is refused;
  * guarded endpoints want the token in `Authorization: Bearer`; open ones want it too unless the server `is_open`.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from tidemill.project.serving import Limits
from tidemill.server.answer import error_answer
from tidemill.server.refusals import AddressTooLong, HeadersTooLarge, Left, NotAllowed, Stranger

__all__ = ["Door", "Endpoint", "is_loopback"]

Endpoint = Callable[[Request], Awaitable[Response]]


class Door:
    """Decides about each request before its endpoint sees it, and turns errors into answers."""

    def __init__(self, token: str, limits: Limits, *, is_open: bool = False) -> None:
        self._token = token
        self._limits = limits
        self._is_open = is_open

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that always wants the token."""
        return self._behind(endpoint, wants_token=True)

    def open(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that wants the token unless the server is open."""
        return self._behind(endpoint, wants_token=not self._is_open)

    def signed(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose requests prove themselves by a signature; where users may not ask, the token is wanted."""
        return self.open(endpoint) if not self._is_open else _answering(endpoint)

    def public(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that gives nothing away."""
        return self._behind(endpoint, wants_token=False)

    def admit(self, headers: Headers, *, wants_token: bool | None = None) -> None:
        """Let a request in, or raise why not; by default it wants the token unless the server is open."""
        _check_stranger(headers)
        if not self._is_open if wants_token is None else wants_token:
            self._check_token(headers)

    def measure(self, scope: MutableMapping[str, Any]) -> None:
        """Raise what is too long about the head of a request."""
        limits, headers = self._limits, scope["headers"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > limits.address_bytes_max:
            raise AddressTooLong(f"an address of more than {limits.address_bytes_max} bytes", mend="ask in parts")
        if len(headers) > limits.headers_max:
            raise HeadersTooLarge(f"more than {limits.headers_max} headers", mend="send fewer")
        if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes_max:
            raise HeadersTooLarge(f"more than {limits.header_bytes_max} bytes of headers", mend="send fewer")

    def _behind(self, endpoint: Endpoint, *, wants_token: bool) -> Endpoint:
        async def admitted(request: Request) -> Response:
            self.admit(request.headers, wants_token=wants_token)
            return await endpoint(request)

        return _answering(admitted)

    def _check_token(self, headers: Headers) -> None:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secrets.compare_digest(token.encode(), self._token.encode()):
            raise NotAllowed("this needs the token of the owner", mend="send Authorization: Bearer TOKEN")


def _answering(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are answers."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Left:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer and the log the trace
            return error_answer(error)

    return answered


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_stranger(headers: Headers) -> None:
    origin = headers.get("origin", "")
    for what, host in (("host", _host(f"//{headers.get('host', '')}")), ("origin", _host(origin))):
        if not is_loopback(host) and (what == "host" or origin):
            raise Stranger(f"this {what} may not ask here", mend="ask 127.0.0.1 from this machine")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
