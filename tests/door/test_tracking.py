"""Tracking calls: Segment's own clients, unmodified, deliver everything once, whatever the server answers meanwhile."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from segment.analytics import Client
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.door.conftest import PROJECT, Front, served

NUMBERS = itertools.count()


class Failing:
    """Stands before the application and spoils some answers: `None` lets a request pass, a number is answered without
    asking, and a negative number is answered after the request was carried out, as if the answer had been lost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.script: Iterator[int | None] = iter(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = next(self.script, None) if scope["type"] == "http" else None
        if status is None:
            await self.app(scope, receive, send)
            return
        if status < 0:
            await self.app(scope, receive, _nowhere)
        await send({"type": "http.response.start", "status": abs(status), "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def _nowhere(_: Message) -> None:
    return None


@pytest.fixture(scope="module")
def failing_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Failing]]:
    made: list[Failing] = []

    def around(app: ASGIApp) -> ASGIApp:
        made.append(Failing(app))
        return made[0]

    with served(tmp_path_factory.mktemp("failing") / "project", PROJECT, around) as front:
        yield front, made[0]


def message(type_: str = "track", **more: Any) -> dict[str, Any]:
    return {"type": type_, "messageId": f"m{next(NUMBERS)}", "userId": "u", **more}


def one(front: Front, message_id: str, columns: str = "*", topic: str = "site") -> dict[str, Any]:
    [row] = front.rows(f"select {columns} from {topic} where message_id = '{message_id}'")
    return dict(row)


# The clients.


def test_the_python_client_delivers_every_kind_of_message(front: Front) -> None:
    client = Client("any key", host=f"http://{front.address}", gzip=True, max_retries=3)
    client.identify("ada", {"plan": "free"})
    client.track("ada", "Paid", {"amount": 1.5}, context={"ip": "1.2.3.4"})
    client.page("ada", "shop", "cart", {"path": "/cart"})
    client.screen("ada", "home", "start")
    client.group("ada", "engineers", {"size": 3})
    client.alias("old", "ada")
    client.shutdown()
    found = front.rows("select type, event, user_id, properties, group_id from site where user_id = 'ada'")
    assert {row["type"]: (row["event"], row["properties"] and json.loads(row["properties"])) for row in found} == {
        "identify": (None, {"plan": "free"}),
        "track": ("Paid", {"amount": 1.5}),
        "page": (None, {"path": "/cart"}),
        "screen": (None, {}),
        "group": (None, {"size": 3}),
        "alias": (None, None),
    }
    assert [row["group_id"] for row in found if row["type"] == "group"] == ["engineers"]
    assert front.rows("select distinct type from clicks where user_id = 'ada' order by 1") == [
        {"type": "page"},
        {"type": "track"},
    ]


SCRIPTS = {
    "refused before": [500, 503],
    "carried out, and the answer lost": [-500, -502],
    "both, and then too many": [-503, 500, 429],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_the_python_client_loses_nothing_and_doubles_nothing(
    failing_front: tuple[Front, Failing], script: list[int | None]
) -> None:
    front, failing = failing_front
    failing.script = iter(script)
    event = f"Python {script}"
    client = Client("any key", host=f"http://{front.address}", upload_size=10, max_retries=10)
    for number in range(25):
        client.track(f"u{number}", event, {"number": number})
    client.flush()
    client.shutdown()
    found = front.rows(f"select properties from site where event = '{event}'")
    assert sorted(json.loads(row["properties"])["number"] for row in found) == list(range(25))
    assert front.mill.dead(asset="site") == []


def test_the_node_client_loses_nothing_and_doubles_nothing(
    failing_front: tuple[Front, Failing], node_folder: Path
) -> None:
    front, failing = failing_front
    failing.script = iter([500, -500, None, -503])
    command = ["node", "send.mjs", f"http://{front.address}", "30"]
    done = subprocess.run(command, cwd=node_folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = front.rows("select properties from site where event = 'From Node'")
    assert sorted(json.loads(row["properties"])["number"] for row in found) == list(range(30))
    assert front.rows("select count(*) as n from site where type = 'identify' and user_id = 'u0'") == [{"n": 1}]
    assert front.mill.dead(asset="site") == []


# What the addresses take.


@pytest.mark.parametrize("type_", ["track", "identify", "page", "screen", "group", "alias"])
def test_each_type_has_an_address_of_its_own(front: Front, type_: str) -> None:
    sent = message("ignored", properties={"a": 1.10})
    answer = front.ask("POST", f"/v1/{type_}", json.dumps(sent))
    assert (answer.status, answer.json["success"]) == (200, True)
    assert one(front, sent["messageId"], "type, user_id") == {"type": type_, "user_id": "u"}


def test_any_write_key_is_taken_where_none_is_configured(front: Front) -> None:
    for key in ("", "any"):
        basic = base64.b64encode(f"{key}:".encode()).decode()
        answer = front.ask("POST", "/v1/track", json.dumps(message()), Authorization=f"Basic {basic}")
        assert answer.status == 200


NOW = dt.datetime.now(dt.UTC)


@pytest.mark.parametrize("ahead_seconds", [-7_200, 0, 86_400])
def test_a_wrong_clock_is_corrected_by_how_wrong_it_was_when_it_sent(front: Front, ahead_seconds: int) -> None:
    clock = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_seconds)
    sent = message(timestamp=(clock - dt.timedelta(seconds=90)).isoformat())
    front.ask("POST", "/v1/batch", json.dumps({"batch": [sent], "sentAt": clock.isoformat()}))
    row = one(front, sent["messageId"], "event_time, received_at")
    happened, received = (dt.datetime.fromisoformat(row[name]) for name in ("event_time", "received_at"))
    assert abs((received - happened).total_seconds() - 90) < 0.1


def test_a_message_that_is_sent_again_later_is_the_same_message(front: Front) -> None:
    for written in ({"timestamp": NOW.isoformat()}, {}):
        sent = message(**written)
        for minutes in range(3):
            at = (NOW + dt.timedelta(minutes=minutes)).isoformat()
            answer = front.ask("POST", "/v1/batch", json.dumps({"batch": [sent], "sentAt": at}))
            counts = answer.json["topics"]["site"]
            assert (counts["accepted"], counts["duplicate"], counts["parked"]) == (
                (1, 0, 0) if not minutes else (0, 1, 0)
            )


def test_the_same_id_with_another_content_is_parked(front: Front) -> None:
    sent = message(timestamp=NOW.isoformat())
    front.ask("POST", "/v1/track", json.dumps(sent))
    for other in ({"timestamp": (NOW - dt.timedelta(hours=1)).isoformat()}, {"event": "Other"}):
        answer = front.ask("POST", "/v1/track", json.dumps({**sent, **other}))
        assert answer.json["topics"]["site"]["parked"] == 1


def test_digits_of_properties_are_kept(front: Front) -> None:
    front.ask("POST", "/v1/track", b'{"messageId": "digits", "properties": {"n": 1.10, "big": 12345678901234567890}}')
    assert one(front, "digits", "properties")["properties"] == '{"n": 1.10, "big": 12345678901234567890}'


def test_what_is_no_message_is_parked_with_its_place_and_the_rest_lands(front: Front) -> None:
    good = message()
    batch = [5, good, {"type": "tracked"}, message(timestamp="yesterday"), {**message(), "type": None}]
    answer = front.ask("POST", "/v1/batch", json.dumps({"batch": batch}))
    said = answer.json["topics"]["site"]
    assert (answer.status, said["accepted"], said["parked"]) == (200, 1, 4)
    assert [each["index"] for each in said["results"]] == [0, 2, 3, 4]
    assert "not a type of message" in said["results"][1]["reason"]
    assert said["results"][2]["column"] == "event_time"
    assert one(front, good["messageId"], "type") == {"type": "track"}


def test_a_message_without_an_id_gets_one(front: Front) -> None:
    answer = front.ask("POST", "/v1/track", json.dumps({"event": "nameless"}))
    assert answer.json["topics"]["site"]["accepted"] == 1
    [row] = front.rows("select message_id from site where event = 'nameless'")
    assert len(row["message_id"]) == 36


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"batch": 5}', b'{"messages": []}', b'{"batch": [}'])
def test_a_broken_batch_is_refused(front: Front, body: bytes) -> None:
    assert front.ask("POST", "/v1/batch", body).status == 400


def test_a_project_without_such_a_topic_says_how_to_have_one(tmp_path: Path) -> None:
    with served(tmp_path / "project", '[project]\nname = "none"\n') as front:
        answer = front.ask("POST", "/v1/track", "{}")
        assert answer.status == 404
        assert "tracking = true" in answer.json["error"]["mend"]
