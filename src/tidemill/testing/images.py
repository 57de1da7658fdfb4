"""Row images in plain Python: what an asset of `MemoryStore` is made of, and how its rows come from and go to Arrow.

Rules of this file:
  * an image never changes: ending one puts another in its place;
  * identity is exact: NULL, '' and 'null' are three different key values;
  * Arrow types are known for the usual column types and inferred for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, WEIGHT, ArrowStream, Images, Slice
from tidemill.core.errors import ContractViolation, InvariantError, StateCorrupt
from tidemill.core.model import Column
from tidemill.core.ports import Head, Table
from tidemill.core.retention import check_kept

__all__ = [
    "CURRENT",
    "Image",
    "Rows",
    "Stored",
    "append",
    "become",
    "change",
    "changes",
    "check",
    "released",
    "state",
    "table_of",
]

CURRENT = 2**63 - 1
_NAN = float("nan")

Values = tuple[Any, ...]
Wanted = Mapping[str, tuple[str | None, int | None, Values]]
Line = tuple[int, str, int, Values]
Weighed = Mapping[str, Sequence[tuple[Values, int]]]


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a row, current from one offset until another."""

    rid: str
    parent: str | None
    from_: int
    until: int
    values: Values


@dataclass(slots=True)
class Stored:
    """One asset: its shape, its head and its images, in the order they came. `current` maps a row to its image."""

    shape: Table
    generation: int = 1
    offset: int = 0
    floor: int = 0
    expired: int = 0
    kept: frozenset[int] = frozenset()
    is_marked: bool = False
    is_mirror: bool = False
    images: list[Image] = field(default_factory=list)
    current: dict[str, int] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """The asset's head, as the port shows it."""
        return Head(self.offset, self.generation, len(self.current), self.expired)

    def copy(self) -> Stored:
        """One that may be written without touching this one."""
        return replace(self, images=list(self.images), current=dict(self.current))

    def widened(self, table: Table) -> Stored:
        """One with more columns, null in every image there is."""
        place = {column.name: index for index, column in enumerate(self.shape.columns)}
        images = [
            replace(
                image,
                values=tuple(image.values[place[c.name]] if c.name in place else None for c in table.columns),
            )
            for image in self.images
        ]
        return replace(self, shape=table, images=images, current=dict(self.current))

    def open(self, rid: str, parent: str | None, offset: int, values: Values) -> None:
        """Begin an image."""
        self.current[rid] = len(self.images)
        self.images.append(Image(rid, parent, offset, CURRENT, values))

    def close(self, rid: str, offset: int) -> None:
        """End a row's current image."""
        place = self.current.pop(rid)
        self.images[place] = replace(self.images[place], until=offset)

    def trim(self, floor: int, keep: Iterable[int] = ()) -> int:
        """Forget images that ended at or below an offset, but for those of positions to keep; returns how many."""
        places = frozenset(at for at in keep if at < floor and (at >= self.floor or at in self.kept))
        kept = [image for image in self.images if image.until > floor or _was_current(image, places)]
        self.kept = places
        count = len(self.images) - len(kept)
        self.images = kept
        self.current = {image.rid: place for place, image in enumerate(kept) if image.until == CURRENT}
        self.floor = floor
        return count

    def expire(self, offset: int) -> int:
        """Forget rows that came at or below an offset; returns how many."""
        kept = [image for image in self.images if image.from_ > offset]
        count = len(self.images) - len(kept)
        self.images = kept
        self.current = {image.rid: place for place, image in enumerate(kept) if image.until == CURRENT}
        self.expired, self.floor = offset, max(self.floor, offset)
        return count


def _was_current(image: Image, places: Iterable[int]) -> bool:
    return any(image.from_ <= at < image.until for at in places)


class Rows:
    """The rows of an output as Python values."""

    def __init__(self, stream: ArrowStream, columns: tuple[Column, ...]) -> None:
        table = pa.table(stream)
        given = table.to_pydict()
        nothing = [None] * table.num_rows
        if table.num_rows and not all(column.name in given for column in columns):
            missing = [column.name for column in columns if column.name not in given]
            raise ContractViolation(f"the rows have no column {', '.join(missing)}")
        self._columns = columns
        self.values = list(zip(*(_plain(given.get(c.name, nothing), c) for c in columns), strict=True)) or [()] * len(
            nothing
        )
        self.rids = given.get(RID, nothing)
        self.parents = given.get(PARENT, self.rids)
        self.ordinals = given.get(ORDINAL, nothing)
        self.offsets = given.get(OFFSET)
        self.weights = given.get(WEIGHT, nothing)

    def rid(self, place: int) -> str | None:
        """The identity that a row brings: its own, or its parent's with its ordinal."""
        if self.rids[place] is not None:
            return str(self.rids[place])
        parent, ordinal = self.parents[place], self.ordinals[place]
        is_plain = parent is None or ordinal is None or (ordinal == 0 and "/" not in parent)
        return parent if is_plain else f"{parent}/{ordinal}"

    def identified_by_parent(self, parents: set[str] | None) -> Wanted:
        """Identity -> parent, given offset and values, of the rows of these parents (None: of all)."""
        places = [place for place in range(len(self.values)) if parents is None or self.parents[place] in parents]
        return self._distinct((str(self.rid(place)), place) for place in places)

    def identified(self, key: tuple[str, ...] | None) -> Wanted:
        """As above, by key, or without one by content and occurrence."""
        names = [column.name for column in self._columns]
        if key is not None:
            wanted = [names.index(name) for name in key]
            return self._distinct(
                (_identity(values[n] for n in wanted), place) for place, values in enumerate(self.values)
            )
        seen: dict[str, int] = {}
        found = []
        for place, values in enumerate(self.values):
            content = _identity(values)
            seen[content] = seen.get(content, 0) + 1
            found.append((f"{content}#{seen[content]}", place))
        return {rid: (None, None, self.values[place]) for rid, place in found}

    def consolidated(self) -> Weighed:
        """Identity -> the images of a change set that are left when equal lines are added up, each with its weight."""
        found: dict[str, list[tuple[Values, int]]] = {}
        for rid, values, weight in zip(self.rids, self.values, self.weights, strict=True):
            images = found.setdefault(rid, [])
            before = sum(earlier for image, earlier in images if image == values)
            images[:] = [(image, earlier) for image, earlier in images if image != values]
            if before + weight:
                images.append((values, before + weight))
        return {rid: images for rid, images in found.items() if images}

    def _distinct(self, pairs: Iterable[tuple[str, int]]) -> Wanted:
        found: dict[str, tuple[str | None, int | None, Values]] = {}
        twice: dict[str, None] = {}
        for rid, place in pairs:
            if rid in found:
                twice[rid] = None
            found[rid] = (self.parents[place], self.offsets[place] if self.offsets else None, self.values[place])
        if twice:
            raise ContractViolation(f"the key is not unique: {', '.join(list(twice)[:5])}")
        return found


def append(stored: Stored, rows: Rows, base: int, head: int | None) -> int:
    """Add rows as they come; returns how many."""
    for place, values in enumerate(rows.values):
        offset = rows.offsets[place] if rows.offsets and head is not None else base + 1 + place
        stored.open(rows.rid(place) or str(offset), rows.parents[place], offset, values)
    return len(rows.values)


def become(
    stored: Stored,
    wanted: Wanted,
    old: set[str],
    base: int,
    head: int | None,
) -> int:
    """Make the difference between the rows wanted and those there now."""
    count = 0
    for rid in sorted(wanted.keys() | old):
        parent, given, values = wanted.get(rid, (None, None, ()))
        is_there = rid in old
        if is_there and rid in wanted and stored.images[stored.current[rid]].values == values:
            continue
        count += 1
        offset = base + count if head is None else given if given is not None else head
        if is_there:
            stored.close(rid, offset)
        if rid in wanted:
            stored.open(rid, parent, offset, values)
    return count


def change(stored: Stored, weighed: Weighed, base: int, *, is_checked: bool) -> int:
    """Make exactly these changes; returns how many rows they are of."""
    removed = {rid: -sum(weight for _, weight in images if weight < 0) for rid, images in weighed.items()}
    added = {rid: sum(weight for _, weight in images if weight > 0) for rid, images in weighed.items()}
    taken = [rid for rid in weighed if is_checked and not removed[rid] and rid in stored.current]
    refused = sorted([*taken, *(rid for rid in weighed if added[rid] > 1)])
    if refused:
        raise ContractViolation(f"the key is not unique: {', '.join(refused[:5])}")
    if any(count > (rid in stored.current) for rid, count in removed.items()):
        raise StateCorrupt(f"{stored.shape.asset}: the change set removes a row that is not there")
    for offset, rid in enumerate(sorted(weighed), base + 1):
        if removed[rid]:
            stored.close(rid, offset)
        for values in [values for values, weight in weighed[rid] if weight > 0]:
            stored.open(rid, None, offset, values)
    return len(weighed)


def check(part: Slice, stored: Stored) -> None:
    """Raise where a slice asks for what the log does not have, or no longer has."""
    if part.to > stored.offset:
        raise StateCorrupt(f"{part.asset}: offset {part.to} is asked for, but the log ends at {stored.offset}")
    check_kept(part, stored.expired)
    starts_below = part.images != Images.STATE and 0 < part.from_ < stored.floor and part.from_ not in stored.kept
    if starts_below or (0 < part.to < stored.floor and part.to not in stored.kept):
        raise StateCorrupt(f"{part.asset}: ({part.from_}, {part.to}] is trimmed up to {stored.floor}")
    if part.released and part.images != Images.STATE:
        raise InvariantError(f"slice of {part.asset}: `released` is about the state, not about changes")


def released(gate: Stored, asset: str) -> list[tuple[str, str, int]]:
    """What a gate has released of an asset: partition, value, position."""
    names = [column.name for column in gate.shape.columns]
    rows = [dict(zip(names, gate.images[place].values, strict=True)) for place in gate.current.values()]
    return [(row["partition"], row["value"], row["position"]) for row in rows if row["input"] == asset]


def state(part: Slice, stored: Stored, gated: Sequence[tuple[str, str, int]]) -> list[Line]:
    """The rows as they are at `to`, or of each released partition value (partition, value, position)."""
    if not gated:
        return [_line(image) for image in stored.images if image.from_ <= part.to < image.until]
    names = [column.name for column in stored.shape.columns]
    return [
        _line(image)
        for partition, value, position in gated
        for place in [names.index(partition)]
        for image in stored.images
        if image.from_ <= position < image.until and _text(image.values[place]) == value
    ]


def _line(image: Image) -> Line:
    return (image.from_, image.rid, 1, image.values)


def changes(part: Slice, stored: Stored) -> list[Line]:
    """The consolidated change set: offset, row, weight, values."""
    a, b = part.from_, part.to
    old: dict[str, Values] = {}
    new: dict[str, Values] = {}
    last: dict[str, int] = {}
    for image in stored.images:
        came, went = a < image.from_ <= b, a < image.until <= b
        if not came and not went:
            continue
        if went and image.from_ <= a:
            old[image.rid] = image.values
        if came and image.until > b:
            new[image.rid] = image.values
        last[image.rid] = max(last.get(image.rid, 0), image.until if went else image.from_)
    changed = [rid for rid in last if old.get(rid) != new.get(rid)]
    added = [(last[rid], rid, 1, new[rid]) for rid in changed if rid in new]
    if part.images == Images.ADDED:
        return added
    return added + [(last[rid], rid, -1, old[rid]) for rid in changed if rid in old]


def _by_offset(line: Line) -> tuple[int, str, int]:
    return line[:3]


def table_of(columns: tuple[Column, ...], lines: Iterable[Line], has_weight: bool) -> ArrowStream:
    """Lines as Arrow, ordered by offset then row identity."""
    lines = sorted(lines, key=_by_offset)
    schema = _schema(columns, has_weight)
    hidden = [[line[1] for line in lines], [line[0] for line in lines]]
    if has_weight:
        hidden.append([line[2] for line in lines])
    values = zip(*(line[3] for line in lines), strict=True) if lines else [()] * len(columns)
    arrays = [pa.array(list(column), kind) for column, kind in zip([*hidden, *values], schema, strict=True)]
    names = [RID, OFFSET, *([WEIGHT] if has_weight else []), *(column.name for column in columns)]
    stream: ArrowStream = pa.Table.from_arrays(arrays, names=names)
    return stream


@cache
def _schema(columns: tuple[Column, ...], has_weight: bool) -> list[Any]:
    hidden = [pa.string(), pa.int64(), *([pa.int8()] if has_weight else [])]
    return [*hidden, *(_arrow_type(column.type) for column in columns)]


_TYPES = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "hugeint": pa.decimal128(38, 0),
    "real": pa.float32(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "json": pa.string(),
    "uuid": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
}


def _arrow_type(name: str) -> Any:
    """The Arrow type of one of DuckDB's, or None: let Arrow infer it."""
    if name.endswith("[]"):
        inner = _arrow_type(name[:-2])
        return pa.list_(inner) if inner is not None else None
    if name.startswith("decimal("):
        width, _, scale = name[8:-1].partition(",")
        return pa.decimal128(int(width), int(scale or 0))
    return _TYPES.get(name)


def _plain(values: Sequence[Any], column: Column) -> Sequence[Any]:
    """Values that compare as a database compares them: NaN is one value."""
    if column.type not in ("double", "float", "real"):
        return values
    return [_NAN if value is not None and value != value else value for value in values]  # noqa: PLR0124


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _identity(values: Iterable[Any]) -> str:
    """Values as text, exactly: NULL, '' and 'null' differ."""
    return json.dumps([_text(value) for value in values], ensure_ascii=False)
