"""One outcome: the same rows give the same bits, whatever their order and the number of threads."""

from __future__ import annotations

from functools import cache

import duckdb
import pytest

from tests.sql.data import SCHEMAS, bag, database, queries, run
from tidemill.sql import plan

CASES = list(queries("ties"))
ROWS = 2500
SETTINGS = [(None, 1), (1, 1), (2, 4), (3, 2)]


@cache
def tables(shuffled: int | None, threads: int) -> duckdb.DuckDBPyConnection:
    return database(rows=ROWS, shuffled=shuffled, threads=threads)


def outcomes(sql: str) -> int:
    """How many different bags a text gives over the same rows."""
    found = {frozenset(bag(run(tables(*setting), sql)[1]).items()) for setting in SETTINGS}
    return len(found)


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_a_recompute_gives_the_same_bits(query: str) -> None:
    assert outcomes(plan(query, SCHEMAS, "a.sql").canonical) == 1


def test_the_texts_as_written_would_give_many() -> None:
    """Guards the test above: without the canonical form these very queries have several outcomes."""
    assert sum(outcomes(query) > 1 for _, query in CASES) > 0.8 * len(CASES)


@pytest.mark.parametrize(
    "expression", ["sum(amount)", "avg(amount)", "sum(distinct amount)", "sum(amount) filter (where amount > 2)"]
)
def test_sums_of_special_values_are_those_of_duckdb(expression: str) -> None:
    query = f"select kind, {expression} as s from odd_numbers where kind not in ('a', 'b') group by kind"
    canonical = plan(query, SCHEMAS, "a.sql").canonical
    assert "ORDER BY" in canonical
    assert bag(run(tables(1, 2), canonical)[1], 12) == bag(run(tables(None, 1), query)[1], 12)
    nothing = plan(f"select {expression} as s from odd_numbers where amount > 1e300 and amount < 0", SCHEMAS, "a.sql")
    assert run(tables(None, 1), nothing.canonical)[1] == [(None,)]


@pytest.mark.parametrize("kind", ["qty", "price", "id", "qty::hugeint", "price * 2", "qty + 1", "round(price, 1)"])
def test_exact_sums_are_left_alone(kind: str) -> None:
    assert "ORDER BY" not in plan(f"select sum({kind}) as s, avg({kind}) as a from orders", SCHEMAS, "a.sql").canonical


@pytest.mark.parametrize("function", ["rank()", "dense_rank()", "percent_rank()", "cume_dist()"])
def test_functions_to_which_ties_mean_something_keep_their_order(function: str) -> None:
    query = f"select id, {function} over (order by qty) as r from orders"
    assert plan(query, SCHEMAS, "a.sql").canonical.count('"orders"."qty"') == 1
