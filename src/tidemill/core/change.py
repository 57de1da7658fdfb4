"""Changes of rows, and what a transform hands to a store: the unit of work and its algebra.

Rules of this file:
  * a change is one row identity going from an old image to a new one, at one offset; an update is one change;
  * a change set is *consolidated*: per row at most one change, and its two images are never equal (rule 3);
  * consolidating is associative, and a change set followed by its inverse is empty: the laws are the tests.

Theory of operation. An asset's log is a sequence of changes. `consolidate` folds any run of a log into a change set
by keeping, for each row, the first old image and the last new image; rows that end as they began vanish. Because
only those two images matter, cutting a log at any point and consolidating the parts gives, after merging, the same
images as consolidating the whole: this is why a mode (which only decides where the cuts are) cannot change a
result (rule 16). Offsets are not part of this law: a row that changes and comes back within one part has no change in
it, and so keeps the offset it had before.

In bulk, change sets cross the ports as Arrow streams (anything with `__arrow_c_stream__`), one line per image:
hidden columns first (`RID`, `OFFSET`, `WEIGHT`), then the asset's columns. `WEIGHT` is -1 for an old image and +1 for
a new one. What a transform produces is one of four *outputs*: `Appended`, `Replaced`, `Became`, `Changed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tidemill.core.model import Column

__all__ = [
    "FROM",
    "HIDDEN",
    "OFFSET",
    "ORDINAL",
    "PARENT",
    "RID",
    "UNTIL",
    "WEIGHT",
    "Appended",
    "ArrowStream",
    "Became",
    "Change",
    "ChangeSet",
    "Changed",
    "Images",
    "Output",
    "Replaced",
    "Row",
    "Shaped",
    "Slice",
    "Statement",
    "consolidate",
]

RID = "_rid"
"""Hidden column: the identity of a row within its asset (text)."""
PARENT = "_parent"
"""Hidden column: the identity of the input row that an output row belongs to (text, null where it has none)."""
ORDINAL = "_ordinal"
"""Hidden column: the place of an output row among the outputs of its parent, from 0."""
OFFSET = "_offset"
"""Hidden column: the offset of a change in its asset's log."""
WEIGHT = "_weight"
"""Hidden column of a change set: -1 for an old image, +1 for a new one."""
FROM = "_from"
"""Hidden column of a stored row: the offset of the change that made this image current."""
UNTIL = "_until"
"""Hidden column of a stored row: the offset of the change that ended this image; the largest bigint while current."""
HIDDEN = (RID, PARENT, ORDINAL, OFFSET, WEIGHT, FROM, UNTIL)
"""Names that no user column may have."""

Row = Mapping[str, Any]


class ArrowStream(Protocol):
    """Rows in bulk, as every Arrow library hands them over (the Arrow PyCapsule interface)."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream as a PyCapsule."""


@runtime_checkable
class Shaped(ArrowStream, Protocol):
    """Rows that know their columns with DuckDB's type names, hidden ones left out."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row identity going from an old image to a new one at one offset (insert: no old; delete: no new)."""

    offset: int
    rid: str
    old: Row | None
    new: Row | None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Consolidated changes, ordered by offset. `ChangeSet.of(log)` builds one from any run of a log."""

    changes: tuple[Change, ...] = ()

    @classmethod
    def of(cls, log: Iterable[Change]) -> ChangeSet:
        """Consolidate a run of a log."""
        return cls(tuple(consolidate(log)))

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def merge(self, later: ChangeSet) -> ChangeSet:
        """This change set followed by a later one, as one change set."""
        return ChangeSet.of((*self.changes, *later.changes))

    def inverse(self) -> ChangeSet:
        """The change set that undoes this one."""
        return ChangeSet(tuple(Change(c.offset, c.rid, c.new, c.old) for c in self.changes))

    def apply(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """The rows (by identity) after these changes; raises ValueError where an old image does not match."""
        after = dict(rows)
        for change in self.changes:
            if not _is_same(after.get(change.rid), change.old):
                raise ValueError(f"row {change.rid}: the old image of the change is not the row that is there")
            if change.new is None:
                after.pop(change.rid, None)
            else:
                after[change.rid] = change.new
        return after


def consolidate(log: Iterable[Change]) -> list[Change]:
    """Fold a run of a log into at most one change per row: first old image, last new image, last offset."""
    folded: dict[str, Change] = {}
    for change in log:
        earlier = folded.pop(change.rid, None)
        old = change.old if earlier is None else earlier.old
        folded[change.rid] = Change(change.offset, change.rid, old, change.new)
    return sorted((c for c in folded.values() if not _is_same(c.old, c.new)), key=lambda c: (c.offset, c.rid))


def _is_same(one: Row | None, other: Row | None) -> bool:
    """Whether two images are equal, as a store sees it: one NaN is like another."""
    if one == other:
        return True
    if one is None or other is None or one.keys() != other.keys():
        return False
    return all(one[name] == other[name] or (one[name] != one[name] and other[name] != other[name]) for name in one)


class Images:
    """Which images a slice shows."""

    STATE = "state"
    """The rows as they are at `to`."""
    ADDED = "added"
    """The new images of the change set (from, to]."""
    CHANGES = "changes"
    """Both images of the change set (from, to], with `WEIGHT`."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of an asset's log or state that a run reads. Positions are (from_, to].

    `released` names a gated job: of an asset that has rows in `JOB@gate`, only those whose partition value was released
    show, each value as it was at the position it was released at (rule 21); other assets show as they are at `to`.
    `excluding` leaves these row identities out: rows that are parked, or about to be.
    """

    asset: str
    from_: int = 0
    to: int = 0
    images: str = Images.STATE
    released: str = ""
    excluding: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """Rows that the store itself computes: SQL whose inputs are `"@input:<asset>"` relations.

    Each relation is a slice of an asset in the same store, or rows handed over.
    """

    sql: str
    relations: Mapping[str, Slice | ArrowStream]


@dataclass(frozen=True, slots=True)
class Appended:
    """New rows; nothing that exists changes. Row identity = `PARENT` and `ORDINAL`, which must be new.

    Where `head` is given it becomes the head (mirrors), and rows with an `OFFSET` column keep those offsets.
    Where `rows` has a `RID` column it names the rows itself. `expired` (mirrors): what was recorded at or below this
    offset has expired before it could be copied, and never comes.
    """

    rows: ArrowStream | Statement
    head: int | None = None
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Replaced:
    """For each of `parents` its rows become exactly those of `rows` with that `PARENT` (none: they are removed).

    The store makes the difference: equal rows stay as they are and get no change.
    `parents` is a sequence of identities, a slice whose row identities they are, or None: every row of the asset.
    Where `rows` has a `RID` column it names the rows itself (files: path, content hash and occurrence).
    """

    rows: ArrowStream | Statement
    parents: Sequence[str] | Slice | None
    head: int | None = None


@dataclass(frozen=True, slots=True)
class Became:
    """The asset's rows become exactly `rows`; the store makes the difference.

    Row identity = the values of `key`; without a key (None) the row's content and its occurrence.
    """

    rows: ArrowStream | Statement
    key: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A change set: the asset's rows change by exactly these images.

    Each line has `RID`, `WEIGHT` (-1 an old image, +1 a new one) and the asset's columns. Lines need not be consolidated:
    weights of equal lines of one row add up, and lines that cancel vanish. What remains must be, per row identity, at most
    one removal, which is the row's current image, and at most one addition. `is_checked` asks the store to make sure that
    the identity of an added row which is not also removed is free (keys that people declare); without it the engine
    vouches for it.
    """

    rows: ArrowStream | Statement
    is_checked: bool = False


Output = Appended | Replaced | Became | Changed
