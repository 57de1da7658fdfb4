"""The tables that the SQL tests run on, and how their rows are compared.

Rules of this file: every table has duplicates, NULLs and ties, and enough rows that a wrong answer shows; order of rows
and number of threads are chosen by the test, never by luck.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from tidemill.sql import SqlPlan, bind, quoted

FIXTURES = Path(__file__).parent / "fixtures"

SCHEMAS: dict[str, dict[str, str] | None] = {
    "orders": {
        "id": "INTEGER",
        "customer": "VARCHAR",
        "region": "VARCHAR",
        "amount": "DOUBLE",
        "price": "DECIMAL(10,2)",
        "qty": "INTEGER",
        "placed_at": "TIMESTAMP",
        "items": "VARCHAR[]",
        "address": "STRUCT(city VARCHAR, zip INTEGER)",
        "Gift Note": "VARCHAR",
        "doc": "JSON",
    },
    "customers": {"id": "INTEGER", "customer": "VARCHAR", "tier": "VARCHAR", "since": "DATE", "credit": "DOUBLE"},
    "lines": {"order_id": "INTEGER", "product": "VARCHAR", "qty": "INTEGER"},
    "Prices": {"product": "VARCHAR", "valid_from": "TIMESTAMP", "price": "DECIMAL(10,2)"},
    "Weird Name": {"Some Column": "INTEGER", "select": "VARCHAR"},
    "odd_numbers": {"kind": "VARCHAR", "amount": "DOUBLE"},
    "undeclared": None,
}


def pairs(folder: str) -> Iterator[tuple[str, str, str]]:
    """(where, input, expected) of every pair of statements in a folder of fixtures."""
    for path in sorted((FIXTURES / folder).glob("*.sql")):
        found = statements(path)
        assert len(found) % 2 == 0, f"{path.name} has an input without an expected part"
        for number in range(0, len(found), 2):
            yield f"{path.stem}-{number // 2}", found[number], found[number + 1]


def queries(folder: str) -> Iterator[tuple[str, str]]:
    """(where, query) of every statement in a folder of fixtures."""
    for path in sorted((FIXTURES / folder).glob("*.sql")):
        for number, statement in enumerate(statements(path)):
            yield f"{path.stem}-{number}", statement


def statements(path: Path) -> list[str]:
    return [part.strip("\n") for part in re.split(r";[ ]*(?:\n|\Z)", path.read_text()) if part.strip()]


def database(
    seed: int = 7, rows: int = 300, shuffled: int | None = None, threads: int = 1
) -> duckdb.DuckDBPyConnection:
    """The tables with the rows of `seed`, stored in an order of their own when `shuffled` is given."""
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("set lambda_syntax = 'ENABLE_SINGLE_ARROW'")
    contents = _contents(random.Random(seed), rows)
    for name, columns in SCHEMAS.items():
        if columns is None:
            continue
        body = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
        connection.execute(f"create table {quoted(name)} ({body})")
        lines = contents[name]
        if shuffled is not None:
            lines = random.Random(shuffled).sample(lines, len(lines))
        _fill(connection, name, columns, lines)
    return connection


def _fill(
    connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, str], lines: list[tuple[Any, ...]]
) -> None:
    holes = ", ".join(f"v[{number}]::{kind}" for number, kind in enumerate(columns.values(), start=1))
    packed = [[None if value is None else str(value) for value in line] for line in lines]
    connection.execute(
        f"insert into {quoted(name)} select {holes} from (select unnest($1::varchar[][]) as v)", [packed]
    )


def _contents(random_: random.Random, rows: int) -> dict[str, list[tuple[Any, ...]]]:
    some = random_.choice
    orders = [
        (
            number,
            some(["ann", "bob", "cy", "dee", None]),
            some(["north", "south", "east", None]),
            some([None, round(random_.uniform(-1e6, 1e6), 4), random_.uniform(0, 1e9), 0.1]),
            some([None, f"{random_.randint(0, 99999) / 100:.2f}"]),
            random_.randint(1, 6),
            f"2026-01-{random_.randint(1, 9):02d} {random_.randint(0, 23):02d}:15:00",
            some([None, "[]", "[a]", "[a, b]", "[b, a, b]", "[c, NULL]"]),
            some([None, "{'city': york, 'zip': 5}", "{'city': NULL, 'zip': 7}"]),
            some([None, "hello", "it's"]),
            some([None, '{"a": 1, "b": [2, 3]}', '{"a": 4}']),
        )
        for number in range(rows)
    ]
    customers = [
        (number, some(["ann", "bob", "cy", "eve", None]), some(["gold", "none"]), "2025-05-05", random_.uniform(0, 1e5))
        for number in range(9)
    ]
    lines = [(random_.randint(0, rows), some(["p1", "p2"]), random_.randint(1, 3)) for _ in range(rows)]
    prices = [("p1", f"2026-01-{day:02d} 00:00:00", f"{day}.50") for day in range(1, 9)]
    weird = [(number % 4, some(["a", None])) for number in range(12)]
    odd = [(some(["a", "b"]), random_.uniform(-1e12, 1e12)) for _ in range(rows)]
    odd += [
        ("null", None),
        ("inf", "inf"),
        ("inf", 1.5),
        ("both", "inf"),
        ("both", "-inf"),
        ("nan", "nan"),
        ("nan", 2.5),
    ]
    odd += [("zero", -0.0), ("zero", 0.0), ("minus", -0.0)]
    return {
        "orders": orders,
        "customers": customers,
        "lines": lines,
        "Prices": prices,
        "Weird Name": weird,
        "odd_numbers": odd,
    }


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    result = connection.execute(sql)
    return [column[0] for column in result.description], result.fetchall()


def bound(plan: SqlPlan) -> str:
    """A recomputing statement over the tables themselves."""
    return bind(plan.statement, {asset: quoted(asset) for asset in plan.inputs})


def bag(rows: Iterable[tuple[Any, ...]], digits: int | None = None) -> Counter[str]:
    """Rows as a bag; floats to so many significant digits, or to the bit."""
    return Counter(repr(tuple(_plain(value, digits) for value in row)) for row in rows)


def _plain(value: Any, digits: int | None) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return value.hex() if digits is None else float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {str(_plain(key, digits)): _plain(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, digits) for inner in value]
    return value
