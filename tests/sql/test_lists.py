"""Lists are unnested before joins, and the rows stay those of the user's own text, on DuckDB itself."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.sql.data import bag, bound, run
from tidemill.sql import plan

SCHEMAS = {
    "t": {"k": "INTEGER", "l": "VARCHAR[]", "m": "INTEGER[][]", "seen": "TIMESTAMP"},
    "s": {"k": "INTEGER", "a": "DECIMAL(6,1)", "l": "VARCHAR[]", "seen": "TIMESTAMP"},
    "names": {"e": "VARCHAR", "name": "VARCHAR"},
}
MOVED = [
    "select u.e, t.k, s.a from t join s on t.k = s.k cross join unnest(t.l) as u(e) where u.e <> 'p'",
    "select u.e, t.k, s.a from t, s, unnest(t.l) as u(e) where t.k = s.k",
    "select u.e, t.k, s.a from t join s using (k) cross join unnest(s.l) as u(e)",
    "select t.k, s.a, unnest(t.l) as e from t join s on t.k = s.k",
    "select t.k, upper(unnest(t.l)) || s.a as e from t join s on t.k = s.k where s.a > 1",
    "select distinct t.k, unnest(t.l) as e from t join s on t.k = s.k",
    "select t.k, unnest(t.l) as e from t join s on t.k = s.k order by e nulls first, t.k limit 3",
    "select u.e, t.k, s.a from t left join s on t.k = s.k cross join unnest(t.l) as u(e)",
    "select u.e, t.k, s.a from s left join t on t.k = s.k cross join unnest(t.l) as u(e)",
    "select v.f, u.e, s.a from t join s on t.k = s.k cross join unnest(t.m) as u(e), unnest(u.e) as v(f)",
    "select u.e, v.e as f, s.a from t join s on t.k = s.k cross join unnest(t.l) as u(e), unnest(s.l) as v(e)",
    "select u.e, n.name, s.a from t join s on t.k = s.k cross join unnest(t.l) as u(e) join names n on n.e = u.e",
    "select u.e, t.k from t join s on t.k = s.k, unnest(t.l) as u(e) where exists (select 1 from names t where t.e = u.e)",
    "select u.e, t.k, (select max(n.name) from names n where n.e = u.e and t.k > 1) as n from t join s on t.k = s.k, unnest(t.l) as u(e)",
    "select a.k, b.k as other, u.e from t a join t b on a.k = b.k cross join unnest(b.l) as u(e)",
    "select t.k, u.e, count(*) as n from t join s on t.k = s.k cross join unnest(t.l) as u(e) group by all",
    "select * from t join s on t.k = s.k cross join unnest(t.l) as u(e)",
    'select u."E x", t.k from t join s on t.k = s.k cross join unnest(t.l) as u("E x")',
    "select u.e, t.k, s.a from s left outer join t on t.k = s.k cross join unnest(t.l) as u(e)",
]
TOGETHER = [
    "with j as (select t.*, s.a from t join s on t.k = s.k) select j.k, j.a, u.e from j cross join unnest(j.l) as u(e)",
    "select j.k, j.a, u.e from (select t.*, s.a from t join s on t.k = s.k) j cross join unnest(j.l) as u(e)",
    "select j.k, unnest(j.l) as e from (select t.*, s.a from t join s on t.k = s.k) j",
    "with j as (select t.* from t join s using (k)) select u.e, n.name from j, unnest(j.l) u(e) join names n on n.e = u.e",
]
STUCK = [
    "select u.e, t.k from t join s on t.k = s.k cross join unnest(t.l || ['z']) as u(e)",
    "select s.k, u.v from s left join t on t.k = s.k, unnest([t.k, s.k]) as u(v)",
    "select s.k, u.v from s left join t on t.k = s.k, unnest([t.k, 5]) as u(v)",
    "select s.k, u.v from s left outer join t on t.k = s.k, unnest(coalesce(t.l, ['none'])) as u(v)",
    "select s.k, unnest(coalesce(t.l, ['none'])) as v from s left join t on t.k = s.k",
    "select s.k, u.v from s join names n on s.k > 2, unnest(if(s.k = 2, [1 // 0], [s.k])) as u(v)",
    "select u.e, t.k, s.a from t right join s on t.k = s.k cross join unnest(t.l) as u(e)",
    "select u.e, t.k, s.a from t full join s on t.k = s.k cross join unnest(t.l) as u(e)",
    "select u.e, t.k, s.a from t asof join s on t.seen >= s.seen cross join unnest(s.l) as u(e)",
    "select u.e, t.k, s.a from t join s on t.k = s.k cross join unnest(t.l || s.l) as u(e)",
    "select u.e, t.k, s.a from t join s on t.k = s.k and s.a = (select max(z.a) from s z where z.k = t.k), unnest(t.l || s.l) as u(e)",
    "select u.e, n.name from t join s on t.k = s.k, unnest(t.l || s.l) as u(e) left join names n on n.e = u.e where s.a > 1",
    "select u.e, v.f from t join s on t.k = s.k, unnest(t.m) as w(l), unnest(t.l || s.l) as u(e), unnest(w.l) as v(f)",
    "select u.e from t join s on t.k = s.k, unnest(t.l || s.l) as u(e) where exists (select 1 from names t where t.e = u.e or t.name = s.l[1])",
    "select unnest(t.l) as e, unnest(s.l) as f from t join s on t.k = s.k",
    "select u.x, t.k, s.a from t join s on t.k = s.k, lateral (select v.e as x from unnest(t.l) as v(e)) u",
    "select u.x, t.k, s.a from t join s on t.k = s.k cross join lateral (select unnest(t.l) as x) u",
]
LEFT_ALONE = [
    "select t as whole, u.e from t join s on t.k = s.k cross join unnest(t.l) as u(e)",
    "select to_json(s) as whole, u.e from t join s on t.k = s.k cross join unnest(t.l) as u(e)",
    "select u.e, t.k from t cross join unnest(t.l) as u(e)",
    "select t.k, unnest(t.l) as e from t",
    "select u.e, t.k, s.a from t join s on t.k = s.k left join unnest(t.l) as u(e) on true",
    "select t.k, unnest(list(s.a order by s.a)) as e from t join s on t.k = s.k group by t.k",
    "select s.a, u.e from s join t on t.k = s.k cross join unnest(['p', 'q']) as u(e)",
]


@pytest.fixture(scope="module")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name, columns in SCHEMAS.items():
            connection.execute(f"create table {name} ({', '.join(f'{key} {kind}' for key, kind in columns.items())})")
        connection.execute(
            "insert into t values (1, ['p', 'q'], [[1, 2], [3]], '2026-01-01'), (2, [], [], '2026-01-02'),"
            "(2, ['q', null], [[], null, [4]], '2026-01-03'), (3, null, null, null), (null, ['p'], [[5]], '2026-01-04'),"
            "(1, ['p', 'p'], [[1, 1]], '2026-01-05'), (9, ['r'], [[9]], '2026-01-06')"
        )
        connection.execute(
            "insert into s values (1, 1.5, ['x'], '2026-01-01'), (1, 2.5, ['y', 'x'], '2026-01-02'),"
            "(2, 3.5, [], '2026-01-03'), (3, null, ['z'], '2026-01-04'), (7, 4.5, null, null)"
        )
        connection.execute("insert into names values ('p', 'pen'), ('q', 'quill'), ('q', 'quartz'), (null, 'none')")
        yield connection


@pytest.mark.parametrize("query", [*MOVED, *TOGETHER, *STUCK, *LEFT_ALONE])
def test_the_statement_gives_the_rows_of_the_users_text(query: str, tables: duckdb.DuckDBPyConnection) -> None:
    names, expected = run(tables, query)
    made = plan(query, SCHEMAS, "a.sql", retracting=list(SCHEMAS))
    found_names, found = run(tables, bound(made)) if made.kind != "rowwise" else (names, expected)
    assert bag(found) == bag(expected), made.statement
    assert [name.lower() for name in found_names][: len(names)] == [name.lower() for name in names] or "*" in query
    assert expected, "a case must have rows"


@pytest.mark.parametrize("query", MOVED)
def test_a_list_is_unnested_inside_the_relation_that_it_comes_from(query: str) -> None:
    text = plan(query, SCHEMAS, "a.sql").statement
    for part in text.split("UNNEST(")[:-1]:
        assert part.endswith(("CROSS JOIN ", "JOIN "))
        from_ = part.rpartition(" FROM ")[2]
        assert from_.count("JOIN") == 1, text


@pytest.mark.parametrize("query", [*TOGETHER, *STUCK])
def test_rows_that_a_join_makes_are_put_together_before_their_lists_are_taken_apart(query: str) -> None:
    text = plan(query, SCHEMAS, "a.sql").statement
    assert text.count("AS MATERIALIZED (") == 1
    assert " JOIN " not in text.partition("AS MATERIALIZED (")[0]


@pytest.mark.parametrize("query", LEFT_ALONE)
def test_lists_that_do_no_harm_stay_where_they_are(query: str) -> None:
    made = plan(query, SCHEMAS, "a.sql")
    assert made.kind == "rowwise" or made.statement.replace("@input:", "") == made.canonical
