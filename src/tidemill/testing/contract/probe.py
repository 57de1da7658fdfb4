"""What the suite asks of a store, in few words: rows in, state and change sets out.

Rules of this file:
  * the port only: what is said here means the same for every store;
  * a change set is checked for being one while it is read: per row one old and one new image, at one offset.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, WEIGHT, Change, Images, Output, Slice
from tidemill.core.model import Column
from tidemill.core.ports import Head, Progress, Reader, Store, Table, Transaction

__all__ = [
    "COLUMNS",
    "changes",
    "changes_in",
    "contents",
    "head",
    "lines",
    "progress",
    "reading",
    "rows",
    "settle",
    "state",
    "state_in",
    "write",
    "writing",
]

COLUMNS = (Column("id", "bigint"), Column("name", "varchar"))
SCHEMA = {"id": pa.int64(), "name": pa.string(), PARENT: pa.string(), ORDINAL: pa.int64(), RID: pa.string()}
SCHEMA |= {OFFSET: pa.int64(), WEIGHT: pa.int8()}


def rows(*values: tuple[Any, ...], **hidden: Sequence[Any]) -> Any:
    """Rows of `COLUMNS` as Arrow; hidden columns by short name: `parent`, `ordinal`, `rid`, `offset`,
    `weight`."""
    names = {"parent": PARENT, "ordinal": ORDINAL, "rid": RID, "offset": OFFSET, "weight": WEIGHT}
    data = {"id": [value[0] for value in values], "name": [value[1] for value in values]}
    data |= {names[name]: list(column) for name, column in hidden.items()}
    return pa.table({name: pa.array(column, SCHEMA[name]) for name, column in data.items()})


@contextlib.contextmanager
def writing(store: Store, *, exclusive: bool = True) -> Iterator[Transaction]:
    """A transaction that commits at the end, and is rolled back where something fails."""
    transaction = store.begin(exclusive=exclusive)
    try:
        yield transaction
        transaction.commit()
    finally:
        transaction.rollback()


@contextlib.contextmanager
def reading(store: Store) -> Iterator[Transaction]:
    """A transaction that only reads."""
    transaction = store.begin(exclusive=False)
    try:
        yield transaction
    finally:
        transaction.rollback()


def write(store: Store, asset: str, output: Output, columns: tuple[Column, ...] = COLUMNS) -> int:
    """Define the asset, write once and commit; returns the number of changes."""
    with writing(store) as transaction:
        transaction.define(Table(asset, columns))
        return transaction.write(asset, output)


def lines(reader: Reader, part: Slice) -> list[dict[str, Any]]:
    """The rows of a slice as dictionaries, in their order."""
    found: list[dict[str, Any]] = pa.table(reader.read(part)).to_pylist()
    return found


def state_in(reader: Reader, asset: str, at: int | None = None) -> dict[str, dict[str, Any]]:
    """The rows by identity, as they are at an offset (None: now)."""
    to = reader.head(asset).offset if at is None else at
    return {line[RID]: _values(line) for line in lines(reader, Slice(asset, 0, to))}


def changes_in(reader: Reader, asset: str, from_: int, to: int) -> list[Change]:
    """A change set, its images paired by row."""
    images: dict[str, dict[int, dict[str, Any]]] = {}
    offsets: dict[str, set[int]] = {}
    for line in lines(reader, Slice(asset, from_, to, Images.CHANGES)):
        assert line[WEIGHT] not in images.setdefault(line[RID], {}), "at most one old and one new image a row"
        images[line[RID]][line[WEIGHT]] = _values(line)
        offsets.setdefault(line[RID], set()).add(line[OFFSET])
    assert all(len(found) == 1 for found in offsets.values()), "both images of a change are at one offset"
    return [Change(min(offsets[rid]), rid, pair.get(-1), pair.get(1)) for rid, pair in images.items()]


def state(store: Store, asset: str, at: int | None = None) -> dict[str, dict[str, Any]]:
    """`state_in` of a snapshot of the store."""
    with reading(store) as reader:
        return state_in(reader, asset, at)


def changes(store: Store, asset: str, from_: int, to: int) -> list[Change]:
    """`changes_in` of a snapshot of the store."""
    with reading(store) as reader:
        return changes_in(reader, asset, from_, to)


def head(store: Store, asset: str) -> Head:
    """The asset's head, from storage."""
    return store.positions().heads.get(asset, Head())


def contents(store: Store, asset: str) -> list[tuple[Any, ...]]:
    """The rows' values, sorted, without their identities."""
    return sorted((tuple(row.values()) for row in state(store, asset).values()), key=repr)


def _values(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in (RID, OFFSET, WEIGHT)}


def progress(job: str = "j", run: str = "r1", version: str = "v1", **cursors: int) -> Progress:
    """A job's progress with these cursors."""
    return Progress(job, version, cursors, dict.fromkeys(cursors, 1), run)


def settle(store: Store, done: Progress, expected: Progress | None = None) -> None:
    """Settle one job alone."""
    with writing(store) as transaction:
        transaction.settle(done, expected)
