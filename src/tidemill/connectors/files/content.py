"""The bytes of a file: fetched, unpacked, hashed, decoded.

Rules of this file:
  * the hash of a file is over its raw bytes, as they lie there: packing a file anew is a new content;
  * text is UTF-8 unless the asset says otherwise; a byte that is not is an error that names the line;
  * a byte order mark is not part of the text.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib

import pyarrow as pa

from tidemill.core.errors import UpstreamError

__all__ = ["content_hash", "rejected", "text_bytes", "unpacked"]


def rejected(file: str, line: int, message: str, mend: str = "mend the file and land it again") -> UpstreamError:
    """The error that rejects a file whole, at one of its lines (0: no line)."""
    return UpstreamError(message, place=f"{file}:{line}" if line else file, mend=mend)


def content_hash(raw: bytes) -> str:
    """The hash of a file's content."""
    return hashlib.sha256(raw).hexdigest()


def unpacked(raw: bytes, file: str) -> bytes:
    """The content of a file that is packed by its extension (.gz, .zst, .bz2), else the bytes themselves."""
    ending = file.lower().rpartition(".")[2]
    try:
        if ending == "gz":
            return gzip.decompress(raw)
        if ending in ("zst", "bz2"):
            packing = {"zst": "zstd", "bz2": "bz2"}[ending]
            with pa.CompressedInputStream(pa.BufferReader(raw), packing) as stream:
                data: bytes = stream.read()
                return data
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise rejected(file, 0, f"it cannot be unpacked: {error}") from None
    return raw


def text_bytes(data: bytes, file: str, encoding: str) -> bytes:
    """The text as UTF-8 without a byte order mark."""
    name = encoding.lower().replace("_", "-")
    if name in ("utf-8", "utf8", "utf-8-sig", ""):
        text = data.removeprefix(b"\xef\xbb\xbf")
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            message = f"byte 0x{text[error.start]:02x} is not UTF-8"
            raise rejected(file, line, message, f'say encoding = "latin-1" (or what it is) for {file}') from None
        return text
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except (UnicodeDecodeError, LookupError) as error:
        raise rejected(file, 0, f"it does not read as {encoding}: {error}") from None
