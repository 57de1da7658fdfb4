"""The door: events on their way into topics, durable when the call returns (port `Log`).

Rules of this file:
  * what an append brings - block, ids, keys, parked events, mark - is one transaction, or nothing;
  * each caller gets the receipt of its own events, whoever committed them;
  * the contract is checked outside the lock, everything that depends on what is stored inside.

Theory of operation (group commit). A sync costs the same for one append and for fifty. Callers put their checked
batch on a list and wait for the writing connection. The first to get it takes the whole list, lands the batches one
after the other in one transaction and commits once; the others, when their turn comes, find their work done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tidemill.core.errors import InvariantError, UserError
from tidemill.core.model import Asset, AssetKind, Semantics
from tidemill.core.ports import Receipt, Table
from tidemill.stores.sqlite import catalog, records, topics
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import Checked, Contract
from tidemill.stores.sqlite.upkeep import Sweeper
from tidemill.stores.sqlite.writing import add_versions

__all__ = ["Door"]

GROUP_BYTES = 16 << 20
"""One transaction takes at most about so many bytes from the list."""


CONTRACTS_KEPT = 1_024
"""So many contracts are kept ready."""


@dataclass(slots=True)
class _Ticket:
    """One append, waiting for its commit."""

    contract: Contract
    checked: Checked
    size: int
    source: str
    mark: str
    receipt: Receipt | None = None
    error: BaseException | None = None


class Door:
    """Appends to topics and versions, many callers to a commit."""

    def __init__(
        self, take_turn: Callable[[], Connection], end_turn: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self._take_turn = take_turn
        self._end_turn = end_turn
        self._now = now
        self._waiting: list[_Ticket] = []
        self._lock = threading.Lock()
        self._sweeper = Sweeper()
        self._contracts: dict[int, Contract] = {}

    def append(self, asset: Asset, events: bytes, source: str, mark: str) -> Receipt:
        """Take events through contract, dedup and upsert rules (port `Log.append`); none at all make a topic known."""
        if asset.kind is not AssetKind.TOPIC:
            raise UserError(
                f"{asset.name} is no topic but a {asset.kind.value}", place=str(asset.place), mend="emit into a topic"
            )
        contract = self._contract_of(asset)
        ticket = _Ticket(contract, contract.check(events), len(events), source, mark)
        with self._lock:
            self._waiting.append(ticket)
        connection = self._take_turn()
        try:
            while ticket.receipt is None and ticket.error is None:
                self._lead(connection)
        finally:
            self._end_turn()
        if ticket.error is not None:
            raise ticket.error
        if ticket.receipt is None:
            raise InvariantError("an append ended without a receipt")
        return ticket.receipt

    def _contract_of(self, asset: Asset) -> Contract:
        """The contract of this very asset object; assets hold mappings, so they cannot be keys themselves."""
        found = self._contracts.get(id(asset))
        if found is None or found.asset is not asset:
            if len(self._contracts) >= CONTRACTS_KEPT:
                self._contracts = {}
            found = self._contracts[id(asset)] = Contract(asset)
        return found

    def touch(self, asset: str, version: str) -> Receipt:
        """Note a version of an external asset (port `Log.touch`)."""
        connection = self._take_turn()
        try:
            connection.begin()
            found = catalog.entry(connection, asset)
            _claim_kind(found, catalog.VERSION)
            accepted = add_versions(connection, found, [version], self._now())
            catalog.save(connection, found)
            connection.commit()
            return Receipt(accepted=accepted, duplicate=1 - accepted, head=found.head)
        finally:
            connection.rollback()
            self._end_turn()

    def _lead(self, connection: Connection) -> None:
        """Commit what is waiting, for everyone."""
        tickets = self._take_group()
        try:
            receipts = self._commit(connection, tickets)
        except BaseException as error:  # noqa: BLE001 - every caller gets the error of its commit
            connection.rollback()
            for ticket in tickets:
                ticket.error = error
        else:
            for ticket, receipt in zip(tickets, receipts, strict=True):
                ticket.receipt = receipt

    def _take_group(self) -> list[_Ticket]:
        with self._lock:
            size = count = 0
            for ticket in self._waiting:
                if count and size + ticket.size > GROUP_BYTES:
                    break
                size += ticket.size
                count += 1
            group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _commit(self, connection: Connection, tickets: list[_Ticket]) -> list[Receipt]:
        connection.begin()
        now = self._now()
        receipts = [self._land(connection, ticket, now) for ticket in tickets]
        connection.commit()
        return receipts

    def _land(self, connection: Connection, ticket: _Ticket, now: float) -> Receipt:
        """What one append does inside the transaction."""
        asset, checked = ticket.contract.asset, ticket.checked
        found = catalog.entry(connection, asset.name)
        was = (found.kind, found.at_door, found.swept_at, found.id)
        _claim_kind(found, catalog.TOPIC)
        is_same = not _shape(found, asset)
        landed = topics.land(connection, found, ticket.contract, checked, now)
        found.at_door = found.at_door or landed.accepted > 0
        if asset.id:
            found.id = asset.id
            self._sweeper.sweep(connection, found, asset.dedup_window_seconds, now, checked.sent)
        if is_same and was == (found.kind, found.at_door, found.swept_at, found.id):
            catalog.advance(connection, found)
        else:
            catalog.save(connection, found)
        refusals = sorted([*checked.refusals, *landed.refusals], key=lambda each: each.index)
        if refusals:
            records.park(connection, asset.name, refusals, now)
        if ticket.source:
            connection.execute(
                "insert or replace into marks (asset, source, mark) values (?, ?, ?)",
                (asset.name, ticket.source, ticket.mark),
            )
        return Receipt(landed.accepted, landed.duplicate, len(refusals), found.head, tuple(refusals))


def _claim_kind(found: catalog.Entry, kind: str) -> None:
    if found.kind not in ("", kind) and found.head:
        raise UserError(f"{found.asset} already holds something else ({found.kind})", mend="use another asset name")
    found.kind = kind


def _shape(found: catalog.Entry, asset: Asset) -> bool:
    """Give the topic the shape its asset has now, and say whether that is another one.

    Raises DefinitionError for a shape that the topic's events forbid.
    """
    key = asset.key or None if asset.semantics is Semantics.UPSERT else None
    if found.at_door or found.head == 0:
        columns = asset.columns or found.columns
        if (found.columns, found.key) != (columns, key):
            catalog.reshaped(found, Table(asset.name, columns, key))
            return True
    return False
