"""Plans: what they hold, how relations are put in, and that text that means the same plans the same."""

from __future__ import annotations

import json
import time

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sql.data import SCHEMAS, queries, run
from tidemill.core.errors import InvariantError
from tidemill.sql import Query, SqlPlan, analyse, bind, canonical, parse, plan, quoted

EVERY = [query for folder in ("same_rows", "ties", "rowwise") for _, query in queries(folder)]


@pytest.mark.parametrize("query", EVERY)
def test_a_plan_and_a_look_survive_json(query: str) -> None:
    made, look = plan(query, SCHEMAS, "a.sql"), analyse(query, "a.sql")
    assert SqlPlan.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert Query.from_dict(json.loads(json.dumps(look.to_dict()))) == look
    assert [name.lower() for name in look.inputs] == [name.lower() for name in made.inputs]


def test_what_another_version_stored_is_not_used() -> None:
    made, look = plan("select id from orders", SCHEMAS, "a.sql"), analyse("select id from orders", "a.sql")
    assert SqlPlan.from_dict({**made.to_dict(), "version": "0"}) is None
    assert Query.from_dict({**look.to_dict(), "version": "0"}) is None


@pytest.mark.parametrize("query", EVERY)
def test_the_compact_text_means_the_same(query: str) -> None:
    text = analyse(query, "a.sql").text
    assert canonical(parse(text, "a.sql"), SCHEMAS) == canonical(parse(query, "a.sql"), SCHEMAS)
    assert analyse(text, "a.sql").text == text


@settings(deadline=None)
@given(st.data())
def test_layout_comments_and_case_of_keywords_change_nothing(data: st.DataObject) -> None:
    words = (
        "select carrier , sum ( qty ) as q from orders where region = 'North West' group by carrier order by q".split(
            " "
        )
    )
    words = ["customer" if word == "carrier" else word for word in words]
    keywords = {"select", "as", "from", "where", "group", "by", "order"}
    gap = st.sampled_from([" ", "\n", "\t ", " -- why\n", " /* ; */ "])
    plain_gap = st.sampled_from([" ", "\n\n"])  # the parser takes no comment between ORDER and BY
    text = ""
    for word in words:
        is_upper = word in keywords and data.draw(st.booleans())
        text += (word.upper() if is_upper else word) + (
            "" if word == "'North" else data.draw(plain_gap if word in ("group", "order") else gap)
        )
        if word == "'North":
            text += " "
    plain = " ".join(words)
    assert canonical(parse(text, "a.sql"), SCHEMAS) == canonical(parse(plain, "a.sql"), SCHEMAS)
    assert analyse(text, "a.sql").text == analyse(plain, "a.sql").text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select id from orders where qty > 2", "select id from orders where qty > 3"),
        ("select id from orders where region = 'a'", "select id from orders where region = 'A'"),
        ("select id as a from orders", "select id as b from orders"),
        ("select id, qty from orders", "select qty, id from orders"),
        ("select id from orders", "select distinct id from orders"),
        ("select id from orders union select 1", "select id from orders union all select 1"),
        ("select qty::integer as q from orders", "select qty::bigint as q from orders"),
        (
            "select rank() over (order by qty) as r from orders",
            "select rank() over (order by qty desc) as r from orders",
        ),
        ("select 'a' as x, id from orders", "select 'a ' as x, id from orders"),
    ],
)
def test_what_means_something_else_has_another_text(one: str, other: str) -> None:
    assert canonical(parse(one, "a.sql"), SCHEMAS) != canonical(parse(other, "a.sql"), SCHEMAS)
    assert analyse(one, "a.sql").text != analyse(other, "a.sql").text


def test_a_new_column_of_an_input_changes_what_a_star_means() -> None:
    schemas = {"orders": {"id": "INTEGER"}}
    wider = {"orders": {"id": "INTEGER", "qty": "INTEGER", "_rid": "VARCHAR"}}
    star, named = "select * from orders", "select id from orders"
    assert plan(star, schemas, "a.sql").canonical != plan(star, wider, "a.sql").canonical
    assert plan(named, schemas, "a.sql").canonical == plan(named, wider, "a.sql").canonical
    assert plan(star, wider, "a.sql").columns == {"id": "INTEGER", "qty": "INTEGER"}


NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda name: name.strip() and not any(mark in name for mark in "./\\*:")
)


@settings(deadline=None)
@given(name=NAMES, literal=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20))
def test_only_the_input_itself_is_replaced(name: str, literal: str) -> None:
    """Whatever the asset is called, and whatever strings and aliases look like a placeholder."""
    text = f'"@input:{name}" {literal}'
    string, alias = "'" + text.replace("'", "''") + "'", quoted("x" + text)
    query = f"select a as {alias}, {string} as s, {quoted(name)}.a as t from {quoted(name)} where a > 1"
    made = plan(query, {name: {"a": "INTEGER"}}, "a.sql")
    assert made.inputs == (name,)
    with duckdb.connect() as connection:
        names, rows = run(connection, bind(made.statement, {name: "(select unnest([1, 2, 3]) as a, 'r' as _rid)"}))
    assert names == ["x" + text, "s", "t", "_parent"]
    assert sorted(rows) == [(2, text, 2, "r"), (3, text, 3, "r")]


def test_an_input_without_a_relation_is_an_error() -> None:
    made = plan("select id, tier from orders join customers using (customer, id)", SCHEMAS, "a.sql")
    with pytest.raises(InvariantError, match="customers"):
        bind(made.statement, {"orders": "x"})


def test_assets_are_spelled_as_the_catalogue_has_them() -> None:
    made = plan('select PRICES.Product, "VALID_FROM" from prices', SCHEMAS, "a.sql")
    assert made.inputs == ("Prices",)
    assert made.columns == {"product": "VARCHAR", "valid_from": "TIMESTAMP"}
    assert '"@input:Prices"' in made.statement


def test_an_unknown_schema_leaves_columns_open() -> None:
    made = plan("select u.*, o.id from undeclared u join orders o on o.id = u.id", SCHEMAS, "a.sql")
    assert (made.kind, made.columns, made.inputs) == ("recompute", None, ("undeclared", "orders"))
    with duckdb.connect() as connection:
        relations = {"undeclared": "(select 1 as id, 2 as b)", "orders": "(select 1 as id)"}
        assert run(connection, bind(made.statement, relations))[1] == [(1, 2, 1)]


def test_looking_at_a_query_is_cheap() -> None:
    """Ten thousand jobs load in seconds: a bound far above what is measured, but below a second parse per job."""
    query = next(iter(EVERY))
    start = time.process_time()
    for _ in range(200):
        analyse(query, "a.sql")
    assert (time.process_time() - start) / 200 < 0.003
