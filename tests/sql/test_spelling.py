"""Of values that are equal and have several texts, one stands for all, whatever came first."""

from __future__ import annotations

import duckdb
import pytest

from tidemill.sql import canonical, parse

COLUMNS = {"n": "INTEGER", "f": "DOUBLE", "r": "FLOAT", "d": "DECIMAL(10,2)", "i": "INTERVAL", "g": "VARCHAR"}
ROWS = """(1, '0.0', '-0.0', 0, interval 1 month, 'a'), (2, '-0.0', '0.0', -0.0, interval 30 day, 'a'),
(3, 'nan', '-nan', 1, interval 720 hour, 'b'), (4, '-nan', 'nan', 1, interval '29 days 24 hours', 'b'),
(5, '2', '2', 2, null, null)"""


@pytest.mark.parametrize(
    "query",
    [
        "select f, count(*) as n from a group by f",
        "select r as x, sum(n) as s from a group by x having r = 0 or r > 1",
        "select round(f) as k, round(f) || '!' as t from a group by 1",
        "select i, count(*) as n from a group by i",
        "select distinct f, g from a",
        "select f from a union select r from a",
        "select f from a intersect select r from a",
        "select f from a except select 2.0",
        "select g, min(f) as lo, max(f) as hi, min(r) as low from a group by g",
    ],
)
def test_the_order_of_the_rows_does_not_show_in_equal_values(query: str) -> None:
    text = canonical(parse(query, "a.sql"), {"a": COLUMNS})
    found = {_texts(text, order) for order in ("n", "n desc", "n % 2, n", "n % 2 desc, n desc")}
    assert len(found) == 1
    assert "-0.0" not in str(found)
    assert "-nan" not in str(found)
    assert canonical(parse(text, "a.sql"), {"a": COLUMNS}) == text


def test_the_types_stay_what_they_are() -> None:
    text = canonical(parse("select f, r, d, i from a group by all", "a.sql"), {"a": COLUMNS})
    with _table("n") as connection:
        assert [str(kind) for kind in connection.sql(text).types] == ["DOUBLE", "FLOAT", "DECIMAL(10,2)", "INTERVAL"]


def _table(order: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"create table a ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    connection.execute(f"insert into a select * from (values {ROWS}) v({', '.join(COLUMNS)}) order by {order}")
    return connection


def _texts(query: str, order: str) -> str:
    """The rows as texts, which show a sign that no comparison shows."""
    with _table(order) as connection:
        return str(sorted(connection.execute(f"select to_json(q)::varchar, q::varchar from ({query}) q").fetchall()))
