"""Lines about runs while a command goes on: whoever reads slowly, or not at all, stops no run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Project, event
from tests.cli.test_processes import TOTALS_SQL, eventually
from tidemill.cli.feed import LINES_MAX, RunFeed
from tidemill.engines.python.capture import captured


@pytest.fixture
def flights(tmp_path: Path) -> Project:
    return Project(tmp_path / "flights")


@contextmanager
def piped() -> Iterator[int]:
    """Within: stdout is a pipe, whose other end this is."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, redirect_stdout(stream):
        yield reading
    os.close(reading)


def waiting(reading: int) -> Any:
    """The line that waits to be read; fails where there is none."""
    os.set_blocking(reading, False)
    return json.loads(os.read(reading, 65_536))


def ended(number: int) -> dict[str, object]:
    return {"run": str(number), "job": "totals", "state": "succeeded", "rows_out": 1}


def test_watching_prints_a_line_of_json_for_each_run_that_ended(flights: Project) -> None:
    flights.write("jobs/totals.sql", f"-- mode: realtime\n{TOTALS_SQL}")
    flights("emit", "departures", "--row", event(1))
    with flights.begun("run", "--watch", "--json") as process:
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == {"project", "address"}
        first = json.loads(process.stdout.readline())
        flights("emit", "departures", "--row", event(2))
        second = json.loads(process.stdout.readline())
    assert [(run["job"], run["state"], run["inputs"], run["rows_out"]) for run in (first, second)] == [
        ("totals", "succeeded", {"departures": [0, 1]}, 1),
        ("totals", "succeeded", {"departures": [1, 2]}, 1),
    ]
    assert all(set(first) <= set(run) for run in flights("runs", "--json").json)


def test_watching_says_each_run_to_a_person(flights: Project) -> None:
    flights.write("jobs/totals.sql", f"-- mode: realtime\n{TOTALS_SQL}")
    flights("emit", "departures", "--row", event(1))
    with flights.begun("run", "--watch") as process:
        assert process.stderr is not None
        assert "watches" in process.stderr.readline()
        assert "Ctrl-C" in process.stderr.readline()
        assert process.stderr.readline() == "succeeded totals (1 rows)\n"


def test_a_watch_whose_reader_goes_away_ends(flights: Project) -> None:
    flights.write("jobs/totals.sql", f"-- mode: realtime\n{TOTALS_SQL}")
    with flights.begun("run", "--watch", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        flights("emit", "departures", "--row", event(1))
        assert process.wait(60) == 1
        assert process.stderr.read() == ""
    eventually(lambda: not (flights.folder / ".tidemill" / "address").exists())


def test_who_does_not_read_stops_no_run_and_is_told_what_was_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with piped() as reading, RunFeed(threading.Event(), is_json=True) as feed:
        for number in range(LINES_MAX + 5):
            feed(ended(number))
        feed.start()
        found = b""
        while found.count(b"\n") < LINES_MAX:
            found += os.read(reading, 65_536)
    assert [json.loads(line)["run"] for line in found.splitlines()] == [str(number) for number in range(LINES_MAX)]
    assert capsys.readouterr().err == "5 lines about runs came faster than they were read, and were dropped\n"


def test_lines_go_to_the_answer_also_while_a_jobs_prints_are_captured() -> None:
    lines: list[str] = []
    with piped() as reading:
        with RunFeed(threading.Event(), is_json=True) as feed, captured(lines.append):
            feed.start()
            feed(ended(1))
        assert waiting(reading)["run"] == "1"
    assert lines == []


def test_nothing_is_told_of_what_has_not_ended() -> None:
    with piped() as reading:
        with RunFeed(threading.Event(), is_json=True) as feed:
            feed.start()
            feed({"run": "1", "job": "totals", "state": "running"})
            feed({"run": "1", "job": "totals", "state": "retrying", "error": "no"})
            feed(ended(2))
        assert waiting(reading)["run"] == "2"
