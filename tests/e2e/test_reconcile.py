"""Reconciling: whatever was done behind the engine's back is found, counted and mended, readers included (rule 29)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, order, ran, rows, until
from tidemill.core.errors import TidemillError

CURRENT = 9223372036854775807
TOTALS = "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as total from orders group by customer"
EQUAL = {"equal": True, "missing": 0, "extra": 0, "different": 0, "repaired": 0}


def by_hand(project: Project, *statements: str) -> None:
    """Change the tables behind the engine's back."""
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        for statement in statements:
            tables.execute(statement)


def counts(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in EQUAL}


def found(**counted: Any) -> dict[str, Any]:
    return {**EQUAL, "equal": False, **counted}


def shop(project: Project, **jobs: str) -> None:
    files = {f"jobs/{name}.sql": text for name, text in ({"totals": TOTALS} | jobs).items()}
    project.write({"tidemill.toml": ORDERS, **files})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n) for n in range(1, 7)])
        ran(mill)


def test_what_nobody_touched_is_equal(project: Project) -> None:
    shop(project, large="-- mode: realtime\nselect id, amount from orders where amount > 2")
    with project.open() as mill:
        assert counts(mill.reconcile("totals")) == EQUAL
        assert counts(mill.reconcile("large")) == EQUAL
        assert mill.reconcile("totals", repair=True)["repaired"] == 0


EDITS = {
    "an edited row": ("update store.totals set total = 99 where customer = 'ada'", {"different": 1}),
    "a lost row": ("delete from store.totals where customer = 'bob'", {"missing": 1}),
    "a doubled row": ("insert into store.totals select * from store.totals where customer = 'ada'", {"extra": 1}),
    "a foreign row": (
        f"insert into store.totals (customer, n, total, _rid, _from, _until) values ('eve', 1, 1, 'x', 1, {CURRENT})",
        {"extra": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "counted"), EDITS.values(), ids=EDITS)
def test_a_hand_edited_output_is_found_and_mended_with_its_readers(
    project: Project, edit: str, counted: dict[str, int]
) -> None:
    shop(project, grand="-- mode: realtime\nselect sum(total) as grand, count(*) as customers from totals")
    by_hand(project, edit)
    with project.open() as mill:
        assert counts(mill.reconcile("totals")) == found(**counted)
        assert counts(mill.reconcile("totals", repair=True)) == found(**counted, repaired=1)
        assert counts(mill.reconcile("totals")) == EQUAL
        assert rows(mill, "select * from totals order by 1") == [("ada", 3, 9), ("bob", 3, 12)]
        assert next(a["rows"] for a in mill.status()["assets"] if a["asset"] == "totals") == 2
        ran(mill)
        assert rows(mill, "select * from grand") == [(21, 2)]
        mill.emit("orders", [order(7, "ada", 100)])
        ran(mill)
        assert rows(mill, "select * from totals order by 1") == [("ada", 4, 109), ("bob", 3, 12)]
        assert rows(mill, "select * from grand") == [(121, 2)]
        assert [counts(mill.reconcile(job)) for job in ("totals", "grand")] == [EQUAL, EQUAL]


def test_a_reader_that_took_what_was_edited_comes_right(project: Project) -> None:
    """It was computed from the edited row, so that the difference alone would not do."""
    shop(project)
    by_hand(project, "update store.totals set total = 99 where customer = 'ada'")
    project.write({"jobs/grand.sql": "-- mode: realtime\nselect sum(total) as grand from totals"})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select * from grand") == [(111,)]
        assert mill.reconcile("totals", repair=True)["rebuilt"] == ["grand"]
        ran(mill)
        assert rows(mill, "select * from grand") == [(21,)]


@pytest.mark.parametrize(
    "edit",
    ["delete from store.orders where id = 'o1'", "insert into store.orders select * from store.orders where id = 'o1'"],
    ids=["dropped", "duplicated"],
)
def test_an_event_dropped_or_duplicated_behind_the_engines_back_is_found_and_mended(
    project: Project, edit: str
) -> None:
    """The copy of the topic is changed before a job counts it for the first time; the log is the truth."""
    shop(project)
    by_hand(project, edit)
    project.write(
        {"jobs/counted.sql": "-- mode: realtime\nselect customer, count(*) as n from orders group by customer"}
    )
    with project.open() as mill:
        ran(mill)
        answer = mill.reconcile("counted")
        assert counts(answer) == found(different=1)
        assert answer["samples"]["different"][0]["expected"] == {"customer": "ada", "n": 3}
        assert answer["copies"]["orders"]["missing" if edit.startswith("delete") else "extra"] == 1
        assert counts(mill.reconcile("totals")) == found()
        mill.reconcile("counted", repair=True)
        ran(mill)
        assert rows(mill, "select * from counted order by 1") == [("ada", 3), ("bob", 3)]
        mill.emit("orders", [order(7, "ada", 100)])
        ran(mill)
        assert [counts(mill.reconcile(job)) for job in ("counted", "totals")] == [EQUAL, EQUAL]
        assert rows(mill, "select * from counted order by 1") == [("ada", 4), ("bob", 3)]


def test_a_stale_input_row_is_found(project: Project) -> None:
    rates = "-- mode: realtime\n-- key: customer\nselect customer, max(amount) as rate from orders group by customer"
    priced = "-- mode: realtime\nselect o.id, r.rate from orders o join rates r using (customer)"
    shop(project, rates=rates, priced=priced)
    by_hand(project, "update store.rates set rate = 50 where customer = 'bob'")
    with project.open() as mill:
        answer = mill.reconcile("priced")
        assert (answer["missing"], answer["extra"]) == (3, 3)
        mill.reconcile("rates", repair=True)
        ran(mill)
        assert [counts(mill.reconcile(job)) for job in ("rates", "priced")] == [EQUAL, EQUAL]


def test_a_consumer_that_acknowledged_without_processing_is_found_and_mended(project: Project) -> None:
    """Its cursor says that it read what it never saw."""
    shop(project)
    with project.open() as mill:
        mill.pause("totals")
        mill.emit("orders", [order(n, "eve", 5) for n in (7, 8)])
        transaction = mill.machine.tables.begin()
        known = transaction.progress("totals")
        assert known is not None
        transaction.settle(replace(known, cursors={"orders": 8}), known)
        transaction.commit()
    with project.open() as mill:
        answer = mill.reconcile("totals")
        assert counts(answer) == found(missing=1)
        assert answer["samples"]["missing"] == [{"customer": "eve", "n": 2, "total": 10}]
        assert counts(mill.reconcile("totals", repair=True)) == found(missing=1, repaired=1)
        mill.resume("totals")
        mill.emit("orders", [order(9, "eve", 5)])
        ran(mill)
        assert rows(mill, "select n, total from totals where customer = 'eve'") == [(3, 15)]
        assert counts(mill.reconcile("totals")) == EQUAL


def test_joins_without_keys_are_repaired_and_go_on_from_there(project: Project) -> None:
    joined = "-- mode: realtime\nselect o.id, s.level from orders o join stock s on s.item = o.customer"
    project.write({"tidemill.toml": ORDERS + STOCK, "jobs/joined.sql": joined})
    with project.open() as mill:
        mill.emit("orders", [order(n, "a") for n in (1, 2)])
        mill.emit("stock", [{"item": "a", "level": 5, "seq": 1}])
        ran(mill)
        mill.emit("stock", [{"item": "a", "level": 6, "seq": 2}])
        ran(mill)
    by_hand(project, "delete from store.joined where id = 'o1'", "update store.stock set level = 9")
    with project.open() as mill:
        assert counts(mill.reconcile("joined")) == found(missing=1)
        mill.reconcile("joined", repair=True)
        assert rows(mill, "select * from joined order by 1") == [("o1", 6), ("o2", 6)]
        mill.emit("stock", [{"item": "a", "level": 7, "seq": 3}])
        ran(mill)
        assert rows(mill, "select * from joined order by 1") == [("o1", 7), ("o2", 7)]
        assert counts(mill.reconcile("joined")) == EQUAL


def test_python_jobs_are_reconciled_too(project: Project) -> None:
    code = (
        "import tidemill as tm\n\n"
        "@tm.job(inputs='orders', output='large', mode='realtime', columns={'id': 'varchar', 'twice': 'integer'})\n"
        "def large(row: dict) -> dict | None:\n"
        "    return {'id': row['id'], 'twice': row['amount'] * 2} if row['amount'] > 3 else None\n"
    )
    project.write({"jobs/large.py": code})
    shop(project)
    by_hand(project, "update store.large set twice = 0 where id = 'o4'", "delete from store.large where id = 'o5'")
    with project.open() as mill:
        assert counts(mill.reconcile("large")) == found(missing=1, different=1)
        assert mill.reconcile("large", repair=True)["repaired"] == 2
        assert rows(mill, "select * from large order by 1") == [("o4", 8), ("o5", 10), ("o6", 12)]


def test_readers_with_outside_effects_receive_the_repair(project: Project) -> None:
    send = (
        "import json\nfrom pathlib import Path\nimport tidemill as tm\n\n"
        "@tm.job(inputs='totals', outputs='sent', mode='realtime')\n"
        "def send(run: tm.Run) -> None:\n"
        "    told = [row['customer'] for row in run.changes('totals').to_pylist()]\n"
        f"    with Path({str(project.folder / 'sent.txt')!r}).open('a') as file:\n"
        "        file.write(json.dumps(told) + '\\n')\n"
    )
    project.write({"jobs/send.py": send})
    shop(project)
    by_hand(project, "delete from store.totals where customer = 'bob'")
    with project.open() as mill:
        mill.reconcile("totals", repair=True)
        ran(mill)
    assert project.lines("sent.txt")[-1] == '["bob"]'


def test_a_late_file_is_found_against_the_nightly_table(project: Project) -> None:
    files = '[assets.counted]\nkind = "files"\npath = "landing/{day}.csv"\n[assets.counted.columns]\ncustomer = "varchar"\nn = "bigint"\n'
    project.write(
        {"tidemill.toml": ORDERS + files, "jobs/live.sql": "select customer, count(*) as n from orders group by all"}
    )
    project.write({"jobs/nightly.sql": "select customer, sum(n)::bigint as n from counted group by all"})
    project.write({"landing/1.csv": "customer,n\nada,1\n"})
    with project.open() as mill:
        mill.emit("orders", [order(1), order(2, "bob")])
        ran(mill)
        assert counts(mill.reconcile("live", against="nightly")) == found(extra=1)
        project.write({"landing/2.csv": "customer,n\nbob,1\n"})
        assert counts(mill.reconcile("nightly")) == EQUAL
        ran(mill)
        assert counts(mill.reconcile("live", against="nightly")) == EQUAL


def test_gated_jobs_are_compared_with_what_was_released(project: Project) -> None:
    files = '[assets.sheets]\nkind = "files"\npath = "in/{site}/{day}.csv"\ncomplete.site = ["a", "b"]\n[assets.sheets.columns]\nhours = "integer"\n'
    project.write({"tidemill.toml": f'[project]\nname = "pay"\n{files}'})
    project.write({"jobs/pay.sql": "-- gate: day\nselect day, sum(hours) as hours from sheets group by day"})
    for site in "ab":
        project.write({f"in/{site}/2026-01-01.csv": "hours\n4\n"})
    project.write({"in/a/2026-01-02.csv": "hours\n4\n"})
    with project.open() as mill:
        ran(mill)
        assert counts(mill.reconcile("pay")) == EQUAL
        assert rows(mill, "select hours from pay") == [(8,)]
    by_hand(project, "update store.pay set hours = 9")
    with project.open() as mill:
        assert counts(mill.reconcile("pay")) == found(different=1)
        mill.reconcile("pay", repair=True)
        assert rows(mill, "select hours from pay") == [(8,)]


def test_parked_rows_are_no_difference(project: Project) -> None:
    code = (
        "import tidemill as tm\n\n"
        "@tm.job(inputs='orders', output='halves', mode='realtime', columns={'id': 'varchar', 'half': 'integer'})\n"
        "def halves(row: dict) -> dict:\n"
        "    return {'id': row['id'], 'half': 12 // (row['amount'] - 3)}\n"
    )
    project.write({"jobs/halves.py": code})
    shop(project)
    with project.open() as mill:
        assert len(mill.dead()) == 1
        assert counts(mill.reconcile("halves")) == EQUAL


def test_what_cannot_be_reconciled_says_why_and_what_to_do(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        for name, words in {"orders": "no job writes", "totls": "did you mean `totals`"}.items():
            with pytest.raises(TidemillError, match=words):
                mill.reconcile(name)
        with pytest.raises(TidemillError, match="has no column total"):
            mill.reconcile("totals", against="select customer, n from totals")
        with pytest.raises(TidemillError, match="there is no file"):
            mill.reconcile("totals", against="nothing.csv")
        assert counts(mill.reconcile("totals", against="select * from totals")) == EQUAL


def test_the_command_says_what_differs_and_ends_with_1_until_it_is_repaired(project: Project, tmp_path: Path) -> None:
    shop(project)
    by_hand(project, "update store.totals set total = 99 where customer = 'ada'")
    shown = project.cli("reconcile", "totals", code=1)
    assert '- {"customer": "ada", "n": 3, "total": 99}' in shown.stdout
    assert '+ {"customer": "ada", "n": 3, "total": 9}' in shown.stdout
    (tmp_path / "nightly.csv").write_text("customer,n,total\nada,3,99\nbob,3,12\n")
    assert project.json("reconcile", "totals", "--against", str(tmp_path / "nightly.csv"))["equal"]
    assert counts(project.json("reconcile", "totals", code=1)) == found(different=1)
    assert counts(project.json("reconcile", "totals", "--repair")) == found(different=1, repaired=1)
    assert counts(project.json("reconcile", "totals")) == EQUAL
    repaired = project.json("runs", "--job", "totals")[0]
    assert (repaired["state"], repaired["rows_out"]) == ("succeeded", 1)


def test_another_process_that_owns_the_project_repairs_and_its_readers_come_right_at_once(
    project: Project, started: Callable[..., Any]
) -> None:
    shop(project)
    by_hand(project, "update store.totals set total = 99 where customer = 'ada'")
    project.write({"jobs/grand.sql": "-- mode: realtime\nselect sum(total) as grand from totals"})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select * from grand") == [(111,)]
    started(project, "run", "--watch")
    until((project.folder / ".tidemill/address").exists, "the owner's address")
    assert counts(project.json("reconcile", "totals", code=1)) == found(different=1)
    mended = project.cli("reconcile", "totals", "--repair")
    assert "repaired: 1 row" in mended.stdout
    assert "comparing totals" in mended.stderr
    until(lambda: project.json("query", "select * from grand") == [{"grand": 21}], "the reader")


def test_history_that_has_expired_is_said_and_nothing_is_repaired(project: Project) -> None:
    shop(project)
    by_hand(project, "update store.totals set total = 99 where customer = 'ada'")
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada", 0) for n in range(100, 120)])
        ran(mill)
        assert mill.machine.ledger.trim("orders", 6) > 0
        for repair in (False, True):
            with pytest.raises(TidemillError, match="`orders` has expired"):
                mill.reconcile("totals", repair=repair)
        assert rows(mill, "select total from totals where customer = 'ada'") == [(99,)]
