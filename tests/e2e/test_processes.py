"""Processes: killed, stopped, asked, copied and restored (rules 9, 12, 31)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ORDERS, Project, ended, order, ran, rows, until
from tests.seeds import first_seed
from tidemill.core.errors import StorageFull, TidemillError

Start = Callable[..., subprocess.Popen[str]]
KILLS = int(os.environ.get("TIDEMILL_KILLS", "10"))
JOBS = {
    "jobs/total.sql": "-- mode: realtime\nselect customer, count(*) n, sum(amount) s from orders group by all",
    "jobs/top.sql": "-- mode: realtime\nselect max(s) top, count(*) n from total",
    "jobs/copy.sql": "-- mode: realtime\nselect id, amount from orders where amount % 2 = 0",
    "jobs/double.py": "import tidemill as tm\n@tm.job(inputs='orders', output='double', mode='realtime', columns={'id': 'varchar', 'n': 'integer'})\n"
    "def double(row: dict) -> list[dict]:\n    return [{'id': row['id'], 'n': n} for n in range(row['amount'] % 3)]\n",
    "jobs/read.sql": "-- mode: realtime\nselect shop, item, price from prices",
}
ASSETS = (
    ORDERS
    + '[assets.prices]\nkind = "files"\npath = "in/{shop}.csv"\nformat = "csv"\n[assets.prices.columns]\nitem = "varchar"\nprice = "integer"\n'
)
SHOWN = {
    "total": "select customer, n, s from total order by all",
    "top": "select top, n from top",
    "copy": "select id, amount from copy order by all",
    "double": "select id, n from double order by all",
    "read": "select shop, item, price from read order by all",
}
EXPECTED = {
    "total": "select customer, count(*) n, sum(amount) s from orders group by all order by all",
    "top": "select max(s) top, count(*) n from (select sum(amount) s from orders group by customer)",
    "copy": "select id, amount from orders where amount % 2 = 0 order by all",
    "double": "select id, unnest(range(amount % 3))::integer n from orders order by all",
    "read": "select shop, item, price from prices order by all",
}


def events(pick: random.Random, first: int, count: int) -> str:
    made = [order(number, pick.choice("abc"), pick.randrange(100)) for number in range(first, first + count)]
    return "".join(json.dumps(event) + "\n" for event in made)


def is_up(project: Project) -> bool:
    try:
        return bool(json.loads((project.folder / ".tidemill/address").read_text())["address"])
    except (OSError, ValueError):
        return False


def up(project: Project, started: Start, *words: str) -> subprocess.Popen[str]:
    process = started(project, *words)
    until(lambda: process.poll() is not None or is_up(project), "it answers")
    assert process.poll() is None, process.communicate()
    return process


def test_tables_are_right_after_ten_kills_at_random_moments(project: Project, started: Start) -> None:
    seed = first_seed()
    pick = random.Random(seed)
    project.write({"tidemill.toml": ASSETS, **JOBS})
    sent = 0
    for kill in range(KILLS):
        process = started(project, "run", "--watch")
        project.write({f"in/{pick.choice('xyz')}.csv": f"item,price\na,{kill}\nb,{pick.randrange(9)}\n"})
        until(lambda p=process: is_up(project) or p.poll() is not None)
        name = f"events{kill}.ndjson"
        count = pick.randrange(200, 2_000)
        project.write({name: events(pick, sent, count)})
        sent += count
        sending = started(project, "emit", "orders", "--file", str(project.folder / name))
        waits = pick.random() * 0.5
        with contextlib.suppress(subprocess.TimeoutExpired):
            sending.wait(timeout=waits)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if sending.poll() is None:
            os.kill(sending.pid, signal.SIGKILL)
            sending.wait()
        project.cli("emit", "orders", "--file", str(project.folder / name), code=None) if pick.random() < 0.3 else None
    with project.open() as mill:
        for kill in range(KILLS):  # what the sender does not know to be there it sends again
            mill.emit("orders", (project.folder / f"events{kill}.ndjson").read_bytes())
        ran(mill)
        assert rows(mill, "select count(*), count(distinct id) from orders") == [(sent, sent)], f"TIDEMILL_SEED={seed}"
        for name, sql in SHOWN.items():
            assert rows(mill, sql) == rows(mill, EXPECTED[name]), f"TIDEMILL_SEED={seed}: {name}"
        assert mill.dead() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("words", [("run", "--watch"), ("serve", "--port", "0")], ids=["watch", "serve"])
def test_a_signal_ends_a_long_command_in_order(
    project: Project, started: Start, words: tuple[str, ...], number: int, code: int
) -> None:
    process = up(project.write({"tidemill.toml": ASSETS, **JOBS}), started, *words)
    os.kill(process.pid, number)
    assert ended(process) == code
    assert not (project.folder / ".tidemill/address").exists()
    assert project.json("run")["failed"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_that_waits_for_a_command(project: Project, started: Start, number: int, code: int) -> None:
    project.write(
        {
            "tidemill.toml": '[assets.day]\nkind = "files"\npath = "day.csv"\nformat = "binary"\n'
            '[jobs.j]\ninputs = ["day"]\ncommand = ["python", "j.py"]\n',
            "j.py": "import pathlib, time\npathlib.Path('begun').write_text('')\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n",
            "day.csv": "1",
        }
    )
    process = started(project, "run")
    until((project.folder / "begun").exists)
    os.kill(process.pid, number)
    project.write({"go": ""})
    assert ended(process) == code


def test_a_second_process_asks_the_owner(project: Project, started: Start) -> None:
    project.write({"tidemill.toml": ASSETS, **JOBS, "e.ndjson": json.dumps(order(1, amount=2)) + "\n"})
    process = up(project, started, "serve", "--port", "0")
    assert project.json("emit", "orders", "--file", str(project.folder / "e.ndjson"))["accepted"] == 1
    assert project.json("run")["failed"] == 0
    assert project.json("query", "select n from top") == [{"n": 1}]
    assert {job["job"] for job in project.json("status")["jobs"]} == {"total", "top", "copy", "double", "read"}
    with pytest.raises(TidemillError, match=str(process.pid)):
        project.open()


def test_a_backup_taken_while_running_restores_elsewhere_and_goes_on(
    project: Project, started: Start, tmp_path: Path
) -> None:
    pick = random.Random(1)
    project.write(
        {"tidemill.toml": ASSETS, **JOBS, "a.ndjson": events(pick, 0, 500), "b.ndjson": events(pick, 500, 500)}
    )
    process = up(project, started, "serve", "--port", "0")
    project.json("emit", "orders", "--file", str(project.folder / "a.ndjson"))
    sending = started(project, "emit", "orders", "--file", str(project.folder / "b.ndjson"))
    project.cli("backup", str(tmp_path / "copy"))
    assert ended(sending) == 0
    os.kill(process.pid, signal.SIGTERM)
    ended(process)
    elsewhere = Project(tmp_path / "elsewhere")
    shutil.copytree(project.folder, elsewhere.folder, ignore=shutil.ignore_patterns(".tidemill"))
    elsewhere.cli("restore", str(tmp_path / "copy"))
    with elsewhere.open() as mill:
        ran(mill)
        (count,) = rows(mill, "select count(*) from orders")[0]
        assert 500 <= count <= 1000
        for name, sql in SHOWN.items():
            assert rows(mill, sql) == rows(mill, EXPECTED[name]), name
    elsewhere.cli("emit", "orders", "--file", str(elsewhere.folder / "b.ndjson"))
    elsewhere.cli("run")
    with elsewhere.open() as mill:
        assert rows(mill, "select count(*) from orders") == [(1000,)]
        for name, sql in SHOWN.items():
            assert rows(mill, sql) == rows(mill, EXPECTED[name]), name


def fill(project: Project) -> None:
    with project.write({"tidemill.toml": ASSETS, **JOBS}).open() as mill:
        mill.emit("orders", [order(number) for number in range(10)])
        ran(mill)


def test_a_ledger_that_is_no_database_is_said_with_the_mend(project: Project) -> None:
    fill(project)
    (project.folder / ".tidemill/ledger.db").write_bytes(b"this was a ledger once" * 500)
    for beside in project.folder.glob(".tidemill/ledger.db-*"):
        beside.unlink()
    done = project.cli("status", "--json", code=1)
    said = json.loads(done.stderr)["error"]
    assert said["kind"] == "StateCorrupt"
    assert "restore" in said["mend"]
    assert "ledger.db" in said["message"] + said["place"]


def test_a_state_of_a_newer_version_is_not_touched(project: Project) -> None:
    fill(project)
    with sqlite3.connect(project.folder / ".tidemill/ledger.db") as database:
        (version,) = database.execute("pragma user_version").fetchone()
        database.execute(f"pragma user_version = {version + 1000}")
    database.close()
    said = json.loads(project.cli("status", "--json", code=1).stderr)["error"]
    assert said["kind"] == "StateTooNew"
    assert said["mend"]


def test_a_ledger_of_an_older_day_beside_the_tables_of_today_stops_everything_until_both_are_of_one_moment(
    project: Project,
) -> None:
    """What a careless restore leaves behind: cursors beyond their heads. They never count as zero."""
    fill(project)
    state = project.folder / ".tidemill"
    shutil.copytree(state, project.folder / "older")
    with project.open() as mill:
        mill.emit("orders", [order(number) for number in range(10, 20)])
        ran(mill)
        before = rows(mill, SHOWN["total"])
    shutil.copytree(state, project.folder / "newer")
    for ledger in state.glob("ledger.db*"):
        ledger.unlink()
    for ledger in (project.folder / "older").glob("ledger.db*"):
        shutil.copy(ledger, state)
    for words in (("run",), ("emit", "orders", "--row", json.dumps(order(100)))):
        said = json.loads(project.cli(*words, "--json", code=1).stderr)["error"]
        assert said["kind"] == "StateCorrupt"
        assert "orders" in said["message"]
        assert "restore both" in said["mend"]
    shutil.rmtree(state)
    shutil.copytree(project.folder / "newer", state)
    with project.open() as mill:
        ran(mill)
        assert rows(mill, SHOWN["total"]) == before


def test_a_full_disk_stops_the_work_and_loses_nothing(project: Project, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        tight = Project(small / "project")
        tight.folder.mkdir()
        (small / "ballast").write_bytes(bytes(36_000_000))
        with tight.write({"tidemill.toml": ASSETS, "jobs/copy.sql": JOBS["jobs/copy.sql"]}).open() as mill:
            accepted, is_full = 0, False
            for block in range(1_000):
                try:
                    accepted += mill.emit("orders", [order(block * 500 + n, "x" * 200, n) for n in range(500)])[
                        "accepted"
                    ]
                except StorageFull:
                    is_full = True
                    break
            assert is_full
            (small / "ballast").unlink()
            assert accepted
            assert mill.emit("orders", [order(-1, amount=2)])["accepted"] == 1  # there is room again: the work goes on
            until(lambda: rows(mill, "select count(*) from copy where id = 'o-1'") == [(1,)])
        with tight.open() as mill:
            ran(mill)
            assert rows(mill, "select count(*) from orders") == [(accepted + 1,)]
            assert rows(mill, SHOWN["copy"]) == rows(mill, EXPECTED["copy"])
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
