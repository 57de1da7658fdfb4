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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidemill.core.errors import InvariantError, Stopped, TidemillError, UserError
from tidemill.core.model import Asset, AssetKind, Semantics
from tidemill.core.ports import Receipt, Sending, Table
from tidemill.core.schema import Policy, SchemaDrift, merged, policy_of
from tidemill.stores.sqlite import catalog, records, stopping, topics, traces, versions
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import Checked, Contract
from tidemill.stores.sqlite.evolve import evolved
from tidemill.stores.sqlite.sharing import shares
from tidemill.stores.sqlite.upkeep import Sweeper
from tidemill.stores.sqlite.writing import add_versions

__all__ = ["Door"]

GROUP_BYTES = 16 << 20
"""One transaction takes at most about so many bytes from the list."""


CONTRACTS_KEPT = 1_024
"""So many contracts are kept ready."""


@dataclass(slots=True)
class _Ticket:
    """One append, waiting for its commit; it may carry what several senders sent to one topic."""

    contract: Contract
    checked: Checked
    size: int
    sendings: Sequence[Sending]
    source: str = ""
    mark: str = ""
    receipts: list[Receipt] | None = None
    error: BaseException | None = None
    stopped: Stopped | None = None

    @property
    def is_settled(self) -> bool:
        """Whether its commit is over."""
        return self.receipts is not None or self.error is not None


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
        ticket = _Ticket(contract, _verdict(contract, events), len(events), (Sending(asset, events),), source, mark)
        self._settle([ticket])
        failure = ticket.error or ticket.stopped
        if failure is not None:
            raise failure
        if ticket.receipts is None:
            raise InvariantError("an append ended without a receipt")
        return ticket.receipts[0]

    def append_all(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        """Take what many senders sent in as few commits as can be; each gets its own receipt, or what went wrong.

        What goes to one topic is checked and landed together where its events are counted, so that a hundred single
        events cost little more than one.
        """
        answers: list[Receipt | Exception] = [Receipt()] * len(sendings)
        tickets: list[tuple[list[int], _Ticket]] = []
        for group in _groups(sendings):
            try:
                tickets.append((group, self._ticket([sendings[number] for number in group])))
            except TidemillError as error:
                for number in group:
                    answers[number] = error
        self._settle([ticket for _, ticket in tickets])
        for group, ticket in tickets:
            for place, number in enumerate(group):
                failure = ticket.error if isinstance(ticket.error, Exception) else ticket.stopped
                answers[number] = failure or (ticket.receipts or [])[place]
        return answers

    def _ticket(self, sendings: Sequence[Sending]) -> _Ticket:
        contract = self._contract_of(sendings[0].asset)
        events = _together(sendings)
        return _Ticket(contract, _verdict(contract, events), len(events), sendings)

    def _settle(self, tickets: Sequence[_Ticket]) -> None:
        """Return when every one of these is committed, or has failed."""
        with self._lock:
            self._waiting += tickets
        connection = self._take_turn()
        try:
            while not all(ticket.is_settled for ticket in tickets):
                self._lead(connection)
        finally:
            self._end_turn()

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
        error = self._try(connection, tickets)
        if error is not None and len(tickets) > 1 and isinstance(error, UserError):
            for ticket in tickets:  # one topic's definition must not fail the senders of the others
                ticket.error = None
                self._try(connection, [ticket])

    def _try(self, connection: Connection, tickets: list[_Ticket]) -> BaseException | None:
        try:
            receipts = self._commit(connection, tickets)
        except BaseException as error:  # noqa: BLE001 - every caller gets the error of its commit
            connection.rollback()
            for ticket in tickets:
                ticket.error = error
            return error
        for ticket, found in zip(tickets, receipts, strict=True):
            ticket.receipts = found
        return None

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

    def _commit(self, connection: Connection, tickets: list[_Ticket]) -> list[list[Receipt]]:
        connection.begin()
        now = self._now()
        receipts = [self._land_or_refuse(connection, ticket, now) for ticket in tickets]
        connection.commit()
        return receipts

    def _land_or_refuse(self, connection: Connection, ticket: _Ticket, now: float) -> list[Receipt]:
        """Land what a ticket brings; a strict one only where nothing of it has to be parked."""
        first = ticket.sendings[0]
        if stopping.stops(first.asset) and (ticket.size or first.refused) and not first.letter:
            waits_for = stopping.waits_for(connection, first.asset.name)
            if waits_for is not None:
                ticket.stopped = stopping.error(first.asset.name, *waits_for)
                return [Receipt()]
            if not first.is_strict:
                return self._land_or_stop(connection, ticket, now)
        if not ticket.sendings[0].is_strict:
            whole = self._land(connection, ticket, now)
            receipts = shares(whole, [sending.count for sending in ticket.sendings])
            _keep(connection, ticket.sendings, receipts)
            return receipts
        connection.execute("savepoint strict")
        whole = self._land(connection, ticket, now)
        if whole.refusals:
            connection.execute("rollback to strict")
            whole = Receipt(refusals=whole.refusals)
        else:
            _keep(connection, ticket.sendings, [whole])
        connection.execute("release strict")
        return [whole]

    def _land_or_stop(self, connection: Connection, ticket: _Ticket, now: float) -> list[Receipt]:
        """Land all that a sending brings, or of all that only the first event that stops its topic, at the door."""
        sending = ticket.sendings[0]
        connection.execute("savepoint stop")
        whole = self._land(connection, ticket, now)
        found = stopping.culprit(connection, sending.asset.name, [*whole.refusals, *sending.refused])
        if found is None:
            _keep(connection, ticket.sendings, [whole])
        else:
            connection.execute("rollback to stop")
            records.park(connection, sending.asset.name, [found], [sending.traceparent], now)
            ticket.stopped = stopping.error(
                sending.asset.name, records.letter_id(sending.asset.name, found), found.reason
            )
        connection.execute("release stop")
        return [whole]

    def _land(self, connection: Connection, ticket: _Ticket, now: float) -> Receipt:
        """What one append does inside the transaction."""
        found = catalog.entry(connection, ticket.contract.asset.name)
        contract, checked = self._at_present(found, ticket)
        asset = contract.asset
        was = (found.kind, found.at_door, found.swept_at, found.id)
        _claim_kind(found, catalog.TOPIC)
        is_same = not _shape(connection, found, asset)
        landed = topics.land(connection, found, contract, checked, now)
        found.at_door = found.at_door or landed.accepted > 0
        if asset.id:
            found.id = asset.id
            self._sweeper.sweep(connection, found, asset.dedup_window_seconds, now, checked.sent)
        if is_same and was == (found.kind, found.at_door, found.swept_at, found.id):
            catalog.advance(connection, found)
        else:
            catalog.save(connection, found)
        refusals = sorted([*checked.refusals, *landed.refusals], key=lambda each: each.index)
        refused = [refusal for sending in ticket.sendings for refusal in sending.refused]
        if refusals or refused:
            traced = traces.of_refusals(ticket.sendings, refusals)
            traced += [sending.traceparent for sending in ticket.sendings for _ in sending.refused]
            keeps = stopping.stops(asset)
            records.park(connection, asset.name, [*refusals, *refused], traced, now, keeps_settled=keeps)
        if ticket.source:
            connection.execute(
                "insert or replace into marks (asset, source, mark) values (?, ?, ?)",
                (asset.name, ticket.source, ticket.mark),
            )
        duplicates = tuple(landed.duplicates)
        return Receipt(landed.accepted, landed.duplicate, len(refusals), found.head, tuple(refusals), duplicates)

    def _at_present(self, found: catalog.Entry, ticket: _Ticket) -> tuple[Contract, Checked]:
        """The contract as it is inside the lock, and its verdict: others may have widened a topic that evolves."""
        contract = ticket.contract
        if contract.policy is not Policy.EVOLVE or found.columns == contract.asset.columns:
            return contract, ticket.checked
        columns = merged(found.columns, contract.asset.columns)
        if set(columns) == set(contract.asset.columns):
            return contract, ticket.checked
        now = Contract(replace(contract.asset, columns=columns))
        return now, _verdict(now, _together(ticket.sendings))


def _verdict(contract: Contract, events: bytes) -> Checked:
    """The verdict on events. Raises SchemaDrift where the topic evolves and they need columns that it does not have."""
    checked = contract.check(events)
    if checked.has_drift:
        columns = evolved(contract, events)
        if columns != contract.asset.columns:
            raise SchemaDrift(contract.asset.name, columns)
    return checked


def _together(sendings: Sequence[Sending]) -> bytes:
    return b"\n".join([sending.events for sending in sendings])


def _groups(sendings: Sequence[Sending]) -> list[list[int]]:
    """Which sendings are landed together: those of one topic whose events are counted and may be parked one by one."""
    groups: dict[str | int, list[int]] = {}
    for number, sending in enumerate(sendings):
        is_shared = sending.count and not (sending.is_strict or sending.refused or stopping.stops(sending.asset))
        groups.setdefault(sending.asset.name if is_shared else number, []).append(number)
    return list(groups.values())


def _keep(connection: Connection, sendings: Sequence[Sending], receipts: Sequence[Receipt]) -> None:
    for sending, receipt in zip(sendings, receipts, strict=True):
        if sending.traceparent:
            traces.keep(connection, catalog.entry(connection, sending.asset.name).number, sending.traceparent, receipt)
        if sending.keep is not None:
            records.note(connection, *sending.keep(receipt))
        if sending.letter:
            records.change_letter(connection, sending.letter, state=records.REPLAYED)


def _claim_kind(found: catalog.Entry, kind: str) -> None:
    if found.kind not in ("", kind) and found.head:
        raise UserError(f"{found.asset} already holds something else ({found.kind})", mend="use another asset name")
    found.kind = kind


def _shape(connection: Connection, found: catalog.Entry, asset: Asset) -> bool:
    """Give the topic the shape its asset has now, and say whether that is another one.

    Raises DefinitionError for a shape that the topic's events forbid.
    """
    key = asset.key or None if asset.semantics is Semantics.UPSERT else None
    if found.at_door or found.head == 0:
        columns = asset.columns or found.columns
        if found.at_door and policy_of(asset) is Policy.EVOLVE:
            columns = merged(found.columns, asset.columns)
        if (found.columns, found.key) != (columns, key):
            catalog.reshaped(found, Table(asset.name, columns, key), versions.kept(connection, found.number))
            versions.record(connection, found.number, found.head, found.columns)
            return True
    return False
