"""`tidemill plan`: a person sees how each job is maintained, why not cheaper, what it costs and by which statements."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, order, ran

JOBS = {
    "jobs/big.sql": "select id, amount from orders where amount > 3",
    "jobs/total.sql": "select customer, sum(amount) as s, max(amount) as m from orders group by all",
    "jobs/sorted.sql": "select customer, median(amount) as a from orders group by all",
    "jobs/top.sql": "select customer, s from total order by s desc, customer limit 2",
    "jobs/cube.sql": "select customer, amount, count(*) as n from orders group by cube (customer, amount)",
    "jobs/low.sql": "select o.id, s.level from orders o left join stock s on s.item = o.customer",
    "jobs/file.sql": "-- materialized: extract\n-- output: export\nselect customer, s from total",
    "jobs/whole.py": "import pyarrow as pa\nimport tidemill as tm\n"
    "@tm.job(inputs='orders', output='whole', takes='full')\ndef whole(orders: pa.Table) -> pa.Table: return orders",
}
EXPORT = '[assets.export]\nkind = "extract"\npath = "out/export.csv"\nformat = "csv"\n'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run; the tests here only ask it."""
    project = Project(tmp_path_factory.mktemp("project")).write({"tidemill.toml": ORDERS + STOCK + EXPORT, **JOBS})
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=4), order(2, amount=3)])
        ran(mill)
        mill.emit("orders", [order(3, "bob", amount=9)])
        ran(mill)
    return project


def section(text: str, job: str) -> str:
    """What is told of one job."""
    after = text.split(f"{job}: would", 1)[1].splitlines()[1:]
    end = next((number for number, line in enumerate(after) if line and not line.startswith(" ")), len(after))
    return "\n".join(line.strip() for line in after[:end])


def test_each_stage_is_told_with_what_it_reads_its_rule_and_what_it_has_cost(shop: Project) -> None:
    text = shop.cli("plan").stdout
    assert "maintained: row by row: only rows that changed are computed" in section(text, "big")
    total = section(text, "total")
    assert "maintained: incremental: merge" in total
    assert "output, from orders, by customer\nmerge: each change is added to its group\ncost so far: " in total
    assert " ms (0 to 9 changes, 1 run); whole " in total
    assert total.endswith("; last: merge\nnot measured yet: affected keys")
    top = section(text, "top")
    assert (
        "why not cheaper: it takes a number of rows of the whole (LIMIT): recomputed from its maintained input" in top
    )
    assert "why not cheaper: median cannot be added up" in section(text, "sorted")
    assert "delta: only rows that come from changed rows are computed" in section(text, "low")


def test_a_job_that_is_recomputed_says_why_in_words(shop: Project) -> None:
    text = shop.cli("plan").stdout
    cube = section(text, "cube")
    assert "maintained: recompute and difference" in cube
    assert "why:        it groups by several sets of keys (ROLLUP, CUBE, GROUPING SETS)" in cube
    assert "why:        a file has no rows to exchange" in section(text, "file")
    assert "why:        the function takes whole inputs" in section(text, "whole")


def test_the_statements_are_shown_when_asked_for_laid_out_by_clause(shop: Project) -> None:
    assert "SELECT" not in shop.cli("plan").stdout
    text = shop.cli("plan", "total", "--sql").stdout
    assert "big:" not in text
    total = section(text, "total")
    for rule in ("whole", "merge", "affected keys"):
        assert f"-- {rule}\n" in total
    assert '\nFROM "@input:rows"\nGROUP BY\n"_k0"' in total
    cube = section(shop.cli("plan", "cube", "--sql").stdout, "cube")
    assert '-- statement\nSELECT\n"orders"."customer" AS "customer"' in cube


def test_json_has_the_same_under_stages(shop: Project) -> None:
    jobs = {job["job"]: job for job in shop.json("plan")["jobs"]}
    (stage,) = jobs["total"]["stages"]
    assert (stage["stage"], stage["rule"], stage["reads"], stage["key"]) == (
        "output",
        "group",
        ["orders"],
        ["customer"],
    )
    assert stage["rules"] == ["merge", "affected keys", "whole"]
    assert stage["last"] == "merge"
    assert {(cost["rule"], cost["per"]) for cost in stage["costs"]} == {("merge", "changes"), ("whole", "rows")}
    assert stage["statements"].keys() == {"whole", "merge", "affected keys"}
    assert [stage["why"] for stage in jobs["sorted"]["stages"]] == ["median cannot be added up"]
    assert (jobs["cube"]["stages"], jobs["big"]["stages"]) == ([], [])
    assert shop.json("plan", "total")["jobs"] == [jobs["total"]]


def test_a_job_that_is_not_there_is_named(shop: Project) -> None:
    refused = shop.cli("plan", "totl", code=2)
    assert "there is no job `totl`; there are big, cube, " in refused.stderr
