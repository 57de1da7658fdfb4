"""A trace (W3C Trace Context) goes with what a sender sent: to the runs that read it and to what is parked of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.door.conftest import PROJECT, Front, served
from tests.e2e.conftest import until
from tidemill.server.tracing import traceparent_in, valid

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = base64.b64encode(b"s" * 32).decode()


def traceparent(number: int) -> str:
    return f"00-{TRACE}-{number:016x}-01"


PYTHON = """from pathlib import Path

import tidemill as tm

HERE = Path(__file__).parent.parent


@tm.job(inputs="plain", output="halved", mode="realtime")
def halved(row: dict) -> dict:
    return {"half": 10 // row["n"]}


@tm.job(inputs="plain", outputs="told", mode="realtime", takes="run")
def tell(run: tm.Run) -> None:
    (HERE / "told.txt").open("a").write(" ".join(run.traceparents) + "\\n")


@tm.job(inputs="plain", outputs="told_apart", mode="realtime", takes="run", isolation="process")
def tell_apart(run: tm.Run) -> None:
    (HERE / "told_apart.txt").open("a").write(" ".join(run.traceparents) + "\\n")
"""
FAILING = """import tidemill as tm


@tm.job(inputs="plain", output="none_of_it", mode="realtime", on_error="stop", retries=0)
def none_of_it(row: dict) -> None:
    if row["n"] == 13:
        raise ValueError("thirteen")
"""
COMMAND = """
[jobs.called]
inputs = ["plain"]
outputs = ["call"]
mode = "realtime"
command = ["sh", "-c", 'echo "$TRACEPARENT" >> called.txt; echo "$TIDEMILL_RUN" >> runs.txt']
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("traced") / "project"
    jobs = {
        "summed": "-- mode: realtime\nselect id, sum(amount) as amount from orders group by id\n",
        "again": "-- mode: realtime\nselect id from summed\n",
        "python.py": PYTHON,
        "failing.py": FAILING,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK_NEW", f"whsec_{SECRET}")
        patch.setenv("HOOK_OLD", f"whsec_{SECRET}")
        with served(folder, PROJECT + COMMAND, jobs=jobs) as front:
            yield front


def runs_of(front: Front, job: str, trace: str) -> list[Any]:
    runs = front.ask("GET", f"/v1/runs?job={job}&limit=1000").json
    return [run for run in runs if trace in run["traceparents"]]


def letter_with(front: Front, payload: str) -> Any:
    return next((each for each in front.mill.dead(limit=1000) if payload in each["payload"]), None)


# The header.


@pytest.mark.parametrize(
    ("written", "carried"),
    [
        (traceparent(1), traceparent(1)),
        (f" {traceparent(1)}\t", traceparent(1)),
        (f"00-{TRACE}-00f067aa0ba902b7-00", f"00-{TRACE}-00f067aa0ba902b7-00"),
        (f"cc-{TRACE}-00f067aa0ba902b7-ff", f"00-{TRACE}-00f067aa0ba902b7-01"),
        (f"cc-{TRACE}-00f067aa0ba902b7-00-what-the-future-brings", f"00-{TRACE}-00f067aa0ba902b7-00"),
        (f"cc-{TRACE}-00f067aa0ba902b7-01.more", ""),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", ""),
        (f"00-{TRACE}-00f067aa0ba902b7-01-", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE[1:]}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-00f067aa0ba902b7", ""),
        (f"00-{TRACE}-00f067aa0ba902b7-0x", ""),
        ("", ""),
        ("00", ""),
    ],
)
def test_a_trace_is_carried_as_the_standard_says(written: str, carried: str) -> None:
    assert valid(written) == carried


def test_a_header_that_comes_twice_counts_as_none() -> None:
    once = (b"traceparent", traceparent(1).encode())
    assert traceparent_in([once, (b"host", b"x")]) == traceparent(1)
    assert traceparent_in([once, once]) == ""
    assert traceparent_in([(b"traceparent", b"\xff")]) == ""


# From the request on.


def test_a_run_names_the_traces_of_the_events_that_it_took(traced: Front) -> None:
    for number in (1, 2):
        traced.post("orders", {"id": f"t{number}", "amount": 1}, traceparent=traceparent(number))
    until(lambda: runs_of(traced, "summed", traceparent(1)))
    until(lambda: runs_of(traced, "summed", traceparent(2)))
    assert runs_of(traced, "again", traceparent(1)) == []  # it reads a table, whose rows many events made


def test_a_run_of_events_without_a_trace_names_none(traced: Front) -> None:
    traced.post("orders", {"id": "bare", "amount": 1}, traceparent="not one")
    until(lambda: traced.rows("select * from summed where id = 'bare'"))
    last = until(lambda: [run for run in traced.mill.runs(job="summed", limit=1) if run["state"] == "succeeded"])
    assert last[0]["traceparents"] == []


def test_lines_that_are_streamed_belong_to_the_trace_of_their_request(traced: Front) -> None:
    body = (b'{"id": "s%d", "amount": 1}\n' % number for number in range(50_000))
    traced.post_stream("orders", body, traceparent=traceparent(3))
    until(lambda: traced.rows("select * from summed where id = 's49999'"))
    taken = [run["inputs"]["orders"] for run in until(lambda: runs_of(traced, "summed", traceparent(3)))]
    assert sum(to - from_ for from_, to in taken) >= 50_000


def test_what_is_parked_at_the_door_names_its_trace_and_keeps_it_when_it_is_replayed(traced: Front) -> None:
    traced.post("orders", [{"id": "p1", "amount": "x"}, {"id": "p2", "amount": 1}], traceparent=traceparent(4))
    letter = letter_with(traced, '"p1"')
    assert letter["traceparent"] == traceparent(4)
    traced.mill.edit_dead(letter["id"], '{"id": "p1", "amount": 7}')
    traced.mill.replay_dead([letter["id"]])
    until(lambda: traced.rows("select * from summed where id = 'p1'"))
    head = next(each["head"] for each in traced.mill.status()["assets"] if each["asset"] == "orders")
    assert traced.mill.machine.ledger.traces("orders", [(head - 1, head)]) == [[traceparent(4)]]


def test_what_is_sent_again_without_a_trace_keeps_the_one_that_is_known(traced: Front) -> None:
    for headers in ({"traceparent": traceparent(5)}, {}):
        traced.post("orders", {"id": "twice", "amount": "x"}, **headers)
    letter = letter_with(traced, '"twice"')
    assert (letter["attempts"], letter["traceparent"]) == (2, traceparent(5))


def test_what_a_job_parks_names_its_trace(traced: Front) -> None:
    traced.post("plain", {"n": 5}, traceparent=traceparent(6))
    traced.post("plain", {"n": 0}, traceparent=traceparent(7))
    letter = until(lambda: next((each for each in traced.mill.dead(asset="plain") if each["job"] == "halved"), None))
    assert (letter["stage"], letter["traceparent"]) == ("transform", traceparent(7))


@pytest.mark.parametrize("name", ["called", "told", "told_apart"])
def test_a_run_that_acts_outside_is_told_the_trace_that_it_continues(traced: Front, name: str) -> None:
    path = Path(traced.mill.machine.definitions.folder) / f"{name}.txt"
    traced.post("plain", {"n": 2}, traceparent=traceparent(8))
    until(lambda: path.exists() and traceparent(8) in path.read_text(), name)
    if name == "called":
        told = [json.loads(line) for line in (path.parent / "runs.txt").read_text().splitlines()]
        assert any(traceparent(8) in each["traceparents"] for each in told)


# Other doors.


def test_a_cloudevent_names_its_own_trace_where_its_request_names_none(traced: Front) -> None:
    said = {"specversion": "1.0", "id": "c1", "source": "/t", "type": "t", "time": "no time"}
    binary = {f"ce-{name}": value for name, value in {**said, "traceparent": traceparent(9)}.items()}
    traced.post("envelopes", {}, Content_Type="application/json", **binary)
    assert letter_with(traced, '"c1"')["traceparent"] == traceparent(9)
    structured = {**said, "id": "c2", "traceparent": traceparent(10)}
    traced.post("envelopes", structured, Content_Type="application/cloudevents+json")
    assert letter_with(traced, '"c2"')["traceparent"] == traceparent(10)
    traced.post(
        "envelopes",
        {**structured, "id": "c3"},
        Content_Type="application/cloudevents+json",
        traceparent=traceparent(11),
    )
    assert letter_with(traced, '"c3"')["traceparent"] == traceparent(11)
    traced.post("envelopes", {**said, "id": "c4", "traceparent": 5}, Content_Type="application/cloudevents+json")
    assert letter_with(traced, '"c4"')["traceparent"] == ""


def test_tracking_calls_and_webhooks_carry_a_trace(traced: Front) -> None:
    message = {"messageId": "m1", "type": "track", "timestamp": "no time"}
    traced.ask("POST", "/v1/batch", json.dumps({"batch": [message]}), traceparent=traceparent(12))
    assert letter_with(traced, '"m1"')["traceparent"] == traceparent(12)
    stamp, body = str(int(time.time())), b'{"type": "invoice.paid"}'
    signed = hmac.new(base64.b64decode(SECRET), f"w1.{stamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "w1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    answer = traced.ask("POST", "/v1/hooks/standard", body, traceparent=traceparent(13), **headers)
    assert answer.status == 202
    head = next(int(each["head"]) for each in traced.mill.status()["assets"] if each["asset"] == "hooked")
    assert traced.mill.machine.ledger.traces("hooked", [(0, head)]) == [[traceparent(13)]]


def test_a_run_that_failed_names_the_traces_of_what_it_tried(traced: Front) -> None:
    traced.post("plain", {"n": 13}, traceparent=traceparent(9))
    (run,) = until(lambda: [each for each in runs_of(traced, "none_of_it", traceparent(9)) if each["error"]])
    assert run["state"] == "failed"
    assert traceparent(9) in traced.mill.explain("none_of_it")["last_start"]["traceparents"]
