"""Rows with their history: internal assets (`JOB@parked`, `JOB@gate`), and any table that is kept in the ledger.

Rules of this file:
  * an image is current from the offset that made it until the offset that ended it; nothing is overwritten;
  * two rows are equal where their stored lines are; a row that stays equal gets no change;
  * `apply` gives each change the next offset, in the order it is handed: appended rows in their own order, differences
    in the order of the row identities.

These are tables of thousands of rows, not of millions: each change is one statement. A snapshot transaction works on
a copy in the connection's `temp` schema (`Entry.schema`), so that it sees its own writes and nobody else does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.core.errors import ContractViolation, StateCorrupt
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection

__all__ = [
    "FOREVER",
    "Image",
    "NewRow",
    "Pair",
    "appended",
    "apply",
    "became",
    "changed",
    "changes",
    "replaced",
    "state",
]

FOREVER = 2**63 - 1
"""`until` of an image that is current."""


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that an output brings: its identity ("" = its offset), parent, columns as JSON, and given offset."""

    rid: str
    parent: str | None
    payload: bytes
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One line of what a read returns: an image of a row, the offset of its change, and its weight."""

    rid: str
    offset: int
    weight: int
    payload: bytes


Pair = tuple[str, NewRow | None, bool]
"""A change to make: the identity, the new row (None: it goes), and whether there is an old image to end."""


def appended(connection: Connection, found: Entry, rows: Sequence[NewRow]) -> list[Pair]:
    """The changes of an `Appended`; raises ContractViolation where an identity is taken."""
    _check_free(connection, found, list(_by_identity(found, [row for row in rows if row.rid])))
    return [(row.rid, row, False) for row in rows]


def replaced(connection: Connection, found: Entry, rows: Sequence[NewRow], parents: Sequence[str] | None) -> list[Pair]:
    """The changes that make the rows of these parents (None: all rows) exactly those of `rows` with that parent."""
    if parents is None:
        return became(connection, found, rows)
    wanted = set(parents)
    before: dict[str, bytes] = {}
    for parent in sorted(wanted):
        before |= _of_parent(connection, found, parent)
    after = _by_identity(found, [row for row in rows if row.parent in wanted])
    _check_free(connection, found, sorted(after.keys() - before.keys()))
    return _difference(before, after)


def became(connection: Connection, found: Entry, rows: Sequence[NewRow]) -> list[Pair]:
    """The changes that make the rows of the asset exactly `rows`."""
    current = connection.all(
        f"select rid, payload from {found.schema}.images where number = ? and until = ?", (found.number, FOREVER)
    )
    return _difference(dict(current), _by_identity(found, rows))


def changed(
    connection: Connection, found: Entry, lines: Sequence[tuple[NewRow, int]], *, is_checked: bool
) -> list[Pair]:
    """The changes of a `Changed`: its lines, consolidated. Raises ContractViolation and StateCorrupt."""
    weights: Counter[NewRow] = Counter()
    for row, weight in lines:
        weights[row] += weight
    removed: Counter[str] = Counter()
    for row, weight in weights.items():
        if weight < 0:
            removed[row.rid] -= weight
    after = _by_identity(found, [row for row, weight in weights.items() for _ in range(weight)])
    if is_checked:
        _check_free(connection, found, sorted(after.keys() - removed.keys()))
    if any(count > _is_current(connection, found, rid) for rid, count in removed.items()):
        raise StateCorrupt(
            f"{found.asset}: the change set removes a row that is not there",
            mend="rebuild the table of the job that writes it",
        )
    return [(rid, after.get(rid), rid in removed) for rid in sorted(after.keys() | removed.keys())]


def _by_identity(found: Entry, rows: Sequence[NewRow]) -> dict[str, NewRow]:
    after = {row.rid: row for row in rows}
    if len(after) < len(rows):
        seen: set[str] = set()
        _refuse(found, sorted({row.rid for row in rows if row.rid in seen or seen.add(row.rid)}))  # type: ignore[func-returns-value]
    return after


def _difference(before: Mapping[str, bytes], after: Mapping[str, NewRow]) -> list[Pair]:
    pairs: list[Pair] = []
    for rid in sorted(before.keys() | after.keys()):
        new = after.get(rid)
        if new is None or before.get(rid) != new.payload:
            pairs.append((rid, new, rid in before))
    return pairs


def _check_free(connection: Connection, found: Entry, rids: Sequence[str]) -> None:
    taken = [rid for rid in rids if _is_current(connection, found, rid)]
    if taken:
        _refuse(found, taken)


def _refuse(found: Entry, rids: Sequence[str]) -> None:
    shown = ", ".join(rids[:5])
    raise ContractViolation(f"{found.asset}: the key is not unique: {shown}", mend="make the key unique")


def _is_current(connection: Connection, found: Entry, rid: str) -> bool:
    statement = f"select 1 from {found.schema}.images where number = ? and rid = ? and until = ?"
    return connection.one(statement, (found.number, rid, FOREVER)) is not None


def _of_parent(connection: Connection, found: Entry, parent: str) -> dict[str, bytes]:
    rows = connection.all(
        f"select rid, payload from {found.schema}.images "
        "where number = ? and parent = ? and until = 9223372036854775807",
        (found.number, parent),
    )
    return dict(rows)


def apply(connection: Connection, found: Entry, pairs: Sequence[Pair], head: int | None = None) -> None:
    """Make these changes, each at its given offset, or at the given head, or at the next offset."""
    for rid, new, has_old in pairs:
        if head is None:
            found.head += 1
            offset = found.head
        else:
            offset = head if new is None or new.offset is None else new.offset
        if has_old:
            _end(connection, found, rid, offset)
        if new is not None:
            _begin(connection, found, rid or str(offset), offset, new)


def _end(connection: Connection, found: Entry, rid: str, offset: int) -> None:
    connection.execute(
        f"update {found.schema}.images set until = ? where number = ? and rid = ? and until = ?",
        (offset, found.number, rid, FOREVER),
    )
    found.count -= 1


def _begin(connection: Connection, found: Entry, rid: str, offset: int, new: NewRow) -> None:
    connection.execute(
        f"insert into {found.schema}.images (number, rid, from_, until, parent, payload) values (?, ?, ?, ?, ?, ?)",
        (found.number, rid, offset, FOREVER, new.parent, new.payload),
    )
    found.count += 1


def state(connection: Connection, found: Entry, to: int) -> Iterator[Image]:
    """The rows as they are at `to`."""
    rows = connection.execute(
        f"select rid, from_, payload from {found.schema}.images "
        "where number = ? and from_ <= ? and until > ? order by from_, rid",
        (found.number, to, to),
    )
    return (Image(rid, offset, 1, payload) for rid, offset, payload in rows)


def changes(connection: Connection, found: Entry, from_: int, to: int) -> list[Image]:
    """Both images of each row that the change set (from_, to] changes, ordered by offset, row, old before new."""
    rows = connection.execute(
        f"select rid, from_, until, payload from {found.schema}.images where number = ? and from_ <= ? and until > ?",
        (found.number, to, from_),
    )
    old: dict[str, bytes] = {}
    new: dict[str, bytes] = {}
    last: dict[str, int] = {}
    for rid, begins, until, payload in rows:
        if begins <= from_:
            old[rid] = payload
        if until > to:
            new[rid] = payload
        last[rid] = max(last.get(rid, 0), begins, until if until <= to else 0)
    found_ = [Image(rid, last[rid], weight, side[rid]) for rid, side, weight in _sides(old, new)]
    return sorted(found_, key=lambda image: (image.offset, image.rid, image.weight))


def _sides(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[tuple[str, Mapping[str, bytes], int]]:
    for rid in old.keys() | new.keys():
        if old.get(rid) == new.get(rid):
            continue
        if rid in old:
            yield rid, old, -1
        if rid in new:
            yield rid, new, 1
