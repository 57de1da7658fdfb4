"""Rows of internal assets (`JOB@parked`, `JOB@gate`): small tables with their whole history.

Rules of this file:
  * an image is current from the offset that made it until the offset that ended it; nothing is overwritten;
  * the identity of a row is its key where the table has one, else its parent and ordinal, else its offset;
  * `difference` only reads; `apply` only writes what a difference says, in the order it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.core.errors import ContractViolation
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection

__all__ = ["FOREVER", "Image", "NewRow", "appended", "apply", "changes", "replaced", "state"]

FOREVER = 2**63 - 1
"""`until` of an image that is current."""


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that an output brings: its identity ("" = its offset), its parent, and its columns as JSON."""

    rid: str
    parent: str | None
    payload: bytes


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
    names = [row.rid for row in rows if row.rid]
    taken = {rid for rid in names if _current(connection, found, rid) is not None}
    seen: set[str] = set()
    taken |= {rid for rid in names if rid in seen or seen.add(rid)}  # type: ignore[func-returns-value]
    if taken:
        _refuse(found, taken)
    return [(row.rid, row, False) for row in rows]


def replaced(connection: Connection, found: Entry, rows: Sequence[NewRow], parents: Sequence[str] | None) -> list[Pair]:
    """The changes that make the rows of these parents (None: all rows) exactly `rows`."""
    after = _by_identity(found, rows)
    if parents is None:
        return _difference(_all(connection, found), after)
    pairs: list[Pair] = []
    for parent in dict.fromkeys(parents):
        mine = {rid: row for rid, row in after.items() if row.parent == parent} if after else {}
        pairs += _difference(_of_parent(connection, found, parent), mine)
    _check_parents(found, rows, parents)
    taken = {rid for rid, _, had_old in pairs if not had_old and _current(connection, found, rid) is not None}
    if taken:
        _refuse(found, taken)
    return pairs


def _by_identity(found: Entry, rows: Sequence[NewRow]) -> dict[str, NewRow]:
    after: dict[str, NewRow] = {}
    for row in rows:
        if row.rid in after:
            _refuse(found, {row.rid})
        after[row.rid] = row
    return after


def _difference(before: Mapping[str, bytes], after: Mapping[str, NewRow]) -> list[Pair]:
    pairs: list[Pair] = []
    for rid in sorted(before.keys() | after.keys()):
        new = after.get(rid)
        if new is None or before.get(rid) != new.payload:
            pairs.append((rid, new, rid in before))
    return pairs


def _check_parents(found: Entry, rows: Sequence[NewRow], parents: Sequence[str]) -> None:
    strays = {str(row.parent) for row in rows} - set(parents)
    if strays:
        raise ContractViolation(
            f"{found.asset}: rows belong to {min(strays)!r}, which is not among the parents replaced"
        )


def _refuse(found: Entry, rids: set[str]) -> None:
    shown = ", ".join(sorted(rids)[:5])
    raise ContractViolation(f"{found.asset}: the row identity is not unique: {shown}", mend="make the key unique")


def _current(connection: Connection, found: Entry, rid: str) -> Any:
    return connection.one(
        "select 1 from images where number = ? and rid = ? and until = ?", (found.number, rid, FOREVER)
    )


def _of_parent(connection: Connection, found: Entry, parent: str) -> dict[str, bytes]:
    rows = connection.all(
        "select rid, payload from images where number = ? and parent = ? and until = 9223372036854775807",
        (found.number, parent),
    )
    return dict(rows)


def _all(connection: Connection, found: Entry) -> dict[str, bytes]:
    rows = connection.all("select rid, payload from images where number = ? and until = ?", (found.number, FOREVER))
    return dict(rows)


def apply(connection: Connection, found: Entry, pairs: Sequence[Pair]) -> None:
    """Make these changes, each at the next offset."""
    for rid, new, has_old in pairs:
        found.head += 1
        if has_old:
            connection.execute(
                "update images set until = ? where number = ? and rid = ? and until = ?",
                (found.head, found.number, rid, FOREVER),
            )
            found.count -= 1
        if new is not None:
            connection.execute(
                "insert into images (number, rid, from_, until, parent, payload) values (?, ?, ?, ?, ?, ?)",
                (found.number, rid or str(found.head), found.head, FOREVER, new.parent, new.payload),
            )
            found.count += 1


def state(connection: Connection, found: Entry, to: int) -> Iterator[Image]:
    """The rows as they are at `to`."""
    rows = connection.execute(
        "select rid, from_, payload from images where number = ? and from_ <= ? and until > ? order by from_, rid",
        (found.number, to, to),
    )
    return (Image(rid, offset, 1, payload) for rid, offset, payload in rows)


def changes(connection: Connection, found: Entry, from_: int, to: int) -> list[Image]:
    """Both images of each row that the change set (from_, to] changes, ordered by offset, row, old before new."""
    rows = connection.execute(
        "select rid, from_, until, payload from images where number = ? and from_ <= ? and until > ?",
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
