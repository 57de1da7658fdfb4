"""What is taken for exact is exact in DuckDB: a sum of anything else is a sum of sorted values."""

from __future__ import annotations

import re

import duckdb
import pytest

from tidemill.sql import canonical, parse

COLUMNS = {
    "i": "INTEGER",
    "b": "BIGINT",
    "u": "UHUGEINT",
    "d": "DECIMAL(10,2)",
    "f": "DOUBLE",
    "r": "FLOAT",
    "t": "VARCHAR",
    "l": "DOUBLE[]",
    "n": "INTEGER[]",
    "s": "STRUCT(x DOUBLE, n INTEGER)",
    "m": "MAP(VARCHAR, DOUBLE)",
    "ts": "TIMESTAMP",
}
EXACT = """i; b; d; 1; 1.5; i * 1.5; d * 1.5; i - 1.5; d * d; i // 2; -d; abs(d); round(d, 1); ceil(d); i % 2; i & 3
greatest(d, 1); least(i, 2); coalesce(d, 0); nullif(d, 0); if(f > 1, d, 0); case when f > 1 then 1 else 0 end
case when i > 1 then 1.5 else 0 end; (f > 1)::int; t::decimal(10,2); f::decimal(18,3); length(t); hash(f); sign(f)
extract(year from ts); epoch_ms(ts); date_diff('day', ts, ts); s.n; x.d; x.i + 1; (select max(d) from a); n.e; w.n""".replace(
    "\n", ";"
)
FLOATING = """f; r; u; 1e3; 0.1e0; i / 2; d / 2; d // 2; f // 2; -f; i ** 2; i * 2e0; d + f; abs(f); round(f, 2); trunc(f)
greatest(i, f); least(d, f); coalesce(f, 0); if(i > 1, f, 0); case when i > 1 then d else f end; t::double
try_cast(t as float); l[1]; list_sum(l); list_max(l); list_extract(l, 1); s.x; s['x']; m['k']; epoch(ts)
extract(epoch from ts); date_part('epoch', ts); even(f); fmod(f, 2); add(i, f); subtract(f, 1); sqrt(i); pi(); ln(d)
list_reduce(l, lambda p, q: p + q); (select max(f) from a); x.f; x.both; avg_of.v; e.e; try(f)""".replace("\n", ";")
FROM = """from a, (select d, i, f, least(d, f) as both from a) x, (select avg(i) as v from a) avg_of, unnest(l) as e(e),
unnest(a.n) as n(e), (select count(*) as n from a) w"""


def cases(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def sum_of(expression: str) -> tuple[str, str]:
    """The type of a sum over an expression, and its canonical text."""
    query = f"select sum({_qualified(expression)}) as total {FROM}"
    text = canonical(parse(query, "a.sql"), {"a": COLUMNS})
    with duckdb.connect() as connection:
        connection.execute(f"create table a ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
        return str(connection.sql(text).types[0]), text


def _qualified(expression: str) -> str:
    """With the table before each of its columns, which others show too."""
    return re.sub(rf"(?<![.\w'])({'|'.join(COLUMNS)})\b(?![('])(?!\.[ei])", r"a.\1", expression)


@pytest.mark.parametrize("expression", cases(EXACT))
def test_exact_numbers_are_added_up_as_they_come(expression: str) -> None:
    kind, text = sum_of(expression)
    assert kind in ("HUGEINT", "BIGINT") or kind.startswith("DECIMAL")
    assert "ORDER BY" not in text.partition("FROM")[0]


@pytest.mark.parametrize("expression", cases(FLOATING))
def test_floating_point_numbers_are_added_up_in_their_order(expression: str) -> None:
    kind, text = sum_of(expression)
    assert kind == "DOUBLE"
    assert "ORDER BY" in text


def test_a_column_of_a_recursive_query_counts_as_floating_point() -> None:
    query = "with recursive r as (select 1 as c union all select c + 1 from r where c < 5) select sum(c) as s from r, a"
    assert 'SUM("r"."c" ORDER BY' in canonical(parse(query, "a.sql"), {"a": COLUMNS})
