"""The bytes of a file: unpacked within limits, hashed, decoded.

Rules of this file:
  * the hash of a file is over its raw bytes, as they lie there: packing a file anew is a new content;
  * a packed file is unpacked piece by piece and left at the first piece beyond a limit, so that a small file which
    grows without end (a zip bomb) costs no more memory than the limit;
  * text is UTF-8, or UTF-16 where it begins with its byte order mark, unless the asset says otherwise; a byte that is
    no text is an error that names its line; a byte order mark is not part of the text.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from typing import Any

from backports import zstd

from tidemill.core.errors import UpstreamError

__all__ = ["LIMITS", "content_hash", "rejected", "text_bytes", "unpacked"]

MIB = 1024 * 1024
LIMITS: Mapping[str, int] = {"unpacked_bytes_max": 1024 * MIB, "unpacked_ratio_max": 1_000}
"""How large a packed file may become, in bytes and as a multiple of what it has packed, where the asset does not say."""
RATIO_FROM_BYTES = 64 * MIB
"""Below this a ratio says nothing: a small file of equal rows packs very well, and does no harm."""
_PIECE_BYTES = MIB
_OPENERS: Mapping[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "zst": zstd.open}


def rejected(file: str, line: int, message: str, mend: str = "mend the file and land it again") -> UpstreamError:
    """The error that rejects a file whole, at one of its lines (0: no line)."""
    return UpstreamError(message, place=f"{file}:{line}" if line else file, mend=mend)


def content_hash(raw: bytes) -> str:
    """The hash of a file's content."""
    return hashlib.sha256(raw).hexdigest()


def unpacked(raw: bytes, file: str, options: Mapping[str, Any]) -> bytes:
    """The content of a file that is packed by its extension (.gz, .zst, .bz2), else the bytes themselves.

    Raises UpstreamError for a file that is broken or cut, or that becomes larger than the asset's limits.
    """
    opener = _OPENERS.get(file.lower().rpartition(".")[2])
    if opener is None:
        return raw
    limits = {name: int(options.get(name, default)) for name, default in LIMITS.items()}
    found = io.BytesIO()
    try:
        with opener(io.BytesIO(raw)) as stream:
            while piece := stream.read(_PIECE_BYTES):
                found.write(piece)
                _check_size(file, found.tell(), len(raw), limits)
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise rejected(file, 0, f"it cannot be unpacked: {error}", "pack the file again and land it again") from None
    return found.getvalue()


def _check_size(file: str, size_bytes: int, packed_bytes: int, limits: Mapping[str, int]) -> None:
    bytes_max, ratio_max = limits["unpacked_bytes_max"], limits["unpacked_ratio_max"]
    if size_bytes > bytes_max:
        raise rejected(
            file, 0, f"unpacked it is more than {bytes_max:,} bytes (unpacked_bytes_max)",
            "land it in several files, or raise unpacked_bytes_max of the asset",
        )  # fmt: skip
    if size_bytes > max(RATIO_FROM_BYTES, packed_bytes * ratio_max):
        raise rejected(
            file, 0, f"unpacked it is more than {ratio_max:,} times its {packed_bytes:,} bytes (unpacked_ratio_max)",
            "see who wrote it; if it is right, raise unpacked_ratio_max of the asset",
        )  # fmt: skip


def text_bytes(data: bytes, file: str, encoding: str) -> bytes:
    """The text as UTF-8 without a byte order mark. Raises UpstreamError at the first byte that is no text."""
    name = encoding.lower().replace("_", "-")
    if name not in ("utf-8", "utf8", "utf-8-sig", ""):
        return _decoded(data, file, encoding)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decoded(data, file, "utf-16")
    text = data.removeprefix(codecs.BOM_UTF8)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        at = error.start + len(data) - len(text)
        message = f"byte 0x{text[error.start]:02x} is not UTF-8 (byte {at} of the file)"
        raise rejected(file, line, message, 'say encoding = "latin-1" (or what it is) for its format') from None
    return text


def _decoded(data: bytes, file: str, encoding: str) -> bytes:
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except LookupError as error:
        raise rejected(file, 0, str(error), "write an encoding that Python knows, such as latin-1") from None
    except UnicodeDecodeError as error:
        message = f"byte 0x{data[error.start]:02x} is not {encoding} (byte {error.start} of the file)"
        line = _line_at(data, error.start, encoding)
        raise rejected(file, line, message, "mend the file, or say the encoding that it is in") from None
    except UnicodeError as error:  # a character that UTF-8 has not, or an encoding that says no more than that
        raise rejected(file, 0, f"it is not text in {encoding}: {error}") from None


def _line_at(data: bytes, at: int, encoding: str) -> int:
    """The line of a byte; 0 where the encoding cannot tell."""
    try:
        return data[:at].decode(encoding, "replace").count("\n") + 1
    except UnicodeError:
        return 0
