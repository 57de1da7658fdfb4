"""What the tests of the ledger share: a topic, a clock that is set by hand, and short ways to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from tidemill.core.change import OFFSET, RID, Images, Slice
from tidemill.core.model import Asset, AssetKind, Column, Semantics
from tidemill.stores.sqlite import SQLiteStore, blocks

COLUMNS = (Column("id", "varchar"), Column("n", "integer"), Column("note", "varchar"))


@dataclass
class Clock:
    """A clock set by hand."""

    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def topic(*columns: Column, name: str = "t", **more: Any) -> Asset:
    """A topic."""
    return Asset(name, AssetKind.TOPIC, columns=columns or COLUMNS, **more)


def upsert(**more: Any) -> Asset:
    """An upsert topic with key `k` and version `v`."""
    columns = (Column("k", "integer"), Column("v", "bigint"), Column("x", "varchar"))
    more = {"key": ("k",), "version": "v", "semantics": Semantics.UPSERT} | more
    return Asset("u", AssetKind.TOPIC, columns=columns, **more)


def ndjson(*events: Any) -> bytes:
    """Events as NDJSON; text is a line as it is."""
    return b"".join((e.encode() if isinstance(e, str) else msgspec.json.encode(e)) + b"\n" for e in events)


def rows(store: SQLiteStore, asset: str = "t", from_: int = 0, images: str = Images.ADDED) -> list[dict[str, Any]]:
    """The rows of (from_, head]."""
    reader = store.begin(exclusive=False)
    try:
        table = reader.read(Slice(asset, from_, reader.head(asset).offset, images))
        found: list[dict[str, Any]] = table.to_pylist()  # type: ignore[attr-defined]
        return found
    finally:
        reader.rollback()


def values(store: SQLiteStore, asset: str = "t", images: str = Images.ADDED) -> list[dict[str, Any]]:
    """The rows without their identities."""
    return [{k: v for k, v in row.items() if k not in (RID, OFFSET)} for row in rows(store, asset, images=images)]


def stored(store: SQLiteStore, asset: str = "t") -> list[str]:
    """The stored lines of a topic."""
    lines: list[str] = []
    with store._reads() as connection:
        number = connection.one("select number from assets where asset = ?", (asset,))[0]
        for _, _, payload in blocks.payloads(connection, number, 0, 2**40 - 1):
            lines += payload.decode().split("\n")
    return lines
