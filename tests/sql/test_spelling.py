"""Of values that are equal and have several texts, one stands for all, whatever came first."""

from __future__ import annotations

import duckdb
import pytest

from tidemill.sql import canonical, parse

COLUMNS = {
    "n": "INTEGER",
    "f": "DOUBLE",
    "r": "FLOAT",
    "d": "DECIMAL(10,2)",
    "i": "INTERVAL",
    "g": "VARCHAR",
    "l": "DOUBLE[]",
    "s": "STRUCT(x DOUBLE, y INTERVAL)",
    "m": "MAP(VARCHAR, FLOAT)",
    "v": "DOUBLE[1]",
}
ROWS = """(1, '0.0', '-0.0', 0, interval 1 month, 'a', '[0.0, 1]', '{x: 0.0, y: 30 days}', '{k=-0.0}', '[0.0]'),
(2, '-0.0', '0.0', -0.0, interval 30 day, 'a', '[-0.0, 1]', '{x: -0.0, y: 1 month}', '{k=0.0}', '[-0.0]'),
(3, 'nan', '-nan', 1, interval 720 hour, 'b', '[nan, null]', '{x: nan, y: null}', '{k=nan}', '[nan]'),
(4, '-nan', 'nan', 1, interval '29 days 24 hours', 'b', '[-nan, null]', '{x: -nan, y: null}', '{k=-nan}', '[-nan]'),
(5, '2', '2', 2, null, null, null, null, null, null)"""
ORDERS = ("n", "n desc", "n % 2, n", "n % 2 desc, n desc", "n = 2, n")


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
        "select f from (select n, max(f) over (partition by g) as f from a)",
        "select median(f) as m, quantile_disc(f, 0.4) as q, mad(f) as d, max(f, 2) as h from a where n < 4",
        "select percentile_disc(0.3) within group (order by f) as p, histogram(f) as h, mode(f order by n) as m from a",
        "select list(distinct f order by f) as l, sum(distinct r) as s, median(i) as m from a",
        "select l, v, count(*) as n from a group by all",
        "select distinct s, m from a",
        "select min(l) as lo, max(s) as hi, list(distinct m order by m) as all_of from a",
        "select l from a union select l from a",
        "select v from a intersect select v from a",
        "select sum(f) as s, stddev(f) as d, avg(r) as a from a where f = 0",
    ],
)
def test_the_order_of_the_rows_does_not_show_in_equal_values(query: str) -> None:
    text = canonical(parse(query, "a.sql"), {"a": COLUMNS})
    found = {_texts(text, order) for order in ORDERS}
    assert len(found) == 1
    assert "-0.0" not in str(found)
    assert "-nan" not in str(found)
    assert canonical(parse(text, "a.sql"), {"a": COLUMNS}) == text


@pytest.mark.parametrize(
    "query",
    [
        "select list(f order by f) as l, list(i order by i) as i, string_agg(f::varchar, ',' order by f) as t from a",
        "select arg_max(f, 1) as a, arg_min(i, 1) as b, arg_max(f, 1, 2) as c, any_value(f order by r) as d from a",
        "select arg_max(l, 1) as a, list(s order by s) as b, list({'a': f, 'b': i} order by g) as c from a",
        "select list_sort(list(f)) as l, list(f order by f)[1] as e from a",
        "select sum(f) as s, avg(f) as a, stddev(r) as d, corr(f, r) as c, sum(f / n) as q from a where g = 'b'",
        "select f, row_number() over (order by f) as n, lag(i) over (order by g) as l from a",
        "select g, list(f order by f) over (partition by g) as l, first_value(f) over (partition by g) as v from a",
        "select f, sum(f) over (order by g rows 1 preceding) as s, sum(f) over (partition by g) as t from a",
        "with c as (select f * 1 as x, s from a) select x, row_number() over () as k from c",
        "select u.x, row_number() over () as k from (select f from a) u(x)",
        "select f from a order by f limit 1",
        "select -f as f from a order by f desc limit 1",
        "select s, g from a order by g limit 1",
        "select f from (select f from a union all select r from a) order by f limit 3",
        "select f, g from a union all select r, g from a order by g limit 3",
        "select distinct on (g) g, f, i, l from a order by g",
        "select (select b.f from a b where b.g = a.g order by b.f limit 1) as f from a",
        "select array(select b.f from a b where b.g = a.g order by b.f) as l from a",
    ],
)
def test_where_equal_values_all_stay_their_texts_have_an_order(query: str) -> None:
    text = canonical(parse(query, "a.sql"), {"a": COLUMNS})
    assert len({_texts(text, order) for order in ORDERS}) == 1
    assert len({_texts(query, order) for order in ORDERS}) > 1, "without the canonical form there are several outcomes"
    assert canonical(parse(text, "a.sql"), {"a": COLUMNS}) == text


def test_the_types_stay_what_they_are() -> None:
    names = [name for name in COLUMNS if name != "n"]
    text = canonical(parse(f"select {', '.join(names)} from a group by all", "a.sql"), {"a": COLUMNS})
    with _table("n") as connection:
        kinds = dict(zip(names, map(str, connection.sql(text).types), strict=True))
    assert kinds == {name: str(duckdb.sqltype(COLUMNS[name])) for name in names}


def _table(order: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"create table a ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    connection.execute(f"insert into a select * from (values {ROWS}) v({', '.join(COLUMNS)}) order by {order}")
    return connection


def _texts(query: str, order: str) -> str:
    """The rows as texts, which show a sign that no comparison shows."""
    with _table(order) as connection:
        return str(sorted(connection.execute(f"select to_json(q)::varchar, q::varchar from ({query}) q").fetchall()))
