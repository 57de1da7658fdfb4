"""`replay --into`: a job's result beside the live one, made in slices that are checkpoints (rule 28)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import DEADLINE_SECONDS, ORDERS, Project, order, ran, rows, until, watching
from tidemill.core.errors import TidemillError

TOTALS = "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as total from orders group by customer"
LARGE = "-- mode: realtime\nselect id, amount from orders where amount > 2"
TOP = "-- mode: realtime\nselect customer, total from totals order by total desc limit 1"
CODE = """import tidemill as tm

@tm.job(inputs='orders', output='halves', mode='realtime', columns={'id': 'varchar', 'half': 'integer'})
def halves(row: dict) -> dict:
    return {'id': row['id'], 'half': 12 // (row['amount'] - 3)}
"""


def shop(project: Project, **jobs: str) -> None:
    project.write({"tidemill.toml": ORDERS, **{f"jobs/{name}.sql": text for name, text in jobs.items()}})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n) for n in range(1, 7)])
        ran(mill)


JOBS = {
    "totals": (TOTALS, "select * from {} order by 1"),
    "large": (LARGE, "select * from {} order by 1"),
    "top": (TOP, "select * from {}"),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_side_table_holds_what_the_live_table_holds_and_the_live_one_is_not_touched(
    project: Project, job: str
) -> None:
    shop(project, **{"totals": TOTALS, job: JOBS[job][0]})
    query = JOBS[job][1]
    with project.open() as mill:
        heads = {each["asset"]: each["head"] for each in mill.status()["assets"]}
        done = mill.replay(job, into="again")
        assert (done["state"], done["into"], done["failed"]) == ("finished", "again", 0)
        assert rows(mill, query.format("again")) == rows(mill, query.format(job)) != []
        assert done["rows"] == len(rows(mill, "select * from again"))
        after = {each["asset"]: each["head"] for each in mill.status()["assets"]}
        assert {name: after[name] for name in heads} == heads
        mill.emit("orders", [order(7, "eve", 100)])
        ran(mill)
        assert rows(mill, query.format("again")) != rows(mill, query.format(job))
        mill.replay(job, into="again")
        assert rows(mill, query.format("again")) == rows(mill, query.format(job))


def test_a_side_table_is_there_for_queries_and_comparisons_of_later_processes(project: Project) -> None:
    shop(project, totals=TOTALS)
    made = project.json("replay", "totals", "--into", "again")
    assert (made["rows"], made["inputs"]) == (2, {"orders": [0, 6]})
    assert project.json("query", "select count(*) as n from again") == [{"n": 2}]
    assert project.json("reconcile", "totals", "--against", "again")["equal"]
    assert "again: gone" in project.cli("replay", "totals", "--into", "again", "--abandon").stdout
    assert "there is no asset `again`" in project.cli("query", "select * from again", code=2).stderr


def test_the_present_code_is_what_is_replayed(project: Project) -> None:
    shop(project, totals=TOTALS)
    project.write({"jobs/totals.sql": TOTALS.replace("sum(amount)", "max(amount)")})
    shown = project.cli("replay", "totals", "--into", "again")
    assert "again: 2 rows" in shown.stdout
    assert project.json("query", "select customer, total from again order by 1") == [
        {"customer": "ada", "total": 5},
        {"customer": "bob", "total": 6},
    ]


def test_a_part_of_the_input_is_replayed_where_rows_have_a_result_of_their_own(project: Project) -> None:
    shop(project, totals=TOTALS, large=LARGE)
    with project.open() as mill:
        mill.replay("large", into="newest", start="4")
        assert rows(mill, "select id from newest order by 1") == [("o5",), ("o6",)]
        mill.replay("large", into="all_of_them", start="2020-01-01")
        assert len(rows(mill, "select id from all_of_them")) == 4
        mill.replay("large", into="none", start="2999-01-01T06:00:00Z")
        assert rows(mill, "select id from none") == []
        with pytest.raises(TidemillError, match="no result of a part of its input: its rows are made of many"):
            mill.replay("totals", into="part", start="4")
        with pytest.raises(TidemillError, match="`soon` is neither an offset nor a time"):
            mill.replay("large", into="part", start="soon")
        with pytest.raises(TidemillError, match="`orders` reaches only offset 6"):
            mill.replay("large", into="part", start="7")


def test_rows_that_cannot_be_processed_are_left_out_and_counted(project: Project) -> None:
    project.write({"jobs/halves.py": CODE})
    shop(project)
    with project.open() as mill:
        done = mill.replay("halves", into="again")
        assert (done["rows"], done["parked"]) == (5, 1)
        assert rows(mill, "select * from again order by 1") == rows(mill, "select * from halves order by 1")
        assert len(mill.dead()) == 1


def test_what_a_job_asserts_of_its_output_does_not_stop_a_part_of_it(project: Project) -> None:
    shop(project, large=f"-- assert: rows between 4 and 9\n{LARGE}")
    with project.open() as mill:
        assert mill.replay("large", into="newest", start="4")["rows"] == 2


def test_a_gated_job_is_replayed_over_what_its_gate_released(project: Project) -> None:
    files = '[assets.sheets]\nkind = "files"\npath = "in/{site}/{day}.csv"\ncomplete.site = ["a", "b"]\n[assets.sheets.columns]\nhours = "integer"\n'
    project.write({"tidemill.toml": f'[project]\nname = "pay"\n{files}'})
    project.write({"jobs/pay.sql": "-- gate: day\nselect day, sum(hours) as hours from sheets group by day"})
    for site in "ab":
        project.write({f"in/{site}/2026-01-01.csv": "hours\n4\n"})
    project.write({"in/a/2026-01-02.csv": "hours\n4\n"})
    with project.open() as mill:
        ran(mill)
        mill.replay("pay", into="again")
        assert rows(mill, "select * from again") == [("2026-01-01", 8)] == rows(mill, "select * from pay")


def test_where_a_gate_has_released_nothing_the_side_table_is_empty(project: Project) -> None:
    files = '[assets.sheets]\nkind = "files"\npath = "in/{site}/{day}.csv"\ncomplete.site = ["a", "b"]\n[assets.sheets.columns]\nhours = "integer"\n'
    project.write({"tidemill.toml": f'[project]\nname = "pay"\n{files}', "in/a/2026-01-01.csv": "hours\n4\n"})
    project.write({"jobs/pay.sql": "-- gate: day\nselect day, sum(hours) as hours from sheets group by day"})
    with project.open() as mill:
        ran(mill)
        assert mill.replay("pay", into="again")["rows"] == 0


WRONG = {
    "a table of the project": ("large", "totals", "`totals` is defined in this project"),
    "a topic": ("large", "Orders", "`orders` is defined in this project"),
    "no name": ("large", "a b", "is not a name for a table"),
    "an unknown job": ("larg", "again", "did you mean `large`"),
}


@pytest.mark.parametrize(("job", "table", "words"), WRONG.values(), ids=WRONG)
def test_a_side_table_never_stands_in_for_something_else(project: Project, job: str, table: str, words: str) -> None:
    shop(project, totals=TOTALS, large=LARGE)
    with project.open() as mill, pytest.raises(TidemillError, match=words):
        mill.replay(job, into=table)


def many(project: Project, count: int) -> None:
    """A job by row that notes each call, over this many orders; the last 4,000 wait for as long as there is a file `hold`."""
    waits = f"    while row['amount'] > {count - 4_000} and (HERE / 'hold').exists():\n        PAUSE.wait(0.01)\n"
    code = CODE.replace("    return", f"{waits}    open(HERE / 'calls', 'a').write(row['id'] + '\\n')\n    return")
    code = code.replace(
        "import tidemill as tm",
        "import pathlib\nimport threading\nimport tidemill as tm\nHERE = pathlib.Path(__file__).parent.parent",
    )
    code = code.replace("@tm.job", "PAUSE = threading.Event()\n\n@tm.job")
    project.write({"tidemill.toml": ORDERS, "jobs/halves.py": code})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada", n + 3) for n in range(1, count + 1)])
        ran(mill)
    project.remove("calls")


def killed(project: Project, started: Callable[..., subprocess.Popen[str]], *words: str) -> int:
    """Begin a replay of `many` by these words, and kill it and who serves it in its last slices; how many rows were called."""
    serving = started(project, "run", "--watch")
    until((project.folder / ".tidemill/address").exists, "the owner's address")
    project.write({"hold": ""})
    asking = started(project, *words)
    until(lambda: len(project.lines("calls")) > 6_000, "slices")
    for process in (asking, serving):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    project.remove("hold")
    return len(project.lines("calls"))


def test_a_killed_replay_goes_on_without_doing_finished_slices_again(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    many(project, 12_000)
    words = ("replay", "halves", "--into", "again")
    called = killed(project, started, *words)
    done = project.json(*words)
    assert (done["state"], done["rows"]) == ("finished", 12_000)
    assert len(project.lines("calls")) - called < 12_000 - 1_500
    assert project.json("reconcile", "halves", "--against", "again")["equal"]


def test_a_paused_job_pauses_its_replay_and_resumed_it_goes_on(project: Project) -> None:
    many(project, 12_000)
    with watching(project) as mill, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(mill.replay, "halves", into="again")
        until(lambda: len(project.lines("calls")) > 500, "slices")
        with pytest.raises(TidemillError, match="a replay or backfill of `halves` is going on"):
            mill.replay("halves", into="another")
        mill.pause("halves")
        assert asking.result(DEADLINE_SECONDS)["state"] == "paused"
        assert len(project.lines("calls")) < 12_000
        with pytest.raises(TidemillError, match="is paused"):
            mill.replay("halves", into="again")
        mill.resume("halves")
        assert mill.replay("halves", into="again")["rows"] == 12_000
        assert len(project.lines("calls")) == 12_000


def test_an_unfinished_replay_from_elsewhere_is_not_mixed_with_another(project: Project) -> None:
    shop(project, large=LARGE)
    with project.open() as mill:
        mill.replay("large", into="again", start="2")
        note = mill.machine.ledger.noted("side", "again")
        mill.machine.ledger.note("side", "again", {**note, "state": "working"})
        with pytest.raises(TidemillError, match="is being made from 2, and that is not finished"):
            mill.replay("large", into="again", start="3")


def answers(project: Project, *words: str) -> Any:
    return project.cli("replay", *words, code=2).stderr


def test_words_that_do_not_go_together_are_refused_with_what_to_write(project: Project) -> None:
    shop(project, large=LARGE)
    assert "leave out --dry-run" in answers(project, "large", "--into", "again", "--dry-run")
    for word in (["--rate", "5"], ["--from", "2"]):
        assert f"{word[0]} says nothing here" in answers(project, "large", *word)
