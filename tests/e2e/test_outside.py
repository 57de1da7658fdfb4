"""Effects outside tidemill: at least once, with the same range and key until it succeeded (rules 10, 26)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import ORDERS, Project, job_state, order, ran, settled, until, watching
from tidemill.project.mill import Mill

SEND = """import tidemill as tm
import json, pathlib

HERE = pathlib.Path(__file__).parent.parent

@tm.job(inputs="orders", outputs="sent", mode="realtime"MORE)
def send(run: tm.Run) -> None:
    with (HERE / "sent.txt").open("a") as file:
        file.write(json.dumps({"run": run.id, "attempt": run.attempt, "key": run.idempotency_key,
            "ids": run.changes("orders")["id"].to_pylist(), "keys": run.keys("orders")}) + "\\n")
    if (HERE / "broken").exists():
        raise RuntimeError("the other side is down")
"""


def sending(more: str = "") -> dict[str, str]:
    return {"tidemill.toml": ORDERS, "jobs/send.py": SEND.replace("MORE", more)}


def sent(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.lines("sent.txt")]


def emit(mill: Mill, first: int, last: int) -> None:
    mill.emit("orders", [order(number) for number in range(first, last + 1)])


def test_every_retry_takes_the_pinned_range_whatever_came_since(project: Project) -> None:
    project.write({**sending(", retries=0"), "broken": ""})
    with project.open() as mill:
        emit(mill, 1, 2)
        ran(mill)
        emit(mill, 3, 4)
        project.remove("broken")
        mill.retry("send")
        settled(mill)
        first, again, rest = sent(project)
        assert first["ids"] == again["ids"] == ["o1", "o2"]
        assert (first["key"], first["keys"]) == (again["key"], again["keys"])
        assert rest["ids"] == ["o3", "o4"]
        assert rest["key"] != first["key"]
        assert len(set(first["keys"] + rest["keys"])) == 4


def test_the_pinned_range_survives_the_process(project: Project) -> None:
    project.write({**sending(", retries=0"), "broken": ""})
    with project.open() as mill:
        emit(mill, 1, 2)
        ran(mill)
    project.remove("broken")
    with project.open() as mill:
        emit(mill, 3, 3)
        ran(mill)
    first, again, rest = sent(project)
    assert (first["ids"], first["key"]) == (again["ids"], again["key"])
    assert rest["ids"] == ["o3"]


def test_a_process_killed_in_the_middle_of_an_effect_repeats_it_with_the_same_key(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    slow = SEND.replace("MORE", "").replace('if (HERE / "broken").exists():', 'while (HERE / "broken").exists():')
    slow = slow.replace('raise RuntimeError("the other side is down")', "pass")
    project.write({"tidemill.toml": ORDERS, "jobs/send.py": slow, "broken": ""})
    with project.open() as mill:
        mill.pause("send")
        emit(mill, 1, 3)
        mill.machine.ledger.note("paused", "send", None)
    process = started(project, "run")
    until(lambda: len(sent(project)) == 1)
    until(lambda: project.json("runs"), "the run is reported: reports are written in groups, beside the work")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("broken")
    project.cli("run")
    first, again = sent(project)
    assert first["ids"] == again["ids"] == ["o1", "o2", "o3"]
    assert (first["key"], first["keys"]) == (again["key"], again["keys"])
    assert [run["state"] for run in project.json("runs")] == ["succeeded", "failed"]


def test_a_job_with_effects_that_is_added_later_starts_now(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "-- mode: realtime\nselect count(*) n from orders"})
    with project.open() as mill:
        emit(mill, 1, 5)
        ran(mill)
    project.write(sending())
    project.run()
    assert sent(project) == []
    with project.open() as mill:
        emit(mill, 6, 7)
        ran(mill)
    assert [each["ids"] for each in sent(project)] == [["o6", "o7"]]


def test_a_job_with_effects_may_ask_for_the_beginning(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "-- mode: realtime\nselect count(*) n from orders"})
    with project.open() as mill:
        emit(mill, 1, 5)
        ran(mill)
    project.write(sending(', start_from="beginning"'))
    project.run()
    assert [len(each["ids"]) for each in sent(project)] == [5]


def test_too_many_rows_are_held_and_apply_releases_exactly_that_range(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    with project.open() as mill:
        emit(mill, 1, 5)
        ran(mill)
        assert (sent(project), job_state(mill, "send")) == ([], "held")
        assert mill.runs()[0]["state"] == "held"
        emit(mill, 6, 7)
        ran(mill)
        assert sent(project) == []
        assert mill.apply()["released"] == ["send"]
        settled(mill)
        assert [each["ids"] for each in sent(project)] == [["o1", "o2", "o3", "o4", "o5"], ["o6", "o7"]]
        emit(mill, 8, 12)  # what was let go was that range, not the job
        ran(mill)
        assert len(sent(project)) == 2
        assert job_state(mill, "send") == "held"


def test_apply_on_the_command_line_releases_what_an_earlier_process_held(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    project.write({"events.ndjson": "".join(json.dumps(order(number)) + "\n" for number in range(5))})
    project.cli("emit", "orders", "--file", str(project.folder / "events.ndjson"))
    project.cli("run", code=None)
    assert sent(project) == []
    assert project.json("apply")["released"] == ["send"]
    project.cli("run")
    assert [len(each["ids"]) for each in sent(project)] == [5]


def state_of(project: Project) -> tuple[str, bool, list[str]]:
    told = project.json("explain", "send")
    (listed,) = project.json("status")["jobs"]
    assert listed["state"] == told["state"]
    return told["state"], told["ready"], told["because"]


def test_a_process_that_only_looks_says_what_is_held_and_why(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    with project.open() as mill:
        emit(mill, 1, 5)
        ran(mill)
    why = "5 changes are pinned, more than hold_above = 3: let them go with tidemill apply"
    assert state_of(project) == ("held", False, [why])
    (planned,) = project.json("plan")["jobs"]
    assert not planned["ready"]
    project.cli("apply")
    assert state_of(project)[1]


def test_what_is_held_and_passed_over_is_no_alarm_any_more(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    with watching(project) as mill:
        emit(mill, 1, 5)
        until(lambda: job_state(mill, "send") == "held")
        assert [alarm["kind"] for alarm in mill.status()["alarms"]] == ["held"]
        mill.resume("send", "now")
        assert mill.status()["alarms"] == []
        assert job_state(mill, "send") == "idle"


def test_a_held_effect_stays_held_over_a_restart(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    for _ in range(2):
        with project.open() as mill:
            emit(mill, 1, 5)
            ran(mill)
            assert job_state(mill, "send") == "held"
    assert sent(project) == []


def test_an_effect_whose_code_changed_goes_on_from_its_cursor(project: Project) -> None:
    project.write(sending())
    with project.open() as mill:
        emit(mill, 1, 2)
        ran(mill)
    project.write({"jobs/send.py": SEND.replace("MORE", "").replace('"attempt"', '"try"')})
    with project.open() as mill:
        emit(mill, 3, 3)
        ran(mill)
    assert [each["ids"] for each in sent(project)] == [["o1", "o2"], ["o3"]]


def test_a_row_that_changed_counts_once_towards_hold_above(project: Project) -> None:
    topic = (
        '[assets.orders]\nkind = "topic"\nkey = ["id"]\nsemantics = "upsert"\n[assets.orders.columns]\nid = "varchar"\n'
    )
    send = SEND.replace("MORE", ", hold_above=3").replace('"orders"', '"latest"')
    latest = "-- mode: realtime\nselect id, amount from orders"
    project.write({"tidemill.toml": topic + 'amount = "integer"\n', "jobs/latest.sql": latest, "jobs/send.py": send})
    with project.open() as mill:
        for amount in (1, 2):
            mill.emit("orders", [{"id": f"o{number}", "amount": amount} for number in range(3)])
            ran(mill)
        assert [len(each["ids"]) for each in sent(project)] == [3, 6]  # both images of three rows
        mill.pause("send")
        for amount in (3, 4):
            mill.emit("orders", [{"id": f"o{number}", "amount": amount} for number in range(3)])
            ran(mill)
        mill.resume("send")
        ran(mill)
        assert [len(each["ids"]) for each in sent(project)] == [3, 6, 6]
