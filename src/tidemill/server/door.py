"""The door: who may ask what.

Rules of this file:
  * an endpoint is reached through one of the door's ways; there is no other, and each says what it takes;
  * without a key only this machine may ask: the `Host` must be a loopback name (a name that somebody else's DNS points
    here is refused), and a browser page of another site (`Origin`) is refused unless it is named;
  * as soon as there is a key, users need one; the owner's token opens everything.
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tidemill.project.keys import Key, Keys
from tidemill.project.serving import ServerWords
from tidemill.server.answer import error_answer
from tidemill.server.rates import Rates
from tidemill.server.refusals import AddressTooLong, Forbidden, HeadersTooLarge, Left, NotAllowed, Stranger

__all__ = ["Door", "Endpoint", "is_loopback"]

READ, OPERATE = "read", "operate"

Endpoint = Callable[[Request], Awaitable[Response]]


class Door:
    """Decides about each request before its endpoint sees it, and turns errors into answers.

    `is_open`: users may ask here, not only other processes of the owner's user. `is_local`: bound to a loopback address,
    so that nobody else can reach it but through a name or a page that plays tricks.
    """

    def __init__(
        self, token: str, words: ServerWords, keys: Keys, *, is_open: bool = False, is_local: bool = True
    ) -> None:
        self._token = token
        self._limits = words.limits
        self._origins = frozenset(words.cors)
        self._keys = keys
        self._is_open = is_open
        self._is_local = is_local
        self._rates = Rates(words.limits.key_requests_per_second_max)

    def owning(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint for other processes of the owner: it always wants the token, or a key that may operate."""
        return self._behind(endpoint, OPERATE)

    def reading(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that tells of the project."""
        return self._behind(endpoint, READ)

    def taking(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that takes events, and looks itself which topics they may go to (`may`)."""
        return self._behind(endpoint, "")

    def signed(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose requests prove themselves by a signature; where users may not ask, the token is wanted."""
        return _answering(endpoint) if self._is_open else self.owning(endpoint)

    def public(self, endpoint: Endpoint) -> Endpoint:
        """An endpoint that gives nothing away."""

        async def looked_at(request: Request) -> Response:
            self._check_stranger(request.headers)
            return await endpoint(request)

        return _answering(looked_at)

    def admit(self, headers: Mapping[str, str], scope: str) -> None:
        """Let a request in that may do this, or raise why not. "" is anything at all.

        Called once a request, for it counts against the rate of its key.
        """
        key = self.check(headers, scope)
        if key is not None:
            self._rates.spend(key.name)

    def check(self, headers: Mapping[str, str], scope: str) -> Key | None:
        """Raise why a request may not do this; the key that it may do it by, None where none is needed."""
        presented = _presented(headers)
        key = self._keys.find(presented) if presented else None
        self._check_stranger(headers, is_known=key is not None)
        if self.is_owner(headers) or self._is_free(scope):
            return None
        if key is None:
            raise NotAllowed("this needs a key, or the token of the owner", mend="send Authorization: Bearer KEY")
        if scope and not key.may(scope):
            raise Forbidden(f"the key {key.name} may not {scope}", mend=f"make one that may: --scope {scope}")
        return key

    def may(self, headers: Mapping[str, str], scope: str) -> bool:
        """Whether a request that is let in may do this as well."""
        key = self._keys.find(_presented(headers))
        return self.is_owner(headers) or self._is_free(scope) or (key is not None and key.may(scope))

    def is_owner(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries the token of the owner."""
        presented = _presented(headers)
        return bool(presented) and secrets.compare_digest(presented.encode(), self._token.encode())

    def _is_free(self, scope: str) -> bool:
        """Whether this needs no key: on this machine, while there is no key, and nothing that steers."""
        return self._is_open and self._is_local and not self._keys and scope != OPERATE

    def measure(self, scope: MutableMapping[str, Any]) -> None:
        """Raise what is too long about the head of a request."""
        limits, headers = self._limits, scope["headers"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > limits.address_bytes_max:
            raise AddressTooLong(f"an address of more than {limits.address_bytes_max} bytes", mend="ask in parts")
        if len(headers) > limits.headers_max:
            raise HeadersTooLarge(f"more than {limits.headers_max} headers", mend="send fewer")
        if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes_max:
            raise HeadersTooLarge(f"more than {limits.header_bytes_max} bytes of headers", mend="send fewer")

    def _behind(self, endpoint: Endpoint, scope: str) -> Endpoint:
        async def admitted(request: Request) -> Response:
            self.admit(request.headers, scope)
            return await endpoint(request)

        return _answering(admitted)

    def _check_stranger(self, headers: Mapping[str, str], *, is_known: bool = False) -> None:
        """Raise Stranger for a page of a site that nobody named, or a name that somebody pointed here."""
        origin = headers.get("origin", "")
        if origin and origin not in self._origins and not _is_of_this_machine(origin):
            raise Stranger("this origin may not ask here", mend='name it: [server] cors = ["..."]')
        if self._is_local and not is_known and not _is_of_this_machine(f"//{headers.get('host', '')}"):
            raise Stranger("this host may not ask here", mend="ask 127.0.0.1 from this machine")


def _presented(headers: Mapping[str, str]) -> str:
    """The token or key that a request carries: as a bearer, or as the user of Basic (a tracking client's write key)."""
    written = headers.get("authorization", "")
    if not written:
        return ""
    kind, _, said = written.partition(" ")
    if kind.lower() == "bearer":
        return said
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(said, validate=True).decode().partition(":")[0]
    except ValueError:
        return ""


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


@lru_cache(maxsize=256)  # the same few names come with every request
def _is_of_this_machine(url: str) -> bool:
    return is_loopback(_host(url))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
