"""Real commands on a real project: exit codes, two processes at once, signals, kills, backups, HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Project, event

SLOW_JOB = """
import threading
from pathlib import Path

import tidemill as tm

@tm.job(inputs="departures", output="slow", mode="realtime")
def slow(row: dict) -> dict:
    Path("begun").touch()
    while not Path("go").exists():
        threading.Event().wait(0.02)
    return {"event_id": row["event_id"]}
"""

FAILING_JOB = """
import tidemill as tm

@tm.job(inputs="departures", output="broken", retries=0)
def broken(row: dict) -> dict:
    raise ValueError("nothing works")
"""


@pytest.fixture
def flights(tmp_path: Path) -> Project:
    return Project(tmp_path / "flights")


def served(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Where a `serve --json` process answers, once it does."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    host, _, port = json.loads(line)["address"].removeprefix("http://").partition(":")
    return host, int(port)


def get(address: tuple[str, int], path: str, body: str | None = None) -> tuple[int, Any]:
    connection = HTTPConnection(*address, timeout=30)
    connection.request("POST" if body is not None else "GET", path, body)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def eventually(check: Any, seconds: float = 60.0) -> None:
    """Wait until a check holds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if check():
            return
        pause.wait(0.05)
    assert check()


# Exit codes.


def test_from_nothing_to_rows(tmp_path: Path, flights: Project) -> None:
    flights.folder = tmp_path
    assert flights("init", "mine").code == 0
    flights.folder = tmp_path / "mine"
    assert flights("check").code == 0
    assert flights("run").code == 0
    assert flights("init", ".").code == 2


def test_events_in_rows_out(flights: Project) -> None:
    sent = flights("emit", "departures", "-", "--json", stdin=f"{event(1)}\n{event(2)}\n{event(1)}\n")
    assert (sent.code, sent.json) == (0, {"accepted": 2, "duplicate": 1, "parked": 0, "results": []})
    assert flights("run").code == 0
    rows = flights("query", "select * from totals", "--json")
    assert [(row["carrier"], row["flights"], int(row["delay"])) for row in rows.json] == [("UA", 2, 3)]
    assert flights("map", "--json").json == [
        {"job": "totals", "inputs": ["departures"], "outputs": ["totals"], "mode": "batch"}
    ]
    [run] = flights("runs", "--json").json
    assert {
        "run",
        "job",
        "state",
        "attempt",
        "inputs",
        "started_at",
        "finished_at",
        "rows_in",
        "rows_out",
        "error",
    } <= (run.keys())
    assert run["inputs"] == {"departures": [0, 2]}
    assert flights("explain", "totals", "--json").json["ready"] is False


def test_exit_codes(flights: Project) -> None:
    assert flights("emit", "departures", "--row", '{"event_id": "1", "delay": "late"}').code == 1
    assert flights("emit", "departures", "--row", event(1)).code == 0
    flights.write("jobs/broken.py", FAILING_JOB)
    failed = flights("run", "--json")
    assert failed.code == 1
    assert failed.json["failed"] == 1
    assert flights("explain", "nothing").code == 2
    assert flights("query", "select * from nothing").code == 2
    flights.write("jobs/wrong.sql", "select * from nowhere")
    checked = flights("check", "--json")
    assert checked.code == 2
    assert checked.json["ok"] is False
    assert checked.json["problems"][0].keys() == {"kind", "message", "place", "mend"}
    assert "jobs/wrong.sql" in flights("check").stderr


def test_a_reader_that_goes_away_is_no_noise(flights: Project) -> None:
    with flights.begun("map", "--json") as process:
        assert process.stdout is not None
        os.close(process.stdout.fileno())
        process.stdout = open(os.devnull)  # noqa: SIM115, PTH123 - closed by `begun`
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


# Two at once.


def test_many_commands_at_once_all_get_their_answer(flights: Project) -> None:
    with ThreadPoolExecutor(6) as threads:
        ended = list(threads.map(lambda n: flights("emit", "departures", "--row", event(n), "--json"), range(6)))
    assert [(each.code, each.stderr) for each in ended if each.code] == []
    assert [each.json["accepted"] for each in ended] == [1] * 6
    flights("run")
    assert flights("query", "select flights from totals", "--json").json == [{"flights": 6}]


def test_a_second_command_asks_the_first(flights: Project) -> None:
    flights.write("jobs/slow.py", SLOW_JOB)
    flights("emit", "departures", "--row", event(1))
    with flights.begun("run", "slow", "--json") as first:
        eventually((flights.folder / "begun").exists)
        eventually(lambda: flights.owner["address"])
        assert flights.owner["pid"] == first.pid
        jobs = flights("status", "--json").json["jobs"]
        assert {job["job"]: job["state"] for job in jobs}["slow"] == "running"
        assert flights("emit", "departures", "--row", event(2), "--json").json["accepted"] == 1
        with flights.begun("run", "--json") as second:
            (flights.folder / "go").touch()
            assert second.wait(60) == 0
            assert first.wait(60) == 0
    assert flights("query", "select count(*) as n from slow", "--json").json == [{"n": 2}]


OWNS_FOR_A_MOMENT = """
import sys, threading
from pathlib import Path
from tidemill.cli import connect
from tidemill.cli.settings import Settings
from tidemill.project.owner import acquire

settings = Settings(project=sys.argv[1])
owner = acquire(settings.folder, command="run")
with connect.own(settings, owner, mode="command", answers=False) as mill:
    answering = connect.Answering(owner, mill, after_seconds=0.0)
    threading.Event().wait(0.02)
    answering.stop()
"""


def test_a_command_that_ends_while_its_server_is_loaded_lets_everything_go(flights: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWNS_FOR_A_MOMENT, str(flights.folder)], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_who_must_own_names_the_owner(flights: Project) -> None:
    with flights.begun("serve", "--port", "0", "--json") as owner:
        served(owner)
        for words in (["dev", "--port", "0"], ["run", "--watch"], ["restore", "."]):
            refused = flights(*words)
            assert refused.code != 0
            assert str(owner.pid) in refused.stderr or "is not a backup" in refused.stderr


def test_a_killed_owner_leaves_nothing_in_the_way(flights: Project) -> None:
    with flights.begun("serve", "--port", "0", "--json") as owner:
        address = served(owner)
        assert get(address, "/v1/assets/departures/events", event(1))[0] == 202
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    assert flights.owner["pid"] == owner.pid
    assert flights("run", "--json").code == 0
    assert flights("query", "select flights from totals", "--json").json == [{"flights": 1}]


# Signals.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("words", [["serve", "--port", "0"], ["dev", "--port", "0"], ["run", "--watch"]], ids=" ".join)
def test_a_signal_ends_what_goes_on_in_order(flights: Project, words: list[str], number: int, code: int) -> None:
    with flights.begun(*words, "--json") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (flights.folder / ".tidemill" / "address").exists()
    assert flights("status").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_run_leaves_nothing_half_done(flights: Project, number: int, code: int) -> None:
    flights.write("jobs/slow.py", SLOW_JOB)
    flights("emit", "departures", "--row", event(1))
    with flights.begun("run", "slow", "--json") as process:
        eventually((flights.folder / "begun").exists)
        process.send_signal(number)
        (flights.folder / "go").touch()
        assert process.wait(60) == code
    assert flights("run", "--json").code == 0
    assert flights("query", "select count(*) as n from slow", "--json").json == [{"n": 1}]


def test_a_signal_to_who_waits_for_the_owner(flights: Project) -> None:
    with flights.begun("serve", "--port", "0", "--json") as owner:
        served(owner)
        owner.send_signal(signal.SIGSTOP)
        with flights.begun("status") as waiting:
            threading.Event().wait(1.0)
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(10) == 130
        owner.send_signal(signal.SIGCONT)


# HTTP.


def test_serve_takes_events_and_gives_rows(flights: Project) -> None:
    with flights.begun("serve", "--port", "0", "--json") as process:
        address = served(process)
        status, answer = get(address, "/v1/assets/departures/events", f"[{event(1)}, {event(2, 'B6')}, {event(1)}]")
        assert (status, answer["accepted"], answer["duplicate"]) == (202, 2, 1)
        assert get(address, "/v1/assets/nothing/events", event(1))[0] == 404
        flights("run")
        rows = get(address, "/v1/assets/totals/rows?carrier=B6")[1]
        assert [(row["carrier"], row["flights"]) for row in rows] == [("B6", 1)]
        assert get(address, "/v1/map")[1] == flights("map", "--json").json
        assert get(address, "/healthz") == (200, {"status": "ok"})


def test_watching_follows_what_arrives(flights: Project) -> None:
    flights.write("jobs/totals.sql", f"-- mode: realtime\n{TOTALS_SQL}")
    with flights.begun("run", "--watch", "--json") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        flights("emit", "departures", "--row", event(1))
        rows: list[Any] = [{"flights": 1}]
        eventually(lambda: flights("query", "select flights from totals", "--json").json == rows)


TOTALS_SQL = "select carrier, count(*) as flights from departures group by carrier"

# Backups.


def test_a_backup_can_be_put_back(flights: Project, tmp_path: Path) -> None:
    flights("emit", "departures", "--row", event(1))
    flights("run")
    made = flights("backup", str(tmp_path / "copy"), "--json")
    assert made.code == 0
    assert made.json["bytes"] > 0
    flights("emit", "departures", "--row", event(2))
    flights("run")
    back = flights("restore", str(tmp_path / "copy"), "--json")
    assert back.code == 0
    assert flights("query", "select flights from totals", "--json").json == [{"flights": 1}]
    assert (Path(back.json["replaced"]) / "ledger.db").exists()
    assert flights("emit", "departures", "--row", event(3), "--json").json["accepted"] == 1
    flights("run")
    assert flights("query", "select flights from totals", "--json").json == [{"flights": 2}]


def test_what_is_no_backup_is_not_put_back(flights: Project, tmp_path: Path) -> None:
    flights("run")
    refused = flights("restore", str(tmp_path))
    assert refused.code == 2
    assert "is not a backup" in refused.stderr


def test_an_interrupted_restore_is_ended_by_running_it_again(flights: Project, tmp_path: Path) -> None:
    flights("emit", "departures", "--row", event(1))
    flights("backup", str(tmp_path / "copy"))
    (flights.folder / ".tidemill" / "restoring").write_text("")
    assert "interrupted" in flights("status").stderr
    assert flights("restore", str(tmp_path / "copy")).code == 0
    assert flights("status").code == 0


# The rest.


def test_a_python_file_is_a_project(tmp_path: Path, flights: Project) -> None:
    flights.folder = tmp_path
    flights.write("alone.py", SINGLE_FILE)
    assert flights("run", "alone.py").code == 0
    assert flights("emit", "numbers", "--row", '{"n": 4}', "--project", "alone.py").code == 0
    assert flights("run", "alone.py", "--json").code == 0
    doubled = flights("query", "select * from doubled", "--project", "alone.py", "--json")
    assert [int(row["n"]) for row in doubled.json] == [8]
    assert flights("run", "alone.py", "doubled", "--force", "--json").json["runs"] == 1
    assert "there is no job doubld" in flights("run", "alone.py", "doubld").stderr


SINGLE_FILE = """
import tidemill as tm
from tidemill.engines.python import topic

numbers = topic("numbers", columns={"n": "integer"})

@tm.job(inputs="numbers", output="doubled")
def doubled(row: dict) -> dict:
    return {"n": row["n"] * 2}
"""


def test_two_forms_at_once_are_wrong_use(flights: Project) -> None:
    both = flights("map", "--mermaid", "--json")
    assert (both.code, both.stdout) == (2, "")
    assert json.loads(both.stderr)["error"]["message"] == "--mermaid and --json exclude each other"


def test_an_object_mapping_becomes_jobs(flights: Project) -> None:
    flights.write(
        "mapping.csv", "job,source,target,command\nload,raw,clean,python load.py\nship,clean,sent,python s.py\n"
    )
    done = flights("map", "--import", "mapping.csv", "--json")
    assert done.json["jobs"] == ["load", "ship"]
    mapping = {job["job"]: job for job in flights("map", "--json").json}
    assert mapping["ship"]["inputs"] == ["clean"]
    assert "totals" in mapping
    again = flights("map", "--import", "mapping.csv")
    assert again.code == 2
    assert "does not fit into tidemill.toml" in again.stderr


def test_doctor(flights: Project) -> None:
    flights("run")
    done = flights("doctor", "--json")
    assert done.code == 0, done.stdout
    states = {finding["check"]: finding["state"] for finding in done.json}
    assert states["ledger"] == "ok"
    assert states["open"] == "ok"
    (flights.folder / ".tidemill" / "ledger.db").write_bytes(b"SQLite format 3\0" + b"x" * 9_000)
    sick = flights("doctor", "--json")
    assert sick.code == 1
    assert "restore" in {finding["check"]: finding["mend"] for finding in sick.json}["ledger"]
