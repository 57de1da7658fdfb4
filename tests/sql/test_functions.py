"""The tables of functions know every function of the DuckDB that is installed."""

from __future__ import annotations

from functools import cache

import duckdb
import pytest

from tests.sql.data import SCHEMAS
from tidemill.core.errors import DefinitionError
from tidemill.sql import analyse, plan
from tidemill.sql.functions import (
    AGGREGATES,
    EXACT,
    FREE_TABLE_FUNCTIONS,
    INEXACT,
    ORDER_BOUND,
    ORDERED_BY_ARGUMENT,
    VOLATILE,
)

# Volatile by DuckDB's word, but with one outcome for one row: error() raises, and does nothing else.
HARMLESS = {"error"}
# Aggregates that DuckDB's own machinery uses; no one can call them with a column.
INTERNAL = {"combine_aggr", "variant_group_object"}
# Of these the outcome is the same whatever the order of rows.
IN_ANY_ORDER = AGGREGATES - ORDER_BOUND - ORDERED_BY_ARGUMENT - INEXACT - {"sum", "avg", "mean", "reservoir_quantile"}


@cache
def catalogue(where: str) -> list[str]:
    found = duckdb.sql(f"select distinct function_name from duckdb_functions() where {where} order by 1").fetchall()
    return [name for (name,) in found if name[0].isalpha() and not name.startswith("__")]


def test_every_volatile_function_of_duckdb_is_known() -> None:
    names = catalogue("stability in ('VOLATILE', 'CONSISTENT_WITHIN_QUERY') and function_type <> 'table'")
    assert len(names) > 20
    assert set(names) - VOLATILE.keys() - HARMLESS == set()


@pytest.mark.parametrize("name", sorted(VOLATILE))
def test_every_volatile_function_is_refused_however_it_is_written(name: str) -> None:
    for call in (f"{name}()", f"{name.upper()}('a')"):
        try:
            query = analyse(f"select {call} as x from orders", "a.sql")
        except DefinitionError:
            continue
        assert query.refusals, call


@pytest.mark.parametrize("name", sorted(set(catalogue("function_type = 'aggregate'")) - INTERNAL))
def test_every_aggregate_of_duckdb_is_known_under_each_of_its_names(name: str) -> None:
    """Parsed as the parser has it (which renames some), it must be seen as an aggregate, and treated as its kind."""
    minimum = f"select min(len(parameters)) from duckdb_functions() where function_name = '{name}'"
    count = duckdb.sql(minimum).fetchall()[0][0]

    arguments = ", ".join(["amount", "qty", "3"][: max(count, 0 if name == "count_star" else 1)])
    query = f"select {name}({arguments}) as x from orders"
    refusals = analyse(query, "a.sql").refusals
    assert bool(refusals) == (name in ORDER_BOUND or name in VOLATILE)
    if refusals:
        return
    made = plan(query, SCHEMAS, "a.sql")
    assert "aggregates" in made.reason
    assert ("ORDER BY" in made.canonical) == (name not in IN_ANY_ORDER), made.canonical


def test_the_table_functions_that_are_allowed_exist() -> None:
    known = set(catalogue("function_type in ('table', 'table_macro')"))
    assert known >= FREE_TABLE_FUNCTIONS


@pytest.mark.parametrize("name", catalogue("function_type = 'table'"))
def test_every_other_table_function_is_refused(name: str) -> None:
    if name in FREE_TABLE_FUNCTIONS:
        return
    with pytest.raises(DefinitionError):
        analyse(f"select * from {name}('x') as t", "a.sql")


def test_functions_that_are_taken_for_exact_never_give_floating_point() -> None:
    whole = "('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UBIGINT', 'UINTEGER', 'BOOLEAN')"
    others = "('TIMESTAMP', 'TIMESTAMP_MS', 'TIMESTAMP_NS', 'TIMESTAMP WITH TIME ZONE')"  # not to be added up
    assert set(catalogue(f"function_type = 'scalar' and return_type in {whole}")) >= EXACT
    assert not EXACT & set(
        catalogue(f"return_type is null or return_type not in {whole} and return_type not in {others}")
    )
