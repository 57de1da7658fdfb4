"""SQL that is maintained from change sets, as a user meets it: parked rows, restarts, other columns, who reads it."""

from __future__ import annotations

import random

import pytest

from tests.e2e.conftest import Project, ran, rows

SHOP = """
[project]
name = "shop"
[assets.sales]
kind = "topic"
key = ["id"]
semantics = "upsert"
[assets.sales.columns]
id = "bigint"
shop = "varchar"
amount = "varchar"
[assets.shops]
kind = "topic"
key = ["shop"]
semantics = "upsert"
[assets.shops.columns]
shop = "varchar"
city = "varchar"
"""
BY_CITY = """-- mode: {mode}
select c.city, count(*) as sales, sum(s.amount::integer) as amount, max(s.amount::integer) as most
from sales s left join shops c on c.shop = s.shop group by all
"""
TOP = """-- mode: realtime
select city, sales, amount, row_number() over (order by amount desc nulls last, city) as place from by_city qualify place <= 2
"""


def truth(sales: dict[int, tuple[str, str]], shops: dict[str, str]) -> list[tuple[object, ...]]:
    """What the job says of these rows, without those that it cannot process."""
    cities: dict[str | None, list[int]] = {}
    for shop, amount in sales.values():
        if amount.isdigit():
            cities.setdefault(shops.get(shop), []).append(int(amount))
    found = [(city, len(amounts), sum(amounts), max(amounts)) for city, amounts in cities.items()]
    return sorted(found, key=lambda row: (row[0] is None, row[0] or ""))


@pytest.mark.parametrize("mode", ["realtime", "batch"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_that_cannot_be_processed_are_in_no_state_until_they_can(project: Project, mode: str, seed: int) -> None:
    project.write({"tidemill.toml": SHOP, "jobs/by_city.sql": BY_CITY.format(mode=mode), "jobs/top.sql": TOP})
    choose = random.Random(seed)
    sales: dict[int, tuple[str, str]] = {}
    shops: dict[str, str] = {}
    for step in range(8):
        with project.open() as mill:
            for _ in range(choose.choice([1, 2, 5])):
                number, shop = choose.randrange(12), choose.choice("abc")
                amount = "much" if step and choose.random() < 0.2 else str(choose.randrange(100))
                sales[number] = (shop, amount)
                mill.emit("sales", [{"id": number, "shop": shop, "amount": amount}])
            if not step or choose.random() < 0.5:
                shop, city = choose.choice("abc"), choose.choice(["x", "y", None])
                shops[shop] = city or ""
                mill.emit("shops", [{"shop": shop, "city": city or ""}])
            if sales and choose.random() < 0.5:
                gone = choose.choice(sorted(sales))
                del sales[gone]
                mill.emit("sales", [{"id": gone, "_deleted": True}])
            ran(mill)
            table = rows(mill, "select city, sales, amount::integer, most from by_city order by city nulls last")
            assert table == truth(sales, shops), f"seed {seed}, step {step}"
            best = sorted(table, key=lambda row: (-row[2], row[0] is None, row[0] or ""))[:2]
            assert [row[0] for row in rows(mill, "select city from top order by place")] == [row[0] for row in best]


def test_the_plan_of_what_is_in_stages_is_told(project: Project) -> None:
    project.write({"tidemill.toml": SHOP, "jobs/by_city.sql": BY_CITY.format(mode="batch"), "jobs/top.sql": TOP})
    with project.open() as mill:
        plans = {job["job"]: job for job in mill.plan()["jobs"]}
    assert plans["by_city"]["maintained"].startswith("incremental: merge")
    assert [stage["rule"] for stage in plans["by_city"]["stages"]] == ["group", "linear"]
    assert "PARTITION BY" in plans["top"]["stages"][0]["why"]
