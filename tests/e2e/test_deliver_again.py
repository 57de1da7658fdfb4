"""`replay` of jobs with outside effects: recorded runs again, under their keys, with a cursor of its own (rule 28)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from tests.e2e.conftest import DEADLINE_SECONDS, ORDERS, Project, order, ran, until
from tests.e2e.test_outside import SEND, emit, sending, sent
from tidemill.core.change import ORDINAL, PARENT, Appended
from tidemill.core.errors import TidemillError
from tidemill.project.mill import Mill
from tidemill.project.watching import keep_house
from tidemill.runtime.delivered import RUNS_MAX, SLACK, runs_asset


def delivered(project: Project) -> list[tuple[str, list[str]]]:
    """What was sent, apart from the run: the key, and the key of each row."""
    return [(each["key"], each["keys"]) for each in sent(project)]


def three_runs(project: Project, more: str = "") -> list[tuple[str, list[str]]]:
    """Three runs over orders 1 and 2, 3, and 4 to 6."""
    project.write(sending(more))
    with project.open() as mill:
        for first, last in ((1, 2), (3, 3), (4, 6)):
            emit(mill, first, last)
            ran(mill)
    return delivered(project)


def cursors(mill: Mill) -> Any:
    """How far the job has read, and how often its output changed."""
    held = mill.machine.ledger.positions()
    return dict(held.progress["send"].cursors), held.heads["sent"].offset


def test_every_run_is_delivered_again_in_its_pieces_and_with_its_keys(project: Project) -> None:
    first = three_runs(project)
    with project.open() as mill:
        before = cursors(mill)
        done = mill.replay("send")
        assert (done["state"], done["succeeded"], done["rows"], done["failed"]) == ("finished", 3, 6, 0)
        assert delivered(project) == first + first
        assert cursors(mill) == before
        emit(mill, 7, 7)
        ran(mill)
        assert sent(project)[-1]["ids"] == ["o7"]
        assert mill.replay("send")["succeeded"] == 4
    told = [run["mode"] for run in project.json("runs", "--job", "send")]
    assert (told.count("replay"), len(told)) == (7, 11)


def test_a_dry_run_tells_counts_and_keys_and_delivers_nothing(project: Project) -> None:
    first = three_runs(project)
    told = project.json("replay", "send", "--dry-run")
    assert told == {"job": "send", "runs": 3, "rows": 6, "held": False, "keys": [key for key, _ in first]}
    shown = project.cli("replay", "send", "--dry-run", "--from", "2").stdout
    assert "send: 2 runs with 4 rows to deliver again" in shown
    assert first[1][0] in shown
    assert delivered(project) == first


def test_from_an_offset_or_a_time_whole_runs_are_delivered_again(project: Project) -> None:
    first = three_runs(project)
    with project.open() as mill:
        mill.replay("send", start="4")
        assert delivered(project)[3:] == first[2:]
        mill.replay("send", start="2020-01-01")
        assert delivered(project)[4:] == first
        assert mill.replay("send", start="2999-01-01")["runs"] == 0
        with pytest.raises(TidemillError, match="neither an offset nor a time"):
            mill.replay("send", start="soon")


def test_a_large_replay_waits_for_apply_and_then_delivers_what_was_chosen(project: Project) -> None:
    first = three_runs(project, ", hold_above=3")
    assert project.json("replay", "send", "--from", "1")["state"] == "held"
    assert "let it go with tidemill apply" in project.cli("replay", "send").stderr
    assert delivered(project) == first
    with project.open() as mill:
        emit(mill, 7, 7)
        ran(mill)
        assert "send@replay" in mill.apply()["released"]
        assert mill.replay("send")["state"] == "finished"
        assert delivered(project)[4:] == first
        assert mill.replay("send")["state"] == "held", "another replay is another decision"


def test_an_unfinished_replay_can_be_let_go(project: Project) -> None:
    first = three_runs(project, ", hold_above=3")
    assert project.json("replay", "send")["state"] == "held"
    with project.open() as mill:
        with pytest.raises(TidemillError, match="a replay of `send` is not finished: 3 runs"):
            mill.replay("send", start="3")
        assert mill.replay("send", is_abandoned=True)["state"] == "abandoned"
        with pytest.raises(TidemillError, match="no replay of `send` is unfinished"):
            mill.replay("send", is_abandoned=True)
        assert mill.replay("send", start="3")["succeeded"] == 1
    assert delivered(project) == first + first[2:]


def test_a_rate_is_kept(project: Project) -> None:
    three_runs(project)
    with project.open() as mill:
        began = time.monotonic()
        assert mill.replay("send", rate=10)["rows"] == 6
        assert time.monotonic() - began >= 0.28, "two rows and one row go out before the last run"


def test_a_run_that_fails_is_tried_again_and_the_replay_goes_on_from_it(project: Project) -> None:
    first = three_runs(project, ", retries=1")
    project.write({"broken": ""})
    with project.open() as mill:
        done = mill.replay("send")
        assert (done["state"], done["failed"], done["succeeded"]) == ("failed", 1, 0)
        assert "the other side is down" in done["error"]
        assert delivered(project)[3:] == [first[0], first[0]]
        project.remove("broken")
        assert mill.replay("send")["succeeded"] == 3
        assert delivered(project)[5:] == first


def test_a_killed_replay_goes_on_where_it_was_and_only_the_delivery_that_was_cut_is_repeated(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    first = three_runs(project)
    slow = SEND.replace("MORE", "").replace(
        'if (HERE / "broken").exists():',
        'while (HERE / "broken").exists() and "o3" in run.changes("orders")["id"].to_pylist():',
    )
    project.write({"jobs/send.py": slow.replace('raise RuntimeError("the other side is down")', "pass"), "broken": ""})
    process = started(project, "replay", "send")
    until(lambda: len(sent(project)) == 5, "the second delivery")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("broken")
    assert project.json("replay", "send")["succeeded"] == 2
    assert delivered(project) == [*first, first[0], first[1], first[1], first[2]]


def test_a_paused_job_pauses_its_replay_between_two_runs(project: Project) -> None:
    first = three_runs(project)
    with project.open() as mill, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(mill.replay, "send", rate=1.5)
        until(lambda: len(sent(project)) == 4, "the first delivery")
        mill.pause("send")
        assert asking.result(DEADLINE_SECONDS)["state"] == "paused"
        with pytest.raises(TidemillError, match="is paused"):
            mill.replay("send")
        mill.resume("send")
        assert mill.replay("send")["state"] == "finished"
    assert delivered(project) == first + first


def test_commands_get_their_ranges_and_keys_again(project: Project) -> None:
    code = "import os; open('told.txt', 'a').write(os.environ['TIDEMILL_RUN'] + '\\n')\n"
    job = '\n[jobs.tell]\ninputs = ["orders"]\noutputs = ["told"]\ncommand = ["python", "tell.py"]\nmode = "realtime"\n'
    project.write({"tidemill.toml": ORDERS + job, "tell.py": code})
    with project.open() as mill:
        emit(mill, 1, 2)
        ran(mill)
        mill.replay("tell")
    first, again = map(json.loads, project.lines("told.txt"))
    assert (first["idempotency_key"], first["inputs"]) == (again["idempotency_key"], again["inputs"])
    assert first["run"] != again["run"]


def test_a_gated_job_delivers_a_value_again_with_the_rows_it_had_then(project: Project) -> None:
    files = '[assets.sheets]\nkind = "files"\npath = "in/{site}/{day}.csv"\ncomplete.site = ["a", "b"]\n[assets.sheets.columns]\nhours = "integer"\n'
    code = SEND.replace("MORE", ", gate='day'").replace("orders", "sheets").replace("realtime", "batch")
    code = code.replace('run.changes("sheets")["id"]', 'run.changes("sheets")["hours"]')
    project.write({"tidemill.toml": f'[project]\nname = "pay"\n{files}', "jobs/send.py": code})
    for day, hours in (("01", 4), ("02", 5)):
        for site in "ab":
            project.write({f"in/{site}/2026-01-{day}.csv": f"hours\n{hours}\n"})
    with project.open() as mill:
        ran(mill)
        first = sorted((each["key"], each["ids"]) for each in sent(project))
        assert [ids for _, ids in sorted(first, key=lambda each: each[1])] == [[4, 4], [5, 5]]
        assert mill.replay("send")["succeeded"] == 2
    assert sorted((each["key"], each["ids"]) for each in sent(project)[2:]) == first


def test_history_that_is_gone_is_refused_before_anything_is_delivered(project: Project) -> None:
    project.write(
        {
            **sending(),
            "jobs/send.py": SEND.replace("MORE", "").replace("orders", "totals").replace('["id"]', '["customer"]'),
        }
    )
    project.write(
        {"jobs/totals.sql": "-- mode: realtime\nselect customer, sum(amount) as total from orders group by customer"}
    )
    with project.open() as mill:
        for number in range(1, 4):
            mill.emit("orders", [order(number)])
            ran(mill)
        first = delivered(project)
        assert len(first) == 3
        with pytest.raises(
            TidemillError, match=r"the history of `totals` is gone up to offset \d+, so run .* cannot be"
        ):
            mill.replay("send")
        assert delivered(project) == first


def test_a_project_forgets_them_by_itself_and_an_audit_misses_nothing(project: Project) -> None:
    project.write(sending())
    count = RUNS_MAX + RUNS_MAX // SLACK
    with project.open() as mill:
        emit(mill, 1, 1)
        ran(mill)
        ledger = mill.machine.ledger
        transaction = ledger.begin()
        runs = [f"x{number}" for number in range(count)]  # as if so many had taken nothing new
        said = {"ranges": [json.dumps({"orders": (1, 1)})] * count, "opens": ["{}"] * count, "at": [0.0] * count}
        columns = {"run": runs, **said, PARENT: runs, ORDINAL: [0] * count}
        transaction.write(runs_asset("send"), Appended(pa.table(columns)))
        transaction.commit()
        emit(mill, 2, 2)
        ran(mill)
        keep_house(mill.machine)
        assert ledger.positions().heads[runs_asset("send")].rows == RUNS_MAX + 1
        assert mill.audit("send")["adds_up"]
