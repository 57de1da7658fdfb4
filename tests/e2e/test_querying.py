"""What each kind of asset is to a query, before and after anything was written."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest

from tests.e2e.conftest import ORDERS, Project, order, ran
from tidemill.core.errors import UserError

COPY = {
    "jobs/copy.py": "import tidemill as tm\n@tm.job(inputs='orders', output='copied')\ndef copy(row: dict) -> dict:\n    return row\n"
}
EXTRACT = '[assets.report]\nkind = "extract"\npath = "out/report.{form}"\nformat = "{form}"\n'
TYPED = """-- materialized: extract
-- mode: realtime
select id, '007' as code, amount, amount::decimal(10,2) / 4 as quarter, date '2024-01-02' as day,
  timestamp '2024-01-02 03:04:05' as at, '' as empty, null::varchar as nothing, amount > 2 as is_large
from orders order by id
"""


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_an_extract_is_its_file_as_it_is_now_in_the_types_of_its_job(project: Project, form: str) -> None:
    project.write({"tidemill.toml": ORDERS + EXTRACT.format(form=form), "jobs/report.sql": TYPED})
    with project.open() as mill:
        assert mill.query("select * from report") == []
        assert mill.query("select count(*) as n from report where code = '007'") == [{"n": 0}]
        mill.emit("orders", [order(1, amount=1), order(2, amount=3)])
        ran(mill)
        assert mill.query("select count(*) as n from Report") == [{"n": 2}]
        (row,) = mill.arrow("select * from report where is_large").to_pylist()
        quarter = row.pop("quarter")
        assert (type(quarter), float(quarter)) in ((Decimal, 0.75), (float, 0.75))
        assert row == {
            "id": "o2", "code": "007", "amount": 3, "day": date(2024, 1, 2), "at": datetime.fromisoformat("2024-01-02 03:04:05"),
            "empty": "", "nothing": None, "is_large": True,
        }  # fmt: skip
        assert mill.query("select r.id from report r join orders o using (id) order by 1") == [
            {"id": "o1"},
            {"id": "o2"},
        ]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_an_extract_that_another_version_of_its_job_wrote_is_read_as_it_is(project: Project, form: str) -> None:
    project.write({"tidemill.toml": ORDERS + EXTRACT.format(form=form), "jobs/report.sql": TYPED})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
    project.write({"jobs/report.sql": "-- materialized: extract\nselect id, customer from orders"})
    assert [row["code"] for row in project.json("query", "select * from report")] == ["007"]


def test_an_output_that_nobody_knows_the_columns_of_is_empty_and_naming_one_says_what_would_tell(
    project: Project,
) -> None:
    files = '[assets.readings]\nkind = "files"\npath = "in/{site}.csv"\n'
    project.write({"tidemill.toml": ORDERS + files, **COPY, "jobs/after.sql": "select * from readings"})
    with project.open() as mill:
        for asset in ("copied", "readings", "after"):
            assert mill.query(f"select * from {asset}") == []
            assert mill.arrow(f"select * from {asset}").column_names == []
            assert mill.query(f"select count(*) as n from {asset}") == [{"n": 0}]
        with pytest.raises(
            UserError, match="the columns of `copied` are not known yet, for job `copy` has not written it"
        ) as caught:
            mill.query("select amount from copied")
        assert caught.value.mend == "run it: tidemill run copy, or declare its columns"
        with pytest.raises(UserError, match="the columns of `readings` are not known yet, for no file has landed"):
            mill.query("select value from readings")
        mill.emit("orders", [order(1, amount=7)])
        ran(mill)
        assert mill.query("select amount from copied") == [{"amount": 7}]


def test_what_has_only_versions_has_no_rows_to_ask_for(project: Project) -> None:
    outside = '[assets.crm]\nkind = "external"\n'
    with (
        project.write({"tidemill.toml": ORDERS + outside}).open() as mill,
        pytest.raises(UserError, match="`crm` is held elsewhere: it has versions and no rows"),
    ):
        mill.query("select * from crm")


def test_a_query_leaves_nothing_behind_that_the_next_would_read(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **COPY})
    with project.open() as mill:
        assert mill.query("select * from copied") == []
        mill.emit("orders", [order(1)])
        ran(mill)
        assert [row["id"] for row in mill.query("select * from copied")] == ["o1"]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("insert into orders values (1)", "this is an INSERT statement"),
        ("create table x as select 1", "this is a CREATE statement"),
        ("explain select 1", "this is an EXPLAIN statement"),
        ("select 1; select 2", "these are 2 statements"),
        ("", "there is no SQL"),
    ],
)
def test_a_statement_that_asks_for_no_rows_is_told_as_what_it_is(project: Project, sql: str, found: str) -> None:
    with project.write({"tidemill.toml": ORDERS}).open() as mill, pytest.raises(UserError) as caught:
        mill.query(sql)
    assert caught.value.message == f"rows are asked for by one query, and {found}"
    assert "tidemill emit" in caught.value.mend
