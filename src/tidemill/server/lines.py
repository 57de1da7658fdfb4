"""Events as they are sent (a JSON object, a JSON array, lines of JSON) become lines of JSON, without reading values.

Rules of this file:
  * the sender's text is kept as it is, digit by digit: a number is never read into a float;
  * the n-th event sent is the n-th line, so an index in an answer means the same to both sides;
  * lines that are not JSON pass: the contract of the asset parks them one by one. A broken array is refused whole.
"""

from __future__ import annotations

import msgspec

from tidemill.core.errors import UserError

__all__ = ["lines_of"]

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def lines_of(body: bytes) -> bytes:
    """The events of a body, one a line."""
    text = body.strip()
    if text.startswith(b"["):
        return _from_array(text)
    if text.startswith(b"{") and b"\n" in text and _is_one(text):
        return text.translate(_NO_BREAKS) + b"\n"
    return text + b"\n" if text else b""


def _from_array(text: bytes) -> bytes:
    try:
        events = _ARRAY.decode(text)
    except msgspec.DecodeError as error:
        raise UserError(f"the events are not a JSON array: {error}", mend="send valid JSON") from error
    return b"".join(bytes(event).translate(_NO_BREAKS) + b"\n" for event in events)


def _is_one(text: bytes) -> bool:
    """Whether the text is a single object, written over several lines."""
    try:
        _OBJECT.decode(text)
    except msgspec.DecodeError:
        return False
    return True
