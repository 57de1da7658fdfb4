"""Views are put into their readers and mean there what they mean alone."""

from __future__ import annotations

import duckdb
import pytest

from tests.sql.data import SCHEMAS, bag, database, run
from tidemill.core.errors import DefinitionError
from tidemill.sql import analyse, expand, parse, plan

VIEWS = {
    "late": "select id, qty, region from orders where qty > 3",
    "Later": "select * from late where qty > 4",
    "counted": "with t as (select region, count(*) as n from LATE group by all) select * from t",
    "customers_of": "with orders as (select customer from customers) select customer from orders",
    "two": "select l.id, c.tier from late l join customers c on c.id = l.qty",
}

READERS = [
    "select * from late",
    "select id from LATER where qty < 6",
    "select later.id, l.region from later join late as l on l.id = later.id",
    "with late as (select id from later) select count(*) as n from late",
    "with orders as (select 1 as id, 2 as qty, 'x' as region) select late.id, orders.qty as q from late, orders",
    "with orders as (select id from orders where id < 9) select o.id, late.qty from orders o join late on late.id = o.id",
    "with orders as (select id from customers) select orders.id from orders where id in (select id from late)",
    "with t as (select 7 as n) select counted.*, t.n as seven from counted, t",
    "select * from customers_of union all select customer from orders",
    "select region, n from counted where n > (select avg(n) from counted)",
    "select x.i from late as x(i, q, r)",
    "from two",
]


@pytest.mark.parametrize("query", READERS)
def test_a_reader_of_views_gives_what_duckdb_gives_with_real_views(query: str) -> None:
    with database() as connection:
        for name, sql in VIEWS.items():
            connection.execute(f"create view {name} as {sql}")
        expected = run(connection, query)[1]
    made = plan(query, SCHEMAS, "a.sql", views=VIEWS)
    with database() as connection:
        assert bag(run(connection, made.canonical)[1]) == bag(expected)
    assert expected
    assert not {name.lower() for name in VIEWS} & {name.lower() for name in made.inputs}


@pytest.mark.parametrize("query", READERS)
def test_the_text_of_an_expanded_query_stands_alone(query: str) -> None:
    expanded = expand(parse(query, "a.sql"), VIEWS)
    text = expanded.sql(dialect="duckdb")
    assert set(analyse(text, "a.sql").inputs) == set(plan(query, SCHEMAS, "a.sql", views=VIEWS).inputs)
    with database() as connection:
        expected = run(connection, plan(query, SCHEMAS, "a.sql", views=VIEWS).canonical)[1]
        assert bag(run(connection, text)[1]) == bag(expected)


def test_a_row_wise_view_under_a_row_wise_reader_is_row_wise() -> None:
    made = plan("select id + 1 as next from Later where region is null", SCHEMAS, "a.sql", views=VIEWS)
    assert (made.kind, made.inputs) == ("rowwise", ("orders",))


def test_views_in_a_circle_are_named() -> None:
    circle = {"a": "select * from b", "b": "select * from c", "c": "select * from B join orders using (id)"}
    with pytest.raises(DefinitionError, match="b -> c -> b"):
        plan("select * from a", SCHEMAS, "a.sql", views=circle)


def test_a_view_that_reads_a_name_of_its_own_cte_is_no_circle() -> None:
    views = {"v": "with v as (select id from orders) select id from v"}
    with duckdb.connect():
        assert plan("select * from v", SCHEMAS, "a.sql", views=views).inputs == ("orders",)


@pytest.mark.parametrize(("sql", "says"), [("select now() as t from orders", "now"), ("select * from ordrs", "ordrs")])
def test_what_is_wrong_in_a_view_is_said_of_its_reader(sql: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        plan("select * from v", SCHEMAS, "a.sql", views={"v": sql})
