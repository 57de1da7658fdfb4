"""A topic's contract changes: nothing that was there is lost, and everything comes to rest."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Project, ran, rows

SHOP = """
[project]
name = "shop"
[assets.orders]
kind = "topic"
id = "order_id"
[assets.orders.columns]
order_id = "varchar"
day = "date"
amount = "decimal(10,2)"
"""
SALES = "-- mode: realtime\nselect day, count(*) as orders, sum(amount) as amount from orders group by all\n"
LARGE = """
import tidemill as tm

@tm.job(inputs="orders", output="large", mode="batch")
def large(row: dict) -> dict | None:
    return {"order_id": row["order_id"], "amount": row["amount"]} if row["amount"] > 1000 else None
"""


def sold(number: int, amount: str) -> dict[str, str]:
    return {"order_id": f"o{number}", "day": "2026-01-05", "amount": amount}


@pytest.mark.parametrize(
    ("before", "after"),
    [('amount = "decimal(10,2)"', 'amount = "decimal(12,3)"'), ("", 'note = "varchar"')],
    ids=["a type is widened", "a column is added"],
)
def test_a_topic_that_gets_other_columns_keeps_its_history(project: Project, before: str, after: str) -> None:
    project.write({"tidemill.toml": SHOP, "jobs/sales.sql": SALES, "jobs/large.py": LARGE})
    with project.open() as mill:
        mill.emit("orders", [sold(1, "100.00"), sold(2, "200.00")])
        ran(mill)
    project.write({"tidemill.toml": SHOP.replace(before, after) if before else SHOP + after + "\n"})
    with project.open() as mill:
        mill.emit("orders", [sold(3, "1.00")])
        assert ran(mill)["runs"] <= 4
        assert rows(mill, "select orders, amount::integer from sales") == [(3, 301)]
        assert rows(mill, "select count(*) from orders") == [(3,)]
        assert ran(mill)["runs"] == 0


def test_the_first_decimals_of_a_python_job_do_not_limit_later_ones(project: Project) -> None:
    project.write({"tidemill.toml": SHOP, "jobs/large.py": LARGE})
    with project.open() as mill:
        for number, amount in enumerate(("1200.00", "25000.00")):
            mill.emit("orders", [sold(number, amount)])
            ran(mill)
        assert rows(mill, "select amount::integer from large order by 1") == [(1200,), (25000,)]
        assert mill.dead() == []
