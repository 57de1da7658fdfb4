"""The routes: the shapes of the outer contract, an answer to everything, and who may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from tests.cli.fake import FakeMill
from tests.server.conftest import Asker
from tidemill.core.errors import StorageFull
from tidemill.core.ports import Receipt, Sending
from tidemill.project.serving import Limits
from tidemill.server.app import create_app
from tidemill.server.local import LocalServer

GETS = ["/v1/assets", "/v1/jobs", "/v1/map", "/v1/runs", "/v1/status", "/v1/assets/totals/rows", "/metrics"]


@pytest.fixture
def open_server(mill: FakeMill) -> Iterator[Asker]:
    server = LocalServer(create_app(mill, token="hidden", is_open=True)).start()
    yield Asker(server.address)
    server.stop(at_once=True)


def row(number: int) -> dict[str, object]:
    return {"id": f"row {number}", "carrier": "UA", "delay": number}


# What is asked and answered.


def test_lists_are_what_the_command_line_prints(ask: Asker, mill: FakeMill) -> None:
    assert ask("GET", "/v1/assets").json == mill.assets()
    assert ask("GET", "/v1/map").json == mill.map()
    assert ask("GET", "/v1/jobs").json == mill.status()["jobs"]
    assert ask("GET", "/v1/status").json == mill.status()
    assert ask("GET", "/v1/runs?job=totals&state=failed&limit=3").json == []


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        (json.dumps(row(1)), 1),
        (json.dumps(row(2), indent=2), 1),
        (json.dumps([row(3), row(4)], indent=1), 2),
        (f"{json.dumps(row(5))}\n{json.dumps(row(6))}\n", 2),
        (f"{json.dumps(row(7))}\r\n{json.dumps(row(8))}", 2),
        ("[]", 0),
        ("", 0),
    ],
    ids=["object", "printed object", "array", "lines", "lines without an end", "empty array", "nothing"],
)
def test_events_are_accepted_in_every_shape(ask: Asker, body: str, accepted: int) -> None:
    answer = ask("POST", "/v1/assets/departures/events", body)
    assert answer.status == 202
    assert answer.json == {"accepted": accepted, "duplicate": 0, "parked": 0, "results": []}


def test_what_is_not_accepted_is_listed_by_its_place(ask: Asker) -> None:
    answer = ask("POST", "/v1/assets/departures/events", json.dumps([row(10), {"id": "x"}, row(10)]))
    assert answer.status == 202
    result = {"index": 1, "status": "parked", "reason": "not a departure", "column": "delay"}
    assert answer.json == {"accepted": 1, "duplicate": 1, "parked": 1, "results": [result]}


def test_a_broken_array_is_refused_whole(ask: Asker) -> None:
    answer = ask("POST", "/v1/assets/departures/events", '[{"id": "y", "delay": 1}, {')
    assert answer.status == 400
    assert answer.json["error"]["kind"] == "UserError"


def test_rows_come_by_key_and_page_by_page(ask: Asker, mill: FakeMill) -> None:
    for number in range(5):
        mill.emit("elsewhere", json.dumps({"id": f"it's {number}", "carrier": "B6", "delay": number % 2}).encode())
    first = ask("GET", "/v1/assets/elsewhere/rows?limit=2&delay=0")
    assert [found["id"] for found in first.json] == ["it's 0", "it's 2"]
    following = first.headers["link"].partition("<")[2].partition(">")[0]
    rest = ask("GET", following)
    assert [found["id"] for found in rest.json] == ["it's 4"]
    assert "link" not in rest.headers
    assert [found["delay"] for found in ask("GET", "/v1/assets/elsewhere/rows?id=it%27s%203").json] == [1]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/assets/nothing/rows", 404, "there is no asset nothing"),
        ("/v1/assets/totals/rows?nothing=1", 400, "totals has no column nothing"),
        ("/v1/assets/totals/rows?limit=10001", 400, "limit is not a whole number of at most 10000"),
        ("/v1/assets/totals/rows?offset=-1", 400, "offset is not a whole number"),
        ("/v1/assets/totals/rows?carrier=%00", 400, "zero byte"),
        ('/v1/assets/totals/rows?x"%20or%201=1', 400, "has no column"),
        ("/v1/runs?limit=many", 400, "limit is not a whole number"),
        ("/v1/runs?jbo=totals", 400, "unknown parameter jbo"),
        ("/v2/assets", 404, "there is nothing at /v2/assets"),
        ("/", 404, "there is nothing at /"),
    ],
)
def test_what_cannot_be_answered_says_why(ask: Asker, path: str, status: int, message: str) -> None:
    answer = ask("GET", path)
    assert answer.status == status
    assert message in answer.json["error"]["message"]
    assert answer.json["error"].keys() == {"kind", "message", "place", "mend"}


def test_a_method_that_is_not_possible_says_which_are(ask: Asker) -> None:
    answer = ask("PUT", "/v1/assets/departures/events", "{}")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json["error"]["kind"] == "UserError"


def test_metrics_are_in_the_text_format(ask: Asker) -> None:
    text = ask("GET", "/metrics").body.decode()
    assert '\ntidemill_lag_seconds{job="totals"} 90.0\n' in text
    assert '\ntidemill_job_state{job="totals",state="idle"} 1\n' in text
    assert "# TYPE tidemill_asset_head gauge\n" in text
    assert text.startswith("# HELP tidemill_build_info ")


def test_health_needs_no_token_and_gives_nothing_away(ask: Asker) -> None:
    assert ask("GET", "/healthz", token="").json == {"status": "ok"}


class Full(FakeMill):
    """A mill whose disk is full."""

    def take(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        return [StorageFull("no room to write the ledger", mend="free some space") for _ in sendings]


def test_where_the_disk_is_full_nothing_is_acknowledged_and_the_sender_is_told_when_to_come_again() -> None:
    app = create_app(Full(), token="hidden", is_open=True)
    server = LocalServer(app).start()
    answer = Asker(server.address)("POST", "/v1/assets/departures/events", json.dumps(row(90)))
    server.stop(at_once=True)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["error"]["kind"] == "StorageFull"


# Who may ask.


@pytest.mark.parametrize("path", [*GETS, "/v1/owner"])
def test_the_token_is_needed(ask: Asker, path: str) -> None:
    for token in ("", "wrong", "secre", "secret "):
        assert ask("GET", path, token=token).status == 401
    assert ask("GET", path, token="").headers["www-authenticate"] == "Bearer"
    assert ask("GET", path).status == 200


def test_an_open_server_asks_no_token_of_users(open_server: Asker) -> None:
    assert [open_server("GET", path, token="").status for path in GETS] == [200] * len(GETS)
    assert open_server("POST", "/v1/assets/departures/events", "", token="").status == 202


@pytest.mark.parametrize("path", ["/v1/operations/run", "/v1/operations/pause", "/v1/operations/nothing"])
def test_operations_need_the_token_even_there(open_server: Asker, path: str) -> None:
    assert open_server("POST", path, "{}", token="").status == 401


@pytest.mark.parametrize("host", ["example.com", "example.com:7373", "10.0.0.1", "", "127.0.0.1.example.com", "["])
def test_a_name_that_somebody_else_points_here_is_refused(open_server: Asker, host: str) -> None:
    answer = open_server("GET", "/v1/status", Host=host)
    assert answer.status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:7373"])
def test_this_machines_names_are_welcome(open_server: Asker, host: str) -> None:
    assert open_server("GET", "/v1/status", Host=host).status == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("https://example.com", 403), ("null", 403), ("http://localhost:3000", 202)]
)
def test_a_page_of_another_site_may_not_send(open_server: Asker, origin: str, status: int) -> None:
    assert open_server("POST", "/v1/assets/departures/events", "", Origin=origin).status == status


def test_a_request_that_is_too_large_is_refused(ask: Asker) -> None:
    answer = ask("POST", "/v1/assets/departures/events", b" " * (Limits().request_bytes_max + 1))
    assert answer.status == 413
    assert "send smaller batches" in answer.json["error"]["mend"]


# The command half.


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("nothing", "{}", 404, "there is no operation nothing"),
        ("close", "{}", 404, "there is no operation close"),
        ("__class__", "{}", 404, "there is no operation"),
        ("pause", "{", 400, "the arguments are not JSON"),
        ("pause", "[]", 400, "the arguments are not a JSON object"),
        ("pause", "{}", 400, "pause needs job"),
        ("pause", '{"job": 1}', 400, "pause: job has the wrong type"),
        ("pause", '{"job": "totals", "x": 1}', 400, "pause has no argument x"),
        ("runs", '{"limit": true}', 400, "runs: limit has the wrong type"),
        ("audit", '{"name": "", "from_": true}', 400, "audit: from_ has the wrong type"),
        ("pause", '{"job": "nothing"}', 404, "there is no job nothing"),
        ("query", '{"sql": "selec"}', 400, "the query fails"),
    ],
)
def test_an_operation_is_refused_with_the_reason(ask: Asker, name: str, body: str, status: int, message: str) -> None:
    answer = ask("POST", f"/v1/operations/{name}", body)
    assert answer.status == status
    assert message in answer.json["error"]["message"]


def test_an_operation_answers_its_json(ask: Asker) -> None:
    assert ask("POST", "/v1/operations/pause", '{"job": "totals"}').json == {"job": "totals", "state": "paused"}


def test_a_run_is_told_line_by_line(ask: Asker, mill: FakeMill) -> None:
    mill.emit("departures", b'{"id": "told", "carrier": "UA", "delay": 1}')
    answer = ask("POST", "/v1/operations/run", "{}")
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in answer.body.splitlines()]
    assert [each["progress"]["state"] for each in said[:-1]] == ["running", "succeeded"]
    assert said[-1]["answer"]["succeeded"] == 1


def test_a_run_that_cannot_be_ends_with_the_error(ask: Asker) -> None:
    answer = ask("POST", "/v1/operations/run", '{"jobs": ["nothing"]}')
    assert [json.loads(line)["error"]["kind"] for line in answer.body.splitlines()] == ["NotFound"]
