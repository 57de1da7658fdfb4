"""The table of docs/sql.md in which people look a construct up: each row is true of the queries that stand for it here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.sql.data import SCHEMAS
from tidemill.core.errors import DefinitionError
from tidemill.sql import plan

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
ROWS, DELTA, MERGE, KEYS, WHOLE, REFUSED = "row by row", "delta", "merge", "affected keys", "recomputed", "refused"
WORDS = {"linear": DELTA, "group": MERGE, "keyed": KEYS, "full": WHOLE}
FROM = "from orders o join customers c on c.customer = o.customer"

QUERIES: Mapping[str, list[tuple[str, str]]] = {
    "WHERE, expressions, CASE, casts": [
        (ROWS, "select id, case when qty > 2 then amount::varchar end as a from orders where qty > 1"),
        (DELTA, f"select o.id, upper(c.tier) as tier {FROM} where o.qty > 1"),
    ],
    "INNER, CROSS, LEFT, RIGHT, FULL JOIN": [
        (DELTA, f"select o.id, c.tier {FROM.replace('join', join)}")
        for join in ("join", "left join", "right join", "full join")
    ]
    + [(DELTA, "select o.id, c.tier from orders o cross join customers c")],
    "JOIN ... USING, several too": [
        (
            DELTA,
            "select id, region, tier, x from orders full join customers using (id) full join (select id, 1 as x from orders) z using (id)",
        ),
        (REFUSED, "select * replace (qty + 1 as qty) from orders join customers using (customer)"),
        (REFUSED, "select o.id from orders o join (customers c join lines l on l.order_id = c.id) using (id)"),
    ],
    "SEMI, ANTI JOIN; EXISTS, NOT EXISTS; IN, NOT IN": [
        (f"{DELTA} over a group", query)
        for query in (
            f"select o.id {FROM.replace('join', 'semi join')}",
            f"select o.id {FROM.replace('join', 'anti join')}",
            "select id from orders o where exists (select 1 from customers c where c.customer = o.customer and c.id > o.id)",
            "select id from orders o where not exists (select 1 from customers c where c.customer = o.customer)",
            "select id from orders where id in (select order_id from lines)",
            "select id from orders where id not in (select order_id from lines)",
        )
    ],
    "self joins": [(DELTA, "select a.id, b.id as other from orders a join orders b on a.qty = b.qty")],
    "ASOF JOIN": [(WHOLE, "select o.id from orders o asof join Prices p on o.placed_at >= p.valid_from")],
    "LATERAL subquery, UNPIVOT, joins in parentheses": [
        (
            WHOLE,
            "select o.id, l.product from orders o, lateral (select product from lines l where l.order_id = o.id) l",
        ),
        (WHOLE, "select * from (select id, qty, id + 1 as more from orders) unpivot (v for n in (qty, more))"),
        (WHOLE, "select o.id from orders o join (customers c join lines l on l.order_id = c.id) on c.id = o.id"),
    ],
    "PIVOT with its values and a GROUP BY": [
        (MERGE, "select * from (pivot orders on region in ('a', 'b') using sum(qty) group by customer)"),
        (MERGE, "select p.a, p.b from orders pivot (sum(qty) for region in ('a', 'b') group by customer) p"),
        (WHOLE, "select * from (select region, qty, id from orders) pivot (sum(qty) for region in ('a', 'b'))"),
        (REFUSED, "select * from (pivot orders on region using sum(qty) group by customer)"),
    ],
    "scalar subquery that aggregates": [
        (
            f"{DELTA} over a group",
            "select id, (select count(*) from lines l where l.order_id = o.id) as n from orders o",
        ),
    ],
    "any other subquery in an expression, `> all (...)`, tuples in IN": [
        (WHOLE, "select id from orders where qty > all (select qty from lines)"),
        (WHOLE, "select id from orders where (id, qty) in (select order_id, qty from lines)"),
        (
            WHOLE,
            "select id, (select l.product from lines l where l.order_id = o.id order by l.product limit 1) as p from orders o",
        ),
    ],
    "unnest of a list": [
        (ROWS, "select id, unnest(items) as item from orders"),
        (DELTA, f"select o.id, u.item {FROM}, unnest(o.items) as u(item)"),
        (WHOLE, f"select o.id, u.item {FROM} left join unnest(o.items) as u(item) on true"),
    ],
    "UNION ALL": [
        (DELTA, "select id from orders union all select id from customers"),
        (WHOLE, "select id, customer from orders union all by name select customer, id from customers"),
    ],
    "UNION, DISTINCT": [
        (MERGE, "select id from orders union select id from customers"),
        (MERGE, "select distinct region from orders"),
    ],
    "EXCEPT, INTERSECT": [
        (MERGE, "select id from orders except select id from customers"),
        (MERGE, "select id, qty from orders intersect select id, id from customers"),
        (WHOLE, "select id from orders except all select id from customers"),
        (WHOLE, "select id from orders intersect all select id from customers"),
    ],
    "DISTINCT ON": [
        (KEYS, "select distinct on (region) region, id from orders order by region, id"),
        (WHOLE, "select distinct on (region) region, id from orders order by region, id limit 3"),
        (REFUSED, "select distinct on (region) region, id from orders"),
    ],
    "count, sum, avg, min, max, bool_or, bool_and, count_if, FILTER": [
        (MERGE, f"select region, {folded} as x from orders group by region")
        for folded in (
            "count(*)",
            "sum(qty)",
            "avg(price)",
            "min(amount)",
            "max(id)",
            "bool_or(qty > 1)",
            "bool_and(qty > 1)",
            "count_if(qty > 1)",
            "sum(price) filter (where qty > 1)",
        )
    ],
    "sum, avg of double or real": [
        (KEYS, f"select region, {name}(amount) as x from orders group by region") for name in ("sum", "avg")
    ],
    "count(distinct), median, quantile, list, string_agg, ...": [
        (KEYS, f"select region, {folded} as x from orders group by region")
        for folded in (
            "count(distinct qty)",
            "median(qty)",
            "quantile_cont(qty, 0.9)",
            "list(qty order by qty)",
            "string_agg(customer, ',' order by customer)",
        )
    ]
    + [(REFUSED, "select region, list(qty) as x from orders group by region")],
    "HAVING": [
        (f"{DELTA} over the group", "select region, count(*) as n from orders group by region having count(*) > 2"),
        (
            f"{DELTA} over the group",
            "select region, sum(qty) as s from orders group by region having sum(qty) > (select max(qty) from lines)",
        ),
    ],
    "windows with a PARTITION BY in common, QUALIFY": [
        (
            KEYS,
            "select id, rank() over (partition by region order by qty) as r, lag(id) over (partition by region, qty order by id) as l from orders",
        ),
        (KEYS, "select id, region from orders qualify row_number() over (partition by region order by id) <= 3"),
    ],
    "windows without one": [
        (WHOLE, "select id, row_number() over (order by id) as n from orders"),
        (
            WHOLE,
            "select id, count(*) over (partition by region) as n, count(*) over (partition by qty) as m from orders",
        ),
    ],
    "ORDER BY with LIMIT": [
        (WHOLE, "select region, count(*) as n from orders group by region order by n, region limit 3")
    ],
    "ORDER BY alone": [("nothing", "select id from orders order by qty")],
    "CTE": [
        (
            "where it is read",
            "with t as (select region, count(*) as n from orders group by region) select a.region, b.n from t a join t b on a.n = b.n",
        )
    ],
    "WITH RECURSIVE, ROLLUP, CUBE, GROUPING SETS": [
        (
            WHOLE,
            "with recursive r(i) as (select id from orders union all select i - 1 from r where i > 0) select i from r",
        ),
        *(
            (WHOLE, f"select region, qty, count(*) as n from orders group by {by}")
            for by in ("rollup (region, qty)", "cube (region, qty)", "grouping sets ((region), (qty))")
        ),
    ],
    "`columns('...')` beside other clauses": [(WHOLE, "select distinct columns('i.*') from orders")],
    "COLLATE in a key, in what is shown, in a join": [
        (REFUSED, "select region collate nocase as r, count(*) as n from orders group by 1"),
        (REFUSED, "select id, region collate nocase as r from orders"),
        (REFUSED, "select o.id from orders o join customers c on o.customer collate nocase = c.customer"),
    ],
    "random(), now(), LIMIT without ORDER BY, SAMPLE, POSITIONAL and NATURAL JOIN": [
        (REFUSED, query)
        for query in (
            "select random() as r from orders",
            "select now() as t from orders",
            "select id from orders limit 3",
            "select id from orders using sample 10%",
            "select o.id from orders o positional join customers c",
            "select id from orders natural join customers",
        )
    ],
}
CASES = [(construct, said, sql) for construct, queries in QUERIES.items() for said, sql in queries]


def table() -> dict[str, str]:
    """What the page says of each construct: the words about it, and the note."""
    lines = PAGE.read_text(encoding="utf-8").split("## Look it up")[1].split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {construct: f"{how}; {note}" for construct, how, note in cells}


def rules_of(sql: str) -> list[str]:
    """The rules of a query's stages, in order; the output's is the last."""
    retracting = [name for name, columns in SCHEMAS.items() if columns]
    try:
        made = plan(sql, SCHEMAS, "a.sql", retracting=retracting)
    except DefinitionError:
        return [REFUSED]
    if made.staged is None:
        return [ROWS if made.kind == "rowwise" else WHOLE]
    return [WORDS[stage.rule] for stage in made.staged.stages]


def test_every_row_is_stood_for_by_queries() -> None:
    assert list(table()) == list(QUERIES)


@pytest.mark.parametrize(
    ("construct", "said", "sql"), CASES, ids=[f"{construct[:20]}-{n}" for n, (construct, *_) in enumerate(CASES)]
)
def test_what_the_page_says_of_a_construct_is_so(construct: str, said: str, sql: str) -> None:
    rules = rules_of(sql)
    assert said in table()[construct]
    if said == "nothing":
        assert rules == [ROWS]
    elif said == "where it is read":
        assert rules == [MERGE, DELTA], "read twice, it is one stage"
    elif "over" in said:
        assert rules[-1] == DELTA
        assert MERGE in rules
    elif said == MERGE:
        assert MERGE in rules
        assert not {KEYS, WHOLE} & set(rules)
    elif said == WHOLE:
        assert WHOLE in rules
    else:
        assert said in rules
        assert WHOLE not in rules
