"""How answers and errors look over HTTP: JSON out, one shape for every error, one status for every error class.

Rules of this file:
  * the class of an error decides its status, never its text; the first class that fits counts;
  * an error that is nobody's class is ours: its trace goes to the log, its type and no more to the sender.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from starlette.responses import Response

from tidemill.core.errors import (
    Conflict,
    NotFound,
    OperatorError,
    Stopped,
    TidemillError,
    UpstreamError,
    UserError,
)
from tidemill.project.asking import Gone
from tidemill.server import refusals
from tidemill.server.refusals import RETRY_AFTER_SECONDS

__all__ = ["STATUS", "error_answer", "error_value", "json_answer", "json_bytes"]

LOG = logging.getLogger("tidemill.server")

STATUS: tuple[tuple[type[TidemillError], int], ...] = (
    (refusals.NotAllowed, 401),
    (refusals.WrongSignature, 401),
    (refusals.Stranger, 403),
    (refusals.Forbidden, 403),
    (refusals.TooSlow, 408),
    (refusals.TooLarge, 413),
    (refusals.AddressTooLong, 414),
    (refusals.WrongType, 415),
    (refusals.KeyReused, 422),
    (refusals.NotTaken, 422),
    (refusals.HeadersTooLarge, 431),
    (refusals.Busy, 429),
    (refusals.TooOften, 429),
    (NotFound, 404),
    (Gone, 410),
    (UserError, 400),
    (Stopped, 409),
    (UpstreamError, 422),
    (Conflict, 409),
    (OperatorError, 503),
    (TidemillError, 500),
)

HEADERS: tuple[tuple[type[TidemillError], str, str], ...] = (
    (refusals.NotAllowed, "WWW-Authenticate", "Bearer"),
    (OperatorError, "Retry-After", str(RETRY_AFTER_SECONDS)),
    (refusals.TooOften, "Retry-After", str(RETRY_AFTER_SECONDS)),
    (refusals.WrongType, "Accept-Encoding", "gzip, zstd"),
    (refusals.TooSlow, "Connection", "close"),
)
"""What an answer says in its headers for an error of a class.

Who sends too much is not cut off: the rest is read and thrown away, so that the answer reaches the sender.
"""


def json_bytes(value: Any) -> bytes:
    """A JSON value as it is sent."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer."""
    return Response(json_bytes(value), status, headers, media_type="application/json")


def error_value(error: Exception) -> dict[str, Any]:
    """`{error: {kind, message, place, mend}}`."""
    if isinstance(error, TidemillError):
        said = {"kind": type(error).__name__, "message": error.message, "place": error.place, "mend": error.mend}
        return {"error": said}
    LOG.error("an answer failed", exc_info=error)
    message = f"tidemill failed while it answered ({type(error).__name__})"
    return {"error": {"kind": "InvariantError", "message": message, "place": "", "mend": "see the log of the owner"}}


def error_answer(error: Exception, status: int = 0, said: dict[str, Any] | None = None) -> Response:
    """An error as an answer, with what else is to be `said`; its class says the status unless one is given."""
    found = status or next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    headers = {name: value for kind, name, value in HEADERS if isinstance(error, kind)}
    return json_answer({**error_value(error), **(said or {})}, found, headers)
