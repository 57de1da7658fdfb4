"""Single events of a topic, found by key or id without reading its log.

Rules of this file:
  * the side tables say where an event is; what it says is read from the log like any other slice;
  * a key as it is asked for goes through the same casts as a key that is sent, so that both find the same row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pyarrow as pa

from tidemill.core.change import Images, Slice
from tidemill.core.model import Asset, Semantics
from tidemill.core.ports import Refusal
from tidemill.stores.sqlite import catalog
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import Contract
from tidemill.stores.sqlite.reading import Reading

__all__ = ["event_of"]


def event_of(connection: Connection, asset: Asset, wanted: Mapping[str, str]) -> pa.Table | None:
    """The row of the key, or of the id, that these texts are, with its hidden columns: none or one.

    None where the topic keeps no such identity (an id is kept for the dedup window): its rows must be looked through.
    """
    entry = catalog.known(connection, asset.name)
    if entry is None:
        return None
    found: int | None = None
    if asset.semantics is Semantics.UPSERT and set(wanted) == set(asset.key):
        found = _by_key(connection, entry, asset, wanted)
    elif asset.id and set(wanted) == {asset.id} and asset.semantics is Semantics.APPEND:
        found = _by_id(connection, entry, wanted[asset.id])
    if found is None:
        return None
    low, high = (found - 1, found) if found else (entry.head, entry.head)
    return Reading(connection).read(Slice(asset.name, low, high, Images.ADDED))


def _by_key(connection: Connection, entry: Entry, asset: Asset, wanted: Mapping[str, str]) -> int:
    contract = Contract(replace(asset, id="", version=""))
    checked = contract.check(msgspec.json.encode({**wanted, "_deleted": True}))
    identity = next(iter(contract.identities(checked.lines())), None)
    if identity is None or isinstance(identity, Refusal):
        return 0
    row = connection.one(
        "select offset from keys where number = ? and key = ? and deleted = 0", (entry.number, identity.key)
    )
    return int(row[0]) if row else 0


def _by_id(connection: Connection, entry: Entry, wanted: str) -> int | None:
    row = connection.one("select offset from ids where number = ? and id = ?", (entry.number, wanted))
    return int(row[0]) if row and row[0] > entry.floor else None
