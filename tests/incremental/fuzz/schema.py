"""Random schemas and their rows: a few small tables whose values collide.

A column's *kind* is what the grammar knows of its type: int, dec, text, ts, date, bool, float or list.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.incremental.tables import FILES, TABLE, TOPIC, UPSERT, Base, RandomRows, Row

TYPES: Mapping[str, tuple[str, ...]] = {
    "int": ("INTEGER", "INTEGER", "BIGINT", "SMALLINT"),
    "dec": ("DECIMAL(10,2)", "DECIMAL(6,1)"),
    "text": ("VARCHAR",),
    "ts": ("TIMESTAMP",),
    "date": ("DATE",),
    "bool": ("BOOLEAN",),
    "float": ("DOUBLE",),
    "list": ("VARCHAR[]",),
}
_COMMON = ("int", "int", "int", "dec", "dec", "text", "text", "ts", "date", "bool", "float", "list")
_START = datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose: timestamps are naive and mean UTC


def kind_of(type_name: str) -> str:
    """The kind of a column of this type."""
    return next(kind for kind, names in TYPES.items() if type_name in names)


def random_bases(choose: random.Random) -> dict[str, Base]:
    """Two to four tables. Each has a column `k` that they can be joined by."""
    bases = {}
    for number in range(choose.randint(2, 4)):
        name = f"t{number + 1}"
        kind = choose.choice([TABLE, TABLE, TABLE, TABLE, FILES, TOPIC, UPSERT])
        columns = {"k": "INTEGER"}
        for place in range(choose.randint(2, 5)):
            of = choose.choice(_COMMON)
            columns[f"{of[0]}{place}_{number + 1}"] = choose.choice(TYPES[of])
        key: tuple[str, ...] = ()
        if kind in (TABLE, UPSERT):
            columns = {"id": "INTEGER", **columns}
            key = ("id", "k") if kind == TABLE and choose.random() < 0.3 else ("id",)
        bases[name] = Base(name, columns, key, kind)
    return bases


def rows_of(bases: Mapping[str, Base], choose: random.Random) -> RandomRows:
    """Random histories over these tables."""
    sizes = {name: choose.choice([6, 20, 30, 50]) for name in bases}
    return RandomRows(bases, lambda random_, name, number: _row(bases[name], random_, number), sizes, choose)


def _row(base: Base, choose: random.Random, number: int) -> Row:
    return tuple(_value(base, name, kind_of(kind), choose, number) for name, kind in base.columns.items())


def _value(base: Base, name: str, kind: str, choose: random.Random, number: int) -> Any:
    if name == "id":
        return number
    if name in base.key:
        return choose.randrange(3)
    return None if choose.random() < 0.12 else _VALUES[kind](choose)


_VALUES: Mapping[str, Callable[[random.Random], Any]] = {
    "int": lambda choose: choose.randrange(-2, 10),
    "dec": lambda choose: Decimal(choose.randrange(-20, 200)) / 10,
    "text": lambda choose: choose.choice(["a", "b", "ab", "", "B", "x'y"]),
    "ts": lambda choose: _START + timedelta(minutes=10 * choose.randrange(288)),
    "date": lambda choose: date(2026, 1, 1) + timedelta(days=choose.randrange(5)),
    "bool": lambda choose: choose.random() < 0.5,
    "float": lambda choose: choose.choice([0.1, 0.25, 1e6, choose.random() * 10 ** choose.randint(-3, 3)]),
    "list": lambda choose: [choose.choice(["p", "q", None]) for _ in range(choose.randrange(4))],
}
