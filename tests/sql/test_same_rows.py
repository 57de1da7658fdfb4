"""The canonical query gives the rows that the user's own text gives, on DuckDB itself."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.sql.data import SCHEMAS, bag, bound, database, queries, run
from tidemill.sql import canonical, parse, plan

CASES = list(queries("same_rows"))


@pytest.fixture(scope="module")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with database() as connection:
        yield connection


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_the_canonical_query_gives_the_same_bag(query: str, tables: duckdb.DuckDBPyConnection) -> None:
    names, expected = run(tables, query)
    made = plan(query, SCHEMAS, "a.sql")
    found_names, found = run(tables, made.canonical)
    assert bag(found, 9) == bag(expected, 9), made.canonical
    assert len(found_names) == len(names)
    given = [
        (name, found) for name, found in zip(names, found_names, strict=True) if name.replace(" ", "_").isidentifier()
    ]
    assert all(name in (found, found.rsplit("_", 1)[0]) for name, found in given), "the names are DuckDB's"
    if made.kind == "recompute":
        assert run(tables, bound(made))[0] == found_names


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_planned_columns_are_what_duckdb_says(query: str, tables: duckdb.DuckDBPyConnection) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    if made.columns is None:
        return
    described = {row[0]: row[1] for row in tables.execute(f"describe {made.canonical}").fetchall()}
    assert list(described) == list(made.columns)
    claims = {name: kind for name, kind in made.columns.items() if kind is not None}
    same = {name: str(duckdb.sqltype(kind)) for name, kind in claims.items()}
    assert same == {name: str(duckdb.sqltype(described[name])) for name in claims}


@pytest.mark.parametrize("query", [query for _, query in CASES], ids=[name for name, _ in CASES])
def test_planning_its_own_canonical_text_changes_nothing(query: str) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    again = plan(made.canonical, SCHEMAS, "a.sql")
    assert again.canonical == made.canonical
    assert (again.kind, again.key, again.columns) == (made.kind, made.key, made.columns)
    assert canonical(parse(query, "a.sql"), SCHEMAS) == made.canonical


def test_the_cases_are_many_and_their_results_are_not_trivial(tables: duckdb.DuckDBPyConnection) -> None:
    sizes = [len(run(tables, query)[1]) for _, query in CASES]
    assert len(CASES) > 140
    assert sum(size >= 3 for size in sizes) > 0.85 * len(sizes)
