"""What queries are cut into: pairs of files, and every reason for recomputing is one that a query can meet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sql.data import SCHEMAS
from tests.sql.stages import FOLDER, Case, cases, laid_out, shown
from tidemill.engines.stages import Layout
from tidemill.sql import SqlPlan, plan, stages
from tidemill.stores.duckdb import DuckDBStore

CASES = list(cases())


@pytest.fixture(scope="module")
def store() -> Iterator[DuckDBStore]:
    store = DuckDBStore(":memory:")
    yield store
    store.close()


@pytest.mark.parametrize("case", CASES, ids=[case.path.stem for case in CASES])
def test_a_query_is_cut_into_these_stages(case: Case, store: DuckDBStore) -> None:
    expected = case.expected.read_text(encoding="utf-8")
    assert shown(case, store) == expected, "where that is meant: python -m tests.sql.stages"


def test_every_query_has_its_stages_beside_it_and_every_rule_is_among_them() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {case.path.stem for case in CASES}
    rules = {stage.rule for case in CASES if (staged := case.plan().staged) for stage in staged.stages}
    assert rules == {"linear", "group", "keyed", "full"}


@pytest.mark.parametrize("case", CASES, ids=[case.path.stem for case in CASES])
def test_a_plan_and_its_layout_survive_being_written(case: Case, store: DuckDBStore) -> None:
    made = case.plan()
    assert SqlPlan.from_dict(made.to_dict()) == made
    if made.staged is not None:
        layout = laid_out(made, store)
        assert Layout.from_dict(layout.to_dict()) == layout


CHAIN = ", ".join(f"t{n} as (select a.id from t{n - 1} a join t{n - 1} b on a.id = b.id)" for n in range(1, 13))

# The beginning of a reason -> a query that meets it.
MET = {
    "it groups by several sets of keys": "select count(*) as n from orders group by cube (customer, region)",
    "it uses a column that is neither": "select customer, qty from orders group by customer",
    "it sorts or limits": "(select id from orders order by id) order by id limit 3",
    "it takes one row of each key": "select distinct on (customer) customer, id from orders order by customer, id limit 5",
    "it combines queries by the names": "select id from orders union by name select id from customers",
    "it counts equal rows on both sides": "select id from orders except all select id from customers",
    "it has a subquery in an expression": "select id from orders where qty > all (select qty from lines)",
    "its columns are chosen by a pattern": "select columns('i.*') from orders",
    "it joins a lateral subquery": "select id, x from orders lateral view explode(items) t as x",
    "it pivots, samples or nests joins": "select o.id from orders o join (customers c join lines l on l.order_id = c.id) on c.customer = o.customer",
    "it reads ": "select a, id from (values (1)) v(a), orders",
    "it takes a number of rows (LIMIT)": "select columns('i.*') from orders order by id limit 2",
    "it joins in another way": "select o.id from orders o asof join Prices p on o.placed_at >= p.valid_from",
    "a join's condition has a subquery": "select o.id from orders o join customers c on o.id in (select order_id from lines)",
    "it joins an unnested list": "select o.id, u.i from orders o join customers c on c.id = o.id left join unnest(o.items) as u(i) on true",
    "it removes duplicates (DISTINCT)": "select distinct columns('i.*') from orders",
    "it combines queries with different": "select id from orders union select id, customer from customers",
    "it compares queries whose columns": "select id, customer from orders intersect select id, id from customers group by id having id > 3",
    "it sorts by what it does not show": "select distinct customer from orders order by upper(customer) limit 3",
    "it has window functions and columns": "select columns('i.*'), rank() over (order by id) from orders",
    "it has window functions and a subquery": "select rank() over (order by id) as a, (select max(qty) from lines) as b from orders qualify a < (select max(qty) from lines)",
    "it is recursive": "with recursive r(i) as (select 1 union all select i + 1 from r where i < 5) select r.i from r, orders",
    "it pivots or nests joins": "with t as (select region, qty from orders) from t pivot (sum(qty) for region in ('north'))",
    "its common table expressions grow": f"with t0 as (select id from orders), {CHAIN} select count(*) as n from t12",
}

# Reasons that no query is known to meet, because an earlier pass refuses or names what they are about: they stand guard.
GUARDS = {
    "its columns are not known by name": "a query whose columns have no names is opaque before it is the output",
    "it takes a number of rows in no order": "LIMIT without ORDER BY is refused",
    "it compares rows whose columns": "columns of the same name are told apart before",
}


def reasons() -> set[str]:
    """The text of every `Opaque` that is raised, up to what is put in."""
    found = set()
    for path in sorted(Path(stages.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Opaque":
                text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
                if isinstance(text, ast.Constant):
                    found.add(str(text.value))
    return found


def told(sql: str) -> str:
    """Why a query, or a part of it, is recomputed."""
    made = plan(sql, SCHEMAS, "a.sql", retracting=[name for name, columns in SCHEMAS.items() if columns])
    return made.reason if made.staged is None else "; ".join(stage.reason for stage in made.staged.stages)


@pytest.mark.parametrize("reason", MET)
def test_the_reason_why_something_is_recomputed_is_told(reason: str) -> None:
    assert reason in told(MET[reason])


def test_every_reason_is_met_by_a_query_or_stands_guard() -> None:
    starts = {*MET, *GUARDS}
    assert {text for text in reasons() if not any(text.startswith(start) for start in starts)} == set()
    assert {start for start in starts if not any(text.startswith(start) for text in reasons())} == set()
