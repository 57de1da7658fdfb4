"""Events as they are sent (a JSON object, a JSON array, lines of JSON) become lines of JSON, without reading values.

Rules of this file:
  * the sender's text is kept as it is, digit by digit: a number is never read into a float;
  * the n-th event sent is the n-th line, so an index in an answer means the same to both sides;
  * a byte order mark before all of it says nothing;
  * lines that are not JSON pass: the contract of the asset parks them one by one. A broken array is refused whole.
"""

from __future__ import annotations

from codecs import BOM_UTF8

import msgspec

from tidemill.core.errors import UserError

__all__ = ["counted_lines", "lines_of", "members_of", "on_one_line", "plain_lines"]

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def lines_of(body: bytes) -> bytes:
    """The events of a body, one a line."""
    text = body.removeprefix(BOM_UTF8).strip()
    if text.startswith(b"["):
        return b"".join(on_one_line(event) + b"\n" for event in members_of(text))
    if text.startswith(b"{") and b"\n" in text and _is_one(text):
        return on_one_line(text) + b"\n"
    return text + b"\n" if text else b""


def counted_lines(body: bytes) -> tuple[bytes, int]:
    """The events of a body, one a line, none blank and without a break at the end; and how many they are."""
    return plain_lines(lines_of(body))


def plain_lines(body: bytes) -> tuple[bytes, int]:
    """Lines without the blank ones and without a break at the end; and how many they are."""
    text = body.strip()
    if b"\n" not in text:
        return text, 1 if text else 0
    lines = [line for line in text.split(b"\n") if line.strip()]
    return b"\n".join(lines), len(lines)


def members_of(text: bytes) -> list[bytes]:
    """The members of a JSON array as they are written. Raises UserError naming the place where it breaks."""
    try:
        return [bytes(member) for member in _ARRAY.decode(text)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"the events are not a JSON array: {error}", mend="send valid JSON") from error


def on_one_line(text: bytes) -> bytes:
    """The same JSON without line breaks (which stand only between its parts)."""
    return text.translate(_NO_BREAKS)


def _is_one(text: bytes) -> bool:
    """Whether the text is a single object, written over several lines."""
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
