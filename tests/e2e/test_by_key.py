"""Python jobs by key: called with all current rows of each key that a change set touches, and for no other key."""

from __future__ import annotations

import random

import pytest

from tests.e2e.conftest import Project, Row, ran, rows
from tests.seeds import first_seed
from tidemill.project.mill import Mill

BASE = first_seed()
MODES = ("realtime", "microbatch", "batch")

ASSETS = """[project]
name = "shop"
[assets.orders]
kind = "topic"
id = "id"
[assets.orders.columns]
id = "varchar"
customer = "varchar"
shop = "integer"
amount = "integer"
[assets.stock]
kind = "topic"
key = ["item"]
semantics = "upsert"
[assets.stock.columns]
item = "varchar"
place = "varchar"
rate = "double"
level = "integer"
[assets.prices]
kind = "files"
path = "in/{shop}.csv"
format = "csv"
on_delete = "retract"
[assets.prices.columns]
item = "varchar"
price = "integer"
"""

TOTALS = """
import pathlib
import pyarrow as pa
import tidemill as tm

CALLS = pathlib.Path(__file__).with_name("calls")


@tm.job(inputs="orders", output="totals", by="customer", mode="realtime")
def totals(orders: pa.Table) -> dict | None:
    customers, amounts = set(orders["customer"].to_pylist()), orders["amount"].to_pylist()
    with CALLS.open("a") as calls:
        calls.write(f"{customers.pop()} {amounts}\\n")
    assert not customers
    if None in amounts:
        raise ValueError("an order has no amount")
    return {"customer": orders["customer"][0].as_py(), "n": len(amounts), "amount": sum(amounts)} if sum(amounts) else None
"""


def shop(project: Project, **files: str) -> Project:
    return project.write({"tidemill.toml": ASSETS, "jobs/totals.py": TOTALS, **files})


def order(number: int, customer: str | None = "ada", amount: int | None = 1, shop: int | None = 1) -> Row:
    return {"id": f"o{number}", "customer": customer, "shop": shop, "amount": amount}


def calls(project: Project) -> list[str]:
    """The calls since they were last asked for."""
    path = project.folder / "jobs" / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_a_key_is_given_all_its_rows_in_the_order_of_arrival_and_no_other_key_is_called(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", 5), order(2, "bob", 2), order(3, "ada", 1)])
        ran(mill)
        assert sorted(calls(project)) == ["ada [5, 1]", "bob [2]"]
        mill.emit("orders", [order(4, "ada", 3)])
        ran(mill)
        assert calls(project) == ["ada [5, 1, 3]"]
        assert rows(mill, "select * from totals order by customer") == [("ada", 3, 9), ("bob", 1, 2)]


def test_the_outputs_of_a_key_become_exactly_what_the_function_returns_now(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", 5), order(2, None, 7)])
        ran(mill)
        assert rows(mill, "select * from totals order by all") == [("ada", 1, 5), (None, 1, 7)]
        mill.emit("orders", [order(3, "ada", -5), order(4, None, 1)])
        ran(mill)
        assert rows(mill, "select * from totals") == [(None, 2, 8)]


LEVELS = """
import pyarrow as pa
import tidemill as tm


@tm.job(inputs="stock", output="levels", by=["place", "rate"], columns={"place": "varchar", "rate": "double", "levels": "varchar"})
def levels(stock: pa.Table) -> list[dict]:
    first = stock.slice(0, 1).to_pylist()[0]
    assert stock.num_rows
    return [{"place": first["place"], "rate": first["rate"], "levels": str(list(zip(stock["item"].to_pylist(), stock["level"].to_pylist())))}]


@tm.job(inputs="stock", output="places", by="place", isolation="process", columns={"place": "varchar", "items": "bigint"})
def places(stock: pa.Table) -> pa.Table:
    return stock.group_by("place").aggregate([("item", "count")]).rename_columns({"item_count": "items"})


@tm.job(inputs="prices", output="cheapest", by="item", columns={"item": "varchar", "shop": "varchar", "price": "integer"})
def cheapest(prices: pa.Table) -> dict | None:
    known = [row for row in prices.to_pylist() if row["price"] is not None]
    return min(known, key=lambda row: (row["price"], row["shop"])) if known else None


@tm.job(inputs="per_shop", output="chained", by="n", columns={"n": "bigint", "shops": "varchar"})
def chained(per_shop: pa.Table) -> dict:
    return {"n": per_shop["n"][0].as_py(), "shops": str(per_shop["shop"].to_pylist())}
"""
PER_SHOP = "select shop, count(*) as n from prices group by shop"
EXPECTED: dict[str, str] = {
    "levels": """select place, rate, '[' || string_agg('(''' || item || ''', ' || coalesce(level::varchar, 'None') || ')', ', '
        order by item, level) || ']' as levels from stock group by place, rate, rate::varchar""",
    "places": "select place, count(item) as items from stock group by place",
    "cheapest": """select item, shop, price from prices where price is not null
        qualify row_number() over (partition by item order by price, shop) = 1""",
    "chained": f"select n, '[' || string_agg('''' || shop || '''', ', ' order by shop) || ']' as shops "
    f"from ({PER_SHOP}) group by n",
}


class History:
    """Random changes of rows that can go, with keys that are null, not a number, and minus nothing."""

    def __init__(self, mill: Mill, project: Project, pick: random.Random) -> None:
        self.mill, self.project, self.pick = mill, project, pick
        self.files: set[str] = set()

    def step(self) -> None:
        chosen = self.pick.randrange(4)
        if chosen < 2:
            self.mill.emit("stock", [self._level() for _ in range(self.pick.randrange(1, 4))])
        elif chosen == 2 or not self.files:
            self._land(self.pick.choice("abc"))
        else:
            gone = self.pick.choice(sorted(self.files))
            self.files.discard(gone)
            self.project.remove(f"in/{gone}.csv")

    def _level(self) -> Row:
        item = self.pick.choice("abcdef")
        if self.pick.random() < 0.3:
            return {"item": item, "_deleted": True}
        rate = self.pick.choice([None, 0.0, -0.0, 1.5])
        return {
            "item": item,
            "place": self.pick.choice(["x", "y", None]),
            "rate": rate,
            "level": self.pick.randrange(3),
        }

    def _land(self, name: str) -> None:
        lines = [
            f"{self.pick.choice(['a', 'b', ''])},{self.pick.choice([1, 2, ''])}" for _ in range(self.pick.randrange(4))
        ]
        self.files.add(name)
        self.project.write({f"in/{name}.csv": "\n".join(["item,price", *lines]) + "\n"})


def content(mill: Mill, sql: str) -> list[str]:
    return sorted(map(str, mill.query(sql)))


@pytest.mark.parametrize("number", range(8))
def test_every_history_in_every_mode_gives_what_one_run_over_the_final_rows_gives(
    project: Project, number: int
) -> None:
    seed = BASE + number
    pick = random.Random(seed)
    project.write({"tidemill.toml": ASSETS, "jobs/levels.py": LEVELS, "jobs/per_shop.sql": f"-- when: any\n{PER_SHOP}"})
    with project.open() as mill:
        for name in ("per_shop", *EXPECTED):
            mill.mode(name, pick.choice(MODES))
        history = History(mill, project, pick)
        for _ in range(7):
            for _ in range(pick.randrange(1, 4)):
                history.step()
            ran(mill)
            mill.mode(pick.choice(list(EXPECTED)), pick.choice(MODES))
        assert [run["error"] for run in mill.runs(limit=1000) if run["state"] != "succeeded"] == [], seed
        for name, expected in EXPECTED.items():
            assert content(mill, f"select * from {name}") == content(mill, expected), (seed, name)


def test_a_key_whose_call_fails_parks_its_new_rows_and_keeps_what_it_had(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", 5), order(2, "bob", 2)])
        ran(mill)
        mill.emit("orders", [order(3, "ada", None), order(4, "ada", 1), order(5, "bob", 1)])
        ran(mill)
        assert rows(mill, "select * from totals order by customer") == [("ada", 1, 5), ("bob", 2, 3)]
        letters = [(letter["payload"], letter["reason"]) for letter in mill.dead() if letter["job"] == "totals"]
        assert {reason for _, reason in letters} == {"ValueError: an order has no amount, for customer = 'ada'"}
        assert sorted(payload[:13] for payload, _ in letters) == ['{"id": "o3", ', '{"id": "o4", ']
        mill.emit("orders", [order(6, "ada", 2)])
        ran(mill)
        assert rows(mill, "select n, amount from totals where customer = 'ada'") == [(2, 7)]


def test_the_first_run_and_a_rebuild_leave_the_keys_out_that_fail(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", None), order(2, "bob", 2)])
        ran(mill)
        assert rows(mill, "select * from totals") == [("bob", 1, 2)]
    project.write({"jobs/totals.py": TOTALS.replace("sum(amounts)}", "2 * sum(amounts)}")})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select * from totals") == [("bob", 1, 4)]
        assert [letter["job"] for letter in mill.dead()] == ["totals"]


REMAINING = """
import pyarrow as pa
import tidemill as tm


@tm.job(inputs="stock", output="complete", by="place", retries=0)
def complete(stock: pa.Table) -> dict:
    if stock.num_rows < 2:
        raise ValueError("one is too few")
    return {"place": stock["place"][0].as_py(), "n": stock.num_rows}
"""


def test_a_key_that_fails_for_what_it_lost_fails_the_run_and_nothing_is_parked(project: Project) -> None:
    project.write({"tidemill.toml": ASSETS, "jobs/complete.py": REMAINING})
    with project.open() as mill:
        mill.emit("stock", [{"item": item, "place": "x"} for item in "ab"])
        ran(mill)
        mill.emit("stock", [{"item": "a", "_deleted": True}])
        assert ran(mill)["failed"] == 1
        assert mill.runs()[0]["error"].startswith(
            "job complete: ValueError: one is too few, for place = 'x', which has lost rows"
        )
        assert mill.dead() == []
        assert rows(mill, "select * from complete") == [("x", 2)]
        mill.emit("stock", [{"item": "b", "_deleted": True}])
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select * from complete") == []


def test_another_by_is_another_job_and_makes_the_table_anew(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", 5, shop=1), order(2, "bob", 2, shop=1)])
        ran(mill)
        calls(project)
    by_shop = TOTALS.replace('by="customer"', 'by=["customer", "shop"]')
    with project.write({"jobs/totals.py": by_shop}).open() as mill:
        mill.emit("orders", [order(3, "ada", 1, shop=2)])
        ran(mill)
        assert sorted(calls(project)) == ["ada [1]", "ada [5]", "bob [2]"]
        assert rows(mill, "select amount from totals order by 1") == [(1,), (2,), (5,)]


def test_a_change_of_one_key_calls_for_that_key_alone_and_plan_says_so(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(number, f"c{number}", 1) for number in range(2_000)])
        ran(mill)
        assert len(calls(project)) == 2_000
        mill.emit("orders", [order(9_999, "c7", 1)])
        ran(mill)
        assert calls(project) == ["c7 [1, 1]"]
        assert "by key" in str(mill.plan()["jobs"][0]["maintained"])


@pytest.mark.parametrize(
    ("written", "message", "mend"),
    [
        ('by="custmer"', "job totals: by names custmer, which is not a column of orders", "write customer"),
        ('by="customer", takes="row"', "by='customer' and takes='row' contradict each other", "leave takes out"),
        ('by=["customer", "customer"]', "by names a column twice: customer, customer", "name each once"),
    ],
)
def test_what_by_cannot_mean_is_refused_with_the_mend(project: Project, written: str, message: str, mend: str) -> None:
    shop(project).write({"jobs/totals.py": TOTALS.replace('by="customer"', written)})
    said = project.cli("check", code=2).stderr
    assert message in said
    assert mend in said


def test_a_row_function_by_key_and_a_topic_as_its_output_are_refused(project: Project) -> None:
    shop(project).write({"jobs/totals.py": TOTALS.replace("orders: pa.Table", "orders: dict")})
    assert "so it takes one table" in project.cli("check", code=2).stderr
    done = '[assets.totals]\nkind = "topic"\n[assets.totals.columns]\ncustomer = "varchar"\nn = "bigint"\namount = "bigint"\n'
    project.write({"tidemill.toml": ASSETS + done, "jobs/totals.py": TOTALS})
    assert "all rows of a customer are made anew" in project.cli("check", code=2).stderr


def test_fixtures_run_jobs_by_key_in_all_modes(project: Project) -> None:
    given = "\n".join(
        f"{{ id = '{number}', customer = '{customer}', amount = {number} }},"
        for number, customer in enumerate("aabba", 1)
    )
    expected = "{ customer = 'a', n = 3, amount = 8 }, { customer = 'b', n = 2, amount = 7 }"
    shop(project).write(
        {"fixtures/sums.toml": f"[given.orders]\nrows = [{given}]\n[expect.totals]\nrows = [{expected}]\n"}
    )
    assert project.json("test")["failed"] == 0


def test_reconcile_computes_jobs_by_key_from_the_log_and_finds_them_equal(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, "ada", 5), order(2, None, 2), order(3, "ada", 1), order(4, "bob", 1)])
        ran(mill)
        mill.emit("orders", [order(5, "ada", None), order(6, None, 1)])
        ran(mill)
    said = project.json("reconcile", "totals")
    assert (said["equal"], said["missing"], said["extra"], said["different"]) == (True, 0, 0, 0)
