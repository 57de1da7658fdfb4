"""Dead letters that are settled, and tables that are made anew (rules 6, 28)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, alarms, order, ran, rows
from tidemill.core.errors import TidemillError

TOTALS = "-- mode: realtime\nselect customer, sum(amount) as total from orders group by customer"


def shop(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/totals.sql": TOTALS})


def letter(mill: Any) -> dict[str, Any]:
    (only,) = mill.dead()
    return dict(only)


def test_a_parked_event_is_mended_replayed_and_counted_once(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [order(1), {"id": "o2", "customer": "ada", "amount": "many"}])
        ran(mill)
        parked = letter(mill)
        (refused,) = mill.replay_dead([parked["id"]])
        assert (refused["state"], letter(mill)["attempts"], letter(mill)["state"]) == ("parked", 2, "parked")
        mill.edit_dead(parked["id"], '{"id": "o2",\n "customer": "ada", "amount": 5}')
        assert mill.replay_dead([parked["id"]]) == [{"id": parked["id"], "state": "replayed", "reason": ""}]
        ran(mill)
        assert rows(mill, "select * from totals") == [("ada", 6)]
        assert letter(mill)["state"] == "replayed"
        assert not [reason for reason in alarms(mill) if "parked" in reason]
        with pytest.raises(TidemillError, match="settled already: it was replayed"):
            mill.replay_dead([parked["id"]])
        again = mill.emit("orders", [{"id": "o2", "customer": "ada", "amount": 5}])
        assert again["duplicate"] == 1


def test_a_contract_that_was_widened_lets_parked_events_in(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [{"id": "o1", "customer": "ada", "amount": 5_000_000_000}])
        assert letter(mill)["state"] == "parked"
    project.write({"tidemill.toml": ORDERS.replace('"integer"', '"bigint"')})
    assert [each["state"] for each in project.json("dead", "replay", "--asset", "orders")] == ["replayed"]
    project.run()
    assert project.json("query", "select total from totals") == [{"total": 5_000_000_000}]


def test_a_discarded_event_is_kept_and_no_longer_told(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [{"id": "o1", "amount": "many"}])
        parked = letter(mill)["id"]
    assert [each["state"] for each in project.json("dead", "discard", parked)] == ["discarded"]
    assert [each["state"] for each in project.json("dead", "list")] == ["discarded"]
    assert project.json("status")["alarms"] == []
    assert "which events" in project.cli("dead", "discard", code=2).stderr
    assert "no dead letter nobody" in project.cli("dead", "replay", "nobody", code=2).stderr


def test_rows_that_a_job_parked_are_tried_again_by_its_replay(project: Project) -> None:
    code = (
        (
            "import tidemill as tm\n\n"
            "@tm.job(inputs='orders', output='halves', mode='realtime', version='1', columns={'half': 'integer'})\n"
            "def halves(row: dict) -> dict:\n"
            f"    open({str(project.folder / 'gate')!r}).close() if row['amount'] == 3 else None\n"
            "    return {'half': row['amount'] * 2}\n"
        )
        .replace("open(", "gate(")
        .replace("import tidemill as tm\n", "import tidemill as tm\nfrom pathlib import Path\n")
    )
    code = code.replace("gate(", "Path(").replace(").close() if", ").read_text().index('open') if")
    project.write({"tidemill.toml": ORDERS, "jobs/halves.py": code, "gate": "shut"})
    with project.open() as mill:
        mill.emit("orders", [order(n, amount=n) for n in (2, 3)])
        ran(mill)
        assert rows(mill, "select half from halves") == [(4,)]
        with pytest.raises(TidemillError, match="tidemill replay halves"):
            mill.replay_dead([letter(mill)["id"]])
        project.write({"gate": "open"})
        assert mill.replay("halves")["changes"] == 1
        assert rows(mill, "select half from halves order by 1") == [(4,), (6,)]
        assert mill.dead() == []


def test_replay_commits_the_difference_alone_and_dry_run_shows_it(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.emit("orders", [order(1), order(2, "bob")])
        ran(mill)
        head = {asset["asset"]: asset["head"] for asset in mill.status()["assets"]}["totals"]
        assert mill.replay("totals")["changes"] == 0
        assert {asset["asset"]: asset["head"] for asset in mill.status()["assets"]}["totals"] == head
        dry = mill.replay("totals", is_dry=True)
        assert (dry["equal"], dry["repaired"]) == (True, 0)
    counts = {"job": "totals", "runs": 1, "succeeded": 1, "failed": 0, "changes": 0}
    assert project.json("replay", "totals") == {**counts, "state": "finished", "slices": 1, "parked": 0}


def test_what_cannot_be_replayed_says_why(project: Project) -> None:
    shop(project)
    project.write(
        {"tidemill.toml": ORDERS + '[jobs.send]\ninputs = ["totals"]\noutputs = ["sent"]\ncommand = ["true"]\n'}
    )
    with project.open() as mill:
        mill.emit("orders", [order(n) for n in range(20)])
        ran(mill)
        with pytest.raises(TidemillError, match="`send` acts outside"):
            mill.replay("send", into="again")
        mill.pause("totals")
        with pytest.raises(TidemillError, match="is paused"):
            mill.replay("totals")
        mill.resume("totals")
        mill.emit("orders", [order(n) for n in range(20, 30)])
        ran(mill)
        assert mill.machine.ledger.trim("orders", 20) > 0
        with pytest.raises(TidemillError, match="`orders` has expired"):
            mill.replay("totals")
