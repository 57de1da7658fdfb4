"""Base assets of the incremental tests: what they look like, and random rows that come, change and go.

Rules of this file:
  * every random choice comes from the `Random` handed in, so that a seed says everything;
  * rows collide on purpose: few values, NULLs, contents that are there twice, keys that come back after they went;
  * a change set holds, per row, its last image or that it is gone; what it was before is the store's to know.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from tidemill.core.change import RID
from tidemill.core.model import Asset, AssetKind, Column, Semantics

TABLE, FILES, TOPIC, UPSERT = "table", "files", "topic", "upsert"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Base:
    """A base asset: its columns with DuckDB's types, its key, and what kind of asset holds it.

    `table` has a key; `files` has none (rows are told apart by a hidden id alone); `topic` only ever gets rows;
    `upsert` is a topic with a key.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...] = ()
    kind: str = TABLE

    def asset(self) -> Asset:
        """The asset as the product knows it."""
        columns = tuple(Column(name, kind.lower()) for name, kind in self.columns.items())
        if self.kind == TABLE:
            return Asset(self.name, AssetKind.TABLE, columns, self.key)
        if self.kind == FILES:
            return Asset(self.name, AssetKind.FILES, columns, path=f"landing/{self.name}.csv", format="csv")
        semantics = Semantics.UPSERT if self.kind == UPSERT else Semantics.APPEND
        return Asset(self.name, AssetKind.TOPIC, columns, self.key, semantics=semantics)

    def schema(self) -> pa.Schema:
        """The Arrow schema of its rows with their identity."""
        kinds = [part.type for part in _schema(tuple(self.columns.values()))]
        named = [pa.field(name, kind) for name, kind in zip(self.columns, kinds, strict=True)]
        return pa.schema([pa.field(RID, pa.string()), *named])


@cache
def _schema(types: tuple[str, ...]) -> pa.Schema:
    nulls = ", ".join(f"NULL::{kind} AS c{place}" for place, kind in enumerate(types))
    with duckdb.connect() as connection:
        return connection.sql(f"SELECT {nulls}").to_arrow_table().schema


@dataclass(frozen=True)
class Edit:
    """What one change set does to one base asset: rows that are new or become other ones, and identities that go."""

    rows: pa.Table
    gone: tuple[str, ...] = ()

    @property
    def changed(self) -> list[str]:
        """Every row identity it touches."""
        return [*self.rows.column(RID).to_pylist(), *self.gone]


ChangeSet = Mapping[str, Edit]


def edit_of(base: Base, images: Mapping[str, Row | None]) -> Edit:
    """The edit that makes rows (by identity) these; None is a row that goes."""
    names = [RID, *base.columns]
    rows = [dict(zip(names, (rid, *row), strict=True)) for rid, row in images.items() if row is not None]
    gone = tuple(rid for rid, row in images.items() if row is None)
    return Edit(pa.Table.from_pylist(rows, schema=base.schema()), gone)


class Source(Protocol):
    """Where a history's change sets come from."""

    bases: Mapping[str, Base]

    def load(self, names: Iterable[str]) -> ChangeSet:
        """The first rows."""

    def change_set(self, names: Sequence[str]) -> ChangeSet:
        """Further changes of some of these base assets."""


MakeRow = Callable[[random.Random, str, int], Row]
"""A random row of a table; the integer is a number to make a key of."""


@dataclass
class RandomRows:
    """Random histories over base assets whose rows `make` invents; `sizes` is about how many rows each has."""

    bases: Mapping[str, Base]
    make: MakeRow
    sizes: Mapping[str, int]
    random: random.Random
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def load(self, names: Iterable[str]) -> ChangeSet:
        """The first rows of these base assets."""
        images = {}
        for name in names:
            images[name] = dict(self._new(name) for _ in range(self.sizes[name]))
            self.rows.setdefault(name, {}).update(images[name])
        return {name: edit_of(self.bases[name], made) for name, made in images.items()}

    def change_set(self, names: Sequence[str]) -> ChangeSet:
        """Changes of 1 to 5 of these base assets, 1 to 40 rows each."""
        count = min(len(names), self.random.choice([1, 1, 2, 2, 3, 4, 5]))
        changed = {}
        for name in sorted(self.random.sample(list(names), count)):
            images = self._mutate(name, self.random.choice([1, 1, 2, 3, 10, 40]))
            changed[name] = edit_of(self.bases[name], images)
        return changed

    def _mutate(self, name: str, count: int) -> dict[str, Row | None]:
        images: dict[str, Row | None] = {}
        there = self.rows.setdefault(name, {})
        for _ in range(count):
            rid, row = self._one(name, there)
            images[rid] = row
            if row is None:
                there.pop(rid, None)
            else:
                there[rid] = row
        return images

    def _one(self, name: str, there: dict[str, Row]) -> tuple[str, Row | None]:
        """One change: fewer rows go while there are few, fewer come while there are many."""
        if self.bases[name].kind == TOPIC or not there:
            return self._new(name)
        is_small, is_large = len(there) < 0.8 * self.sizes[name], len(there) > 1.2 * self.sizes[name]
        removes, updates, inserts = (0 if is_small else 3), 4, (0 if is_large else 4)
        what = self.random.choices(["remove", "update", "insert"], [removes, updates, inserts])[0]
        if what == "insert":
            return self._new(name)
        rid = self.random.choice(sorted(there))
        return (rid, None) if what == "remove" else (rid, self._other(name, there[rid]))

    def _new(self, name: str) -> tuple[str, Row]:
        """A row under a new identity, or under one that was there before; its content may be another row's."""
        base, there = self.bases[name], self.rows.get(name, {})
        last = self.numbers.get(name, 0)
        is_reused = base.key and last and self.random.random() < 0.2
        number = self.random.randint(1, last) if is_reused else last + 1
        self.numbers[name] = max(last, number)
        row = self.make(self.random, name, number)
        if there and self.random.random() < 0.2:
            row = self._with_key_of(base, self.random.choice(list(there.values())), row)
        return self._identity(base, row, number), row

    def _other(self, name: str, row: Row) -> Row:
        """An update: some columns get other values, some NULL, the key stays."""
        base = self.bases[name]
        fresh = self.make(self.random, name, 1)
        mixed = tuple(
            new if self.random.random() < 0.6 else old  # most columns of a row rarely change all at once
            for old, new in zip(row, fresh, strict=True)
        )
        return self._with_key_of(base, mixed, row)

    def _with_key_of(self, base: Base, content: Row, row: Row) -> Row:
        return tuple(
            old if name in base.key else new for name, new, old in zip(base.columns, content, row, strict=True)
        )

    def _identity(self, base: Base, row: Row, number: int) -> str:
        if not base.key:
            return f"r{number}"
        values = dict(zip(base.columns, row, strict=True))
        return "|".join(str(values[name]) for name in base.key)
