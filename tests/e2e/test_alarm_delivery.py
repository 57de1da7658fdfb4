"""Alarms reach people: kept as an asset, delivered to a command or a signed webhook, once for each thing that is told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from tests.e2e.conftest import ORDERS, Project, ahead, alarms, order, ran, rows, until, watching
from tidemill.project.checking import check
from tidemill.project.delivering import tend
from tidemill.project.hooks import Hook
from tidemill.project.mill import Mill
from tidemill.project.secrets import Secret
from tidemill.server.signatures import verify

SECRET = "whsec_" + base64.b64encode(b"a secret of 32 bytes is enough..").decode()
BROKEN = "-- mode: realtime\n-- retries: 0\nselect error('it is broken') as x from orders"
GOOD = "-- mode: realtime\nselect id from orders"
WRITES = """
[alarms]
command = ["python", "-c", "import sys; open('told.ndjson', 'a').write(sys.stdin.read() + chr(10))"]
again = "2h"
"""
HOUR = 3_600.0


def shop(project: Project, words: str = WRITES) -> None:
    project.write({"tidemill.toml": ORDERS + words, "jobs/made.sql": BROKEN})


def told(project: Project) -> list[tuple[str, str]]:
    said = [json.loads(line)["data"] for line in project.lines("told.ndjson")]
    return [(each["kind"], each["state"]) for each in said]


def fail(mill: Mill, number: int = 1) -> None:
    mill.emit("orders", [order(number)])
    ran(mill)


def test_an_alarm_is_told_once_again_while_it_stands_and_when_it_is_over(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        fail(mill)
        ran(mill)
        assert told(project) == [("held", "raised")], "asking again tells nothing anew"
    with project.open() as mill:
        ahead(mill, 3 * HOUR)
        ran(mill)
        assert told(project) == [("held", "raised"), ("held", "standing")]
    project.write({"jobs/made.sql": GOOD})
    with project.open() as mill:
        ran(mill)
        ran(mill)
        assert told(project) == [("held", "raised"), ("held", "standing"), ("held", "resolved")]
        said = json.loads(project.lines("told.ndjson")[0])
        assert said["type"] == "alarm.raised"
        assert said["data"]["job"] == "made"
        assert "it is broken" in said["data"]["reason"]
        assert len({json.loads(line)["data"]["alarm"] for line in project.lines("told.ndjson")}) == 1


def test_alarms_that_somebody_tells_are_not_told_by_another_meanwhile(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        with mill.machine.tending:
            fail(mill)
            assert tend(mill.machine) == []
        assert told(project) == []
        assert [said["kind"] for said in tend(mill.machine)] == ["held"]
        assert tend(mill.machine) == []
        assert told(project) == [("held", "raised")]


def test_every_alarm_is_a_row_of_an_asset_with_its_history(project: Project) -> None:
    shop(project, "")
    shown = "select kind, job, state, resolved_at is not null from tidemill.alarms order by raised_at"
    with project.open() as mill:
        fail(mill)
        assert rows(mill, shown) == [("held", "made", "raised", False)]
    project.write({"jobs/made.sql": GOOD})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, shown) == [("held", "made", "resolved", True)]
    project.write({"jobs/made.sql": BROKEN})
    with project.open() as mill:
        fail(mill, 2)
        assert rows(mill, shown) == [("held", "made", "resolved", True), ("held", "made", "raised", False)]


READER = """import tidemill as tm
@tm.job(inputs="tidemill.alarms", outputs="told", mode="realtime")
def tell(run: tm.Run) -> None:
    with open("read.txt", "a") as file:
        for change in run.changes("tidemill.alarms").to_pylist():
            file.write(str(change["kind"]) + chr(10))
"""


def test_a_job_may_read_alarms_as_they_come(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    shop(project, "")
    project.write({"jobs/tell.py": READER})
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        until(lambda: "held" in project.lines("read.txt"))


def test_who_follows_a_project_delivers_by_itself(project: Project) -> None:
    shop(project)
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        until(lambda: told(project) == [("held", "raised")])


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A webhook's receiver that answers with these, then with 204."""
    left, heard = list(statuses), cast("list[tuple[dict[str, str], bytes]]", [])

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(left.pop(0) if left else 204)
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alarms", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_is_signed_as_standard_webhooks_are(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALARM_SECRET", SECRET)
    with receiver() as (url, heard):
        shop(project, f'[alarms]\nurl = "{url}"\nsecret = "${{ALARM_SECRET}}"\n')
        with project.open() as mill:
            fail(mill)
            [(headers, body)] = heard
            hook = Hook("alarms", "standard", "orders", (Secret("${ALARM_SECRET}", Path()),))
            verify(hook, headers, body, mill.machine.clock.now())
            assert json.loads(body)["data"]["kind"] == "held"


@pytest.mark.parametrize("status", [500, 302, 410])
def test_what_was_not_taken_is_told_again_under_the_same_id_and_stands_as_an_alarm(
    project: Project, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("ALARM_SECRET", SECRET)
    with receiver(status) as (url, heard):
        shop(project, f'[alarms]\nurl = "{url}"\nsecret = "${{ALARM_SECRET}}"\n')
        with project.open() as mill:
            fail(mill)
            assert any("alarms could not be delivered" in reason for reason in alarms(mill))
        with project.open() as mill:
            ran(mill)
            assert not any("alarms could not be delivered" in reason for reason in alarms(mill))
        assert len(heard) == 2
        assert heard[0][0]["webhook-id"] == heard[1][0]["webhook-id"]


BOTH = """
[alarms]
command = ["python", "-c", "import sys; open('told.ndjson', 'a').write(sys.stdin.read() + chr(10))"]
url = "{url}"
secret = "${{ALARM_SECRET}}"
"""


def states(heard: list[tuple[dict[str, str], bytes]]) -> list[tuple[str, str]]:
    """What a receiver was told, in order."""
    said = [json.loads(body)["data"] for _, body in heard]
    return [(each["kind"], each["state"]) for each in said]


def test_who_was_told_is_not_told_again_because_another_receiver_fails(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALARM_SECRET", SECRET)
    with receiver(500, 500, 500) as (url, heard):
        shop(project, BOTH.format(url=url))
        with project.open() as mill:
            fail(mill)
            for _ in range(4):
                ahead(mill, 60.0)
                tend(mill.machine)
        assert states(heard) == [("held", "raised")] * 4
        assert len({headers["webhook-id"] for headers, _ in heard}) == 1
        assert told(project) == [("held", "raised"), ("undelivered", "raised"), ("undelivered", "resolved")]


def test_a_receiver_that_fails_rests_longer_and_longer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALARM_SECRET", SECRET)
    with receiver(*[500] * 9) as (url, heard):
        shop(project, f'[alarms]\nurl = "{url}"\nsecret = "${{ALARM_SECRET}}"\n')
        with project.open() as mill:
            fail(mill)
            for _ in range(16):
                ahead(mill, 1.0)
                tend(mill.machine)
        assert len(heard) == 4, "at once, then after 4 s and after 8 s more"


def test_all_that_happened_while_a_receiver_failed_is_told_in_order(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm that was raised anew before its end was told: the end is told all the same."""
    monkeypatch.setenv("ALARM_SECRET", SECRET)
    with receiver(204, 500, 500) as (url, heard):
        shop(project, f'[alarms]\nurl = "{url}"\nsecret = "${{ALARM_SECRET}}"\n')
        with project.open() as mill:
            fail(mill)
        project.write({"jobs/made.sql": GOOD})
        project.run()
        project.write({"jobs/made.sql": BROKEN})
        with project.open() as mill:
            fail(mill, 2)
            ahead(mill, HOUR)
            tend(mill.machine)
        last = [(headers["webhook-id"], state) for (headers, _), state in zip(heard, states(heard), strict=True)]
        assert [state for _, state in dict(last).items()] == [
            ("held", "raised"),
            ("held", "resolved"),
            ("held", "raised"),
        ]
        assert len({json.loads(body)["data"]["alarm"] for _, body in heard}) == 2


HANGS = """
[alarms]
command = ["python", "-c", "import time; open('began', 'w'); time.sleep(600)"]
"""


def test_who_stops_waits_for_no_receiver_and_it_is_told_later(project: Project) -> None:
    shop(project, HANGS)
    with project.open() as mill:
        stop = threading.Event()
        with mill.machine.tending:
            fail(mill)
        tending = threading.Thread(target=tend, args=(mill.machine, stop))
        tending.start()
        until((project.folder / "began").exists)
        stop.set()
        tending.join(3.0)
        assert not tending.is_alive(), "fifteen seconds were waited for"
    shop(project)
    project.run()
    assert told(project) == [("held", "raised")]


def test_a_receiver_that_hangs_delays_one_run_and_not_the_next(
    project: Project,
) -> None:
    slow = HANGS.replace("sleep(600)", "sleep(1.1); raise SystemExit(1)")
    shop(project, slow)
    with project.open() as mill:
        fail(mill)
        assert any("alarms could not be delivered to the command" in reason for reason in alarms(mill))
    project.remove("began")
    with project.open() as mill:
        ran(mill)
        assert not (project.folder / "began").exists()
        assert any("alarms could not be delivered to the command" in reason for reason in alarms(mill))
        ahead(mill, HOUR)
        ran(mill)
        assert (project.folder / "began").exists()


def test_an_alarm_about_an_asset_names_it(project: Project) -> None:
    project.write(
        {"tidemill.toml": ORDERS.replace('kind = "topic"', 'kind = "topic"\nfreshness = "1h"'), "jobs/made.sql": GOOD}
    )
    with project.open() as mill:
        fail(mill)
        ahead(mill, 2 * HOUR)
        ran(mill)
        assert rows(mill, "select kind, job, asset from tidemill.alarms") == [("freshness", "", "orders")]


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ('url = "ftp://x"\nsecret = "${S}"', "is no web address"),
        ('url = "https://x"', "no reference to its secret"),
        ('url = "https://x"\nsecret = "whsec_plain"', "no reference to its secret"),
        ('comand = ["x"]', "unknown word comand"),
        ('command = "x"', "not a list of words"),
        ('again = "often"', "is not a duration"),
    ],
)
def test_what_alarms_cannot_say_is_told_by_check(project: Project, words: str, wrong: str) -> None:
    project.write({"tidemill.toml": f"{ORDERS}[alarms]\n{words}\n", "jobs/made.sql": GOOD})
    [problem] = check(project.folder).problems
    assert wrong in problem.message
    assert problem.mend
