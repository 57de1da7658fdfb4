"""The row-wise delta rule: a query that is called row-wise distributes over any split of its input."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sql.data import SCHEMAS, bag, database, queries, run
from tidemill.sql import SqlPlan, bind, plan, quoted

CASES = list(queries("rowwise"))
ROWS = 300


@pytest.fixture(scope="module")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with database(rows=ROWS) as connection:
        connection.execute("create table rows as select *, 'r' || id as _rid from orders")
        yield connection


def part(plan: SqlPlan, tables: duckdb.DuckDBPyConnection, rows: list[int], shuffled: int = 0) -> list[tuple[Any, ...]]:
    """What the statement gives over some rows of the input, read in an order of its own.

    The last two values are parent and ordinal; a statement without unnest gives no ordinal, for it would always be 0.
    """
    ids = ", ".join(map(str, rows)) or "-1"
    relation = f"(select * from rows where id in ({ids}) order by hash(id + {shuffled}))"
    names, found = run(tables, bind(plan.statement, {plan.inputs[0]: relation}))
    return found if names[-1] == "_ordinal" else [(*row, 0) for row in found]


def split(seed: int) -> list[list[int]]:
    chooser = random.Random(seed)
    parts: dict[int, list[int]] = defaultdict(list)
    for number in range(ROWS):
        parts[chooser.randint(0, chooser.choice([1, 3, 40]))].append(number)
    return list(parts.values())


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_the_parts_add_up_to_the_whole(query: str, tables: duckdb.DuckDBPyConnection) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    assert (made.kind, made.reason) == ("rowwise", "")
    whole = bag(run(tables, query)[1])
    assert sum(whole.values()) > 20
    for seed in range(4):
        parts = [row for rows in split(seed) for row in part(made, tables, rows, seed)]
        assert bag(row[:-2] for row in parts) == whole, made.statement


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_an_output_row_has_the_same_identity_in_every_part(query: str, tables: duckdb.DuckDBPyConnection) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    names = run(tables, bind(made.statement, {made.inputs[0]: "rows"}))[0]
    hidden = ["_parent", "_ordinal"] if "unnest" in query.lower() else ["_parent"]
    assert made.columns is not None
    assert names == [*made.columns, *hidden]
    whole = part(made, tables, list(range(ROWS)))
    assert bag(whole) == bag(row for rows in split(1) for row in part(made, tables, rows, 5))
    places = Counter((row[-2], row[-1]) for row in whole)
    assert max(places.values()) == 1, "an identity is given once"
    counts = Counter(row[-2] for row in whole)
    assert all(row[-1] < counts[row[-2]] for row in whole), "ordinals count from 0 without a gap"


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_split_of_any_row_wise_query_adds_up(data: st.DataObject) -> None:
    query = data.draw(st.sampled_from([query for _, query in CASES]))
    with database(seed=data.draw(st.integers(0, 99)), rows=30) as connection:
        connection.execute("create table rows as select *, 'r' || id as _rid from orders")
        made = plan(query, SCHEMAS, "a.sql")
        cut = sorted(data.draw(st.sets(st.integers(0, 29), max_size=4)) | {0, 30})
        parts = [part(made, connection, list(range(low, high))) for low, high in pairwise(cut)]
        assert bag(row[:-2] for rows in parts for row in rows) == bag(run(connection, query)[1])


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select count(*) as n from orders", "aggregates"),
        ("select product(qty) as p from orders", "aggregates"),
        ("select region from orders group by region", "groups"),
        ("select distinct region from orders", "duplicates"),
        ("select id, row_number() over (order by id) as r from orders", "window"),
        ("select id from orders qualify rank() over (order by id) = 1", "window function"),
        ("select id from orders order by id limit 3", "LIMIT"),
        ("select id from orders order by id offset 3", "OFFSET"),
        ("select id from orders union all select id from orders", "more than one input"),
        ("select id from orders union all select 1", "UNION"),
        ("select a.id from orders a join orders b using (id)", "more than one input"),
        ("(select id from orders order by id) order by id limit 3", "LIMIT"),
        ("select id from orders where qty > (select 2)", "subquery"),
        ("select id from orders where qty in (select 1)", "subquery"),
        ("select id from orders where exists (select 1)", "subquery"),
        ("select id, (select max(x) from unnest([qty]) t(x)) as m from orders", ""),
        ("select id, i from orders, range(3) r(i)", "joins"),
        ("select id, v from orders cross join (values (1), (2)) t(v)", "joins"),
        ("select id, i from orders full join unnest(items) as t(i) on true", ""),
        ("select unnest(address) from orders", ""),
        ("select unnest(items, recursive := true) as i from orders", "options"),
        ("select columns('i.*') from orders", "pattern"),
        ("select * from undeclared", "not known"),
        ("select 1 as one", "no input"),
        ("with o as (select * from orders) select 1 as one", "input"),
        ("with recursive t(i) as (select id from orders union all select i from t where false) select i from t", ""),
        ("from orders pivot (sum(qty) for region in ('north', 'south'))", ""),
    ],
)
def test_what_looks_at_other_rows_is_recomputed_and_says_why(query: str, why: str) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    assert made.kind == "recompute"
    assert why in made.reason
    assert made.reason
    assert "_rid" not in made.statement


def test_a_query_without_a_star_is_row_wise_before_its_input_is_known() -> None:
    made = plan("select a, b + 1 as c from undeclared where a > 2", SCHEMAS, "a.sql")
    assert (made.kind, made.columns) == ("rowwise", None)
    with duckdb.connect() as connection:
        connection.execute("create table rows as select i as a, i * 2 as b, 'r' || i as _rid from range(6) r(i)")
        found = run(connection, bind(made.statement, {"undeclared": quoted("rows")}))
    assert sorted(found[1]) == [(3, 7, "r3"), (4, 9, "r4"), (5, 11, "r5")]
