"""The trace that a request belongs to: the header `traceparent` of W3C Trace Context.

Rules of this file:
  * a header that is not valid, and one that comes twice, counts as none: the standard asks to go on without;
  * of a version that we do not know, the part that we know is kept, as version 00.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["HEADER", "traceparent_in", "valid"]

HEADER = "traceparent"

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


def traceparent_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The trace that the headers of a request name (names in lower case, as ASGI has them); "" where none is valid."""
    found = [value for name, value in headers if name == b"traceparent"]
    return valid(found[0].decode("latin-1")) if len(found) == 1 else ""


def valid(written: str) -> str:
    """A `traceparent` as it is carried on; "" for what is none."""
    match = _FORM.fullmatch(written.strip(" \t"))
    if match is None:
        return ""
    version, trace, parent, flags, more = match.groups()
    if version == "00":
        return "" if more else f"00-{trace}-{parent}-{flags}"
    return f"00-{trace}-{parent}-{int(flags, 16) & _SAMPLED:02x}"
