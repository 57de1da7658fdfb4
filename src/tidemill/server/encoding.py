"""Bodies that were compressed: decoded piece by piece, never more at once than a piece.

Rules of this file:
  * what comes out of one step is at most `PIECE_BYTES`, however little went in: a bomb costs what it is allowed to;
  * several members (gzip) or frames (zstd) one after the other are one body; a body that ends inside one is broken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

from tidemill.core.errors import UserError
from tidemill.server.refusals import WrongType

__all__ = ["ENCODINGS", "PIECE_BYTES", "Decoding", "decoding"]

PIECE_BYTES = 256 * 1024

_ZSTD_WINDOW_LOG = 23
"""The largest window of a zstd frame: 8 MiB, what RFC 9659 allows for HTTP."""

_GZIP = 16 + zlib.MAX_WBITS


class Decoding(Protocol):
    """One body on its way through a decoder."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes decode to, in pieces. Raises UserError for bytes that are not of the encoding."""

    def finish(self) -> None:
        """Raise UserError where the body ended too early."""


class _Plain:
    """A body that is sent as it is."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The same bytes."""
        if data:
            yield data

    def finish(self) -> None:
        """Nothing can be missing."""


class _Gzip:
    """A gzip body (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._is_inside = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See Decoding."""
        piece = b""
        while data or len(piece) == PIECE_BYTES:  # a full piece may have left some of it inside
            self._is_inside = True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _broken("gzip", str(error)) from None
            if piece:
                yield piece
            data = self._member.unconsumed_tail
            if self._member.eof:
                data, piece = self._member.unused_data, b""
                self._member, self._is_inside = zlib.decompressobj(_GZIP), False

    def finish(self) -> None:
        """See Decoding."""
        if self._is_inside:
            raise _broken("gzip", "it ends too early")


class _Zstd:
    """A zstd body (RFC 8878)."""

    def __init__(self) -> None:
        self._frame = _zstd_frame()
        self._is_inside = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See Decoding."""
        while data or (self._is_inside and not self._frame.needs_input):
            self._is_inside = True
            try:
                piece = self._frame.decompress(data, PIECE_BYTES)
            except ZstdError as error:
                raise _broken("zstd", str(error)) from None
            if piece:
                yield piece
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame, self._is_inside = _zstd_frame(), False

    def finish(self) -> None:
        """See Decoding."""
        if self._is_inside:
            raise _broken("zstd", "it ends too early")


def _zstd_frame() -> ZstdDecompressor:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _broken(encoding: str, reason: str) -> UserError:
    return UserError(f"the body is not {encoding}: {reason}", mend="send it again, or send it uncompressed")


ENCODINGS: dict[str, Callable[[], Decoding]] = {
    "": _Plain,
    "identity": _Plain,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "zstd": _Zstd,
}


def decoding(encoding: str) -> Decoding:
    """A decoder for a `Content-Encoding`. Raises WrongType for one that is not read here."""
    name = encoding.strip().lower()
    if name not in ENCODINGS:
        raise WrongType(f"the encoding {encoding} is not read here", mend="send gzip, zstd or uncompressed bytes")
    return ENCODINGS[name]()
