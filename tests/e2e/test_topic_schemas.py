"""Topics whose events change their columns: nothing is lost, readers take it in, and what cannot be is seen."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.e2e.conftest import Project, alarms, ran, rows, until, watching

SHOP = """
[project]
name = "shop"
[assets.orders]
kind = "topic"
id = "order_id"
schema = "{policy}"
[assets.orders.columns]
order_id = "varchar"
customer = "varchar"
amount = "integer"
"""
EVOLVING, STRICT, IGNORING = (SHOP.format(policy=policy) for policy in ("evolve", "strict", "ignore"))
JOBS = {
    "jobs/total.sql": "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as amount from orders group by customer\n",
    "jobs/copy.sql": "-- mode: {mode}\nselect * from orders\n",
    "jobs/best.sql": "-- mode: {mode}\nselect * from orders qualify row_number() over (partition by customer order by amount desc) = 1\n",
    "jobs/sizes.sql": "-- mode: realtime\nselect n, count(*) as customers from total group by n\n",
    "jobs/seen.py": (
        "import tidemill as tm\n\n"
        '@tm.job(inputs="orders", output="seen", mode="{mode}")\n'
        "def seen(row: dict) -> dict:\n"
        '    return {{"order_id": row["order_id"], "clerk": row.get("clerk")}}\n'
    ),
}


def order(number: int, customer: str, amount: int, **more: Any) -> dict[str, Any]:
    return {"order_id": f"o{number}", "customer": customer, "amount": amount, **more}


def shop(project: Project, mode: str = "realtime", text: str = EVOLVING) -> Project:
    return project.write(
        {
            "tidemill.toml": text,
            **{name: job.replace("{mode}", mode).replace("{{", "{").replace("}}", "}") for name, job in JOBS.items()},
        }
    )


def versions(mill: Any) -> list[tuple[int, int, dict[str, str]]]:
    (found,) = [each for each in mill.assets() if each["asset"] == "orders"]
    return [(each["version"], each["since"], each["columns"]) for each in found["versions"]]


@pytest.mark.parametrize("mode", ["realtime", "batch"])
def test_readers_take_a_new_column_in_and_count_nothing_twice(project: Project, mode: str) -> None:
    shop(project, mode)
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 10), order(2, "bob", 20)])
        assert ran(mill)["failed"] == 0
        assert mill.emit("orders", [order(3, "ada", 5_000_000_000, clerk="eve")])["accepted"] == 1
        assert mill.emit("orders", [order(4, "bob", 1)])["accepted"] == 1
        assert ran(mill)["failed"] == 0
        copied = [("o1", 10, None), ("o2", 20, None), ("o3", 5_000_000_000, "eve"), ("o4", 1, None)]
        assert rows(mill, "select order_id, amount, clerk from copy order by 1") == copied
        assert rows(mill, "select order_id, amount, clerk from orders order by 1") == copied
        assert rows(mill, "select customer, clerk from best order by 1") == [("ada", "eve"), ("bob", None)]
        assert rows(mill, "select customer, n, amount::bigint from total order by 1") == [
            ("ada", 2, 5_000_000_010),
            ("bob", 2, 21),
        ]
        assert rows(mill, "select n, customers from sizes") == [(2, 2)]
        assert rows(mill, "select clerk from seen where order_id in ('o3', 'o4') order by order_id") == [
            ("eve",),
            (None,),
        ]
        assert ran(mill)["runs"] == 0
        assert [(version, since) for version, since, _ in versions(mill)] == [(1, 0), (2, 2)]
        assert versions(mill)[-1][2] == {
            "order_id": "varchar",
            "customer": "varchar",
            "amount": "bigint",
            "clerk": "varchar",
        }
        for job in ("total", "copy", "best", "seen"):
            assert mill.reconcile(job)["equal"], job
    with project.open() as mill:  # the file still declares three columns
        assert rows(mill, "select clerk from copy where order_id = 'o3'") == [("eve",)]
        mill.emit("orders", [order(5, "cyd", 2, clerk="bob")])
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select clerk from copy where order_id = 'o5'") == [("bob",)]
        assert ran(mill)["runs"] == 0


def test_what_evolve_cannot_take_is_parked_and_seen(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        told = mill.emit(
            "orders", [order(1, "ada", 1), {**order(2, "ada", 1), "amount": "many", "x": 1}, order(3, "ada", 1)]
        )
        assert (told["accepted"], told["parked"]) == (2, 1)
        assert told["results"][0]["column"] == "amount"
        assert len(versions(mill)) == 1
        assert alarms(mill) == ["1 row is parked at the door of orders: see tidemill dead list"]
        (letter,) = mill.dead()
        mill.edit_dead(letter["id"], '{"order_id": "o2", "customer": "ada", "amount": 7, "x": 1}')
        mill.replay_dead([letter["id"]])
        ran(mill)
        assert rows(mill, "select order_id, x from copy where x is not null") == [("o2", 1)]
        assert alarms(mill) == []


def test_strict_parks_what_is_not_declared_until_it_is(project: Project) -> None:
    shop(project, text=STRICT)
    with project.open() as mill:
        told = mill.emit("orders", [order(1, "ada", 1), order(2, "ada", 1, clerk="eve")])
        assert [(each["index"], each["reason"]) for each in told["results"]] == [(1, "the field clerk is not declared")]
        (letter,) = mill.dead()
    project.write({"tidemill.toml": STRICT + 'clerk = "varchar"\n'})
    with project.open() as mill:
        mill.replay_dead([letter["id"]])
        ran(mill)
        assert rows(mill, "select order_id, clerk from copy order by 1") == [("o1", None), ("o2", "eve")]


def test_a_topic_that_evolved_is_strict_again_with_what_it_has(project: Project) -> None:
    """Columns that events brought and nobody declared are columns no more; declared again, they show what they said."""
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 1, clerk="eve")])
        ran(mill)
    shop(project, text=STRICT)
    with project.open() as mill:
        assert mill.emit("orders", [order(2, "ada", 1, clerk="bob")])["parked"] == 1
        mill.emit("orders", [order(4, "ada", 1)])
        assert ran(mill)["failed"] == 0
        assert list(mill.query("select * from copy")[0]) == ["order_id", "customer", "amount"]
    shop(project, text=STRICT + 'clerk = "varchar"\n')
    with project.open() as mill:
        mill.emit("orders", [order(3, "ada", 1, clerk="cyd")])
        ran(mill)
        assert rows(mill, "select order_id, clerk from copy order by 1") == [("o1", "eve"), ("o3", "cyd"), ("o4", None)]


def test_many_senders_with_many_new_fields_lose_nothing(project: Project) -> None:
    """Each thread brings its own columns while jobs run: every event is there once, with all it said."""
    shop(project)
    with watching(project) as mill:

        def send(who: int) -> None:
            for number in range(15):
                extra = {f"f{who}_{number // 5}": number}
                mill.emit("orders", [order(who * 100 + number, f"c{who}", 1, **extra)])

        threads = [threading.Thread(target=send, args=(who,)) for who in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: rows(mill, "select sum(n)::int from total") == [(60,)], "all are counted")
        until(lambda: rows(mill, "select count(*) from copy") == [(60,)], "all are copied")
        mill.run(())
        for who in range(1, 5):
            for part in range(3):
                name = f"f{who}_{part}"
                found = rows(mill, f"select {name} from copy where {name} is not null order by 1")
                assert found == [(number,) for number in range(part * 5, part * 5 + 5)], name
        assert mill.reconcile("copy")["equal"]
        assert mill.reconcile("total")["equal"]
        assert mill.status()["alarms"] == []


def test_while_it_runs_a_shape_that_old_events_forbid_keeps_the_old_one(project: Project) -> None:
    shop(project, text=IGNORING)
    with watching(project) as mill:
        mill.emit("orders", [order(1, "ada", 1)])
        project.write({"tidemill.toml": IGNORING.replace('"integer"', '"varchar"')})
        until(lambda: any("amount cannot become varchar" in each for each in alarms(mill)))
        assert mill.emit("orders", [order(2, "ada", 2)])["accepted"] == 1  # the door still knows the old one
        until(lambda: rows(mill, "select amount::int from total") == [(3,)])
        project.write({"tidemill.toml": IGNORING})
        until(lambda: alarms(mill) == [])


def test_a_project_that_old_events_keep_from_opening_says_why_and_how_to_mend_it_and_nothing_else(
    project: Project,
) -> None:
    shop(project, text=IGNORING)
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 1)])
        ran(mill)
    project.write({"tidemill.toml": IGNORING.replace('"integer"', '"varchar"')})
    done = project.cli("run", code=None)
    assert done.returncode != 0
    said = done.stderr.splitlines()
    assert said[0].startswith("Error: topic orders has 1 event, so column amount cannot become varchar")
    assert said[1].startswith("  mend: ")
    assert len(said) == 2


def test_show_tells_an_asset_and_its_versions(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 1)])
        mill.emit("orders", [order(2, "ada", 5_000_000_000, clerk="eve")])
    shown = project.json("show", "orders")
    assert (shown["schema"], [each["version"] for each in shown["versions"]]) == ("evolve", [1, 2])
    text = project.cli("show", "orders").stdout
    assert "orders (topic, schema evolve)" in text
    assert "amount bigint, clerk varchar" in text
    assert "did you mean `orders`?" in project.cli("show", "order", code=2).stderr
