"""`Idempotency-Key`: the same request again does nothing twice, also where the first one was cut off or killed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.door.conftest import Answer, Front, answer_of
from tests.e2e.conftest import until
from tidemill.server.events import CHUNK_BYTES
from tidemill.server.idempotency import Keyed, Keys

NDJSON = "application/x-ndjson"
LINE = b'{"n":1}\n'
MANY = LINE * (CHUNK_BYTES // len(LINE) + 1_000)


def rows(front: Front) -> int:
    return int(front.rows("select count(*) as n from plain")[0]["n"])


@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_the_same_request_again_gets_the_same_answer_and_does_nothing(front: Front, media_type: str) -> None:
    before = rows(front)
    said = {"Idempotency_Key": f"again {media_type}", "Content_Type": media_type}
    first = front.post("plain", LINE * 3 + b'{"n":"x"}\n', **said)
    again = front.post("plain", LINE * 3 + b'{"n":"x"}\n', **said)
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    assert first.json["accepted"] == 3
    assert again.headers["idempotent-replayed"] == "true"
    assert rows(front) == before + 3


def test_the_same_key_for_another_asset_is_another_request(front: Front) -> None:
    for asset in ("plain", "orders"):
        assert "idempotent-replayed" not in front.post(asset, LINE, Idempotency_Key="both").headers


@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
@pytest.mark.parametrize("other", [LINE, LINE * 3, b'{"n":2}\n' * 2])
def test_the_same_key_with_another_body_is_refused(front: Front, media_type: str, other: bytes) -> None:
    said = {"Idempotency_Key": f"other {media_type} {other!r}"[:200], "Content_Type": media_type}
    assert front.post("plain", LINE * 2, **said).status == 202
    before = rows(front)
    answer = front.post("plain", other, **said)
    assert answer.status == 422
    assert "another body" in answer.json["error"]["message"]
    assert rows(front) == before


def test_a_stream_that_was_cut_goes_on_from_where_it_is_durable(front: Front) -> None:
    before = rows(front)
    cut_off(front, "cut", MANY[:-3])  # in the middle of a line, so that something is always missing
    until(lambda: rows(front) > before, "a chunk is in the topic")
    kept = until(lambda: settled(front), "the request is over")
    assert before < kept < before + MANY.count(b"\n")
    answer = until(lambda: not_running(front, "cut"), "the key is free")
    assert answer.json["accepted"] == MANY.count(b"\n")
    assert rows(front) == before + MANY.count(b"\n")


def cut_off(front: Front, key: str, body: bytes) -> None:
    """Send a body of unknown length, and leave before its end."""
    connection = HTTPConnection(front.address, timeout=20)
    connection.putrequest("POST", "/v1/assets/plain/events")
    for name, said in {"Content-Type": NDJSON, "Transfer-Encoding": "chunked", "Idempotency-Key": key}.items():
        connection.putheader(name, said)
    connection.endheaders()
    connection.send(b"%x\r\n%s\r\n" % (len(body), body))
    connection.close()


def settled(front: Front) -> int:
    count = rows(front)
    return count if rows(front) == count else 0


def not_running(front: Front, key: str) -> Answer | None:
    answer = front.post("plain", MANY, Idempotency_Key=key, Content_Type=NDJSON)
    return None if answer.status == 409 else answer


def test_while_the_first_is_worked_on_the_second_is_told_so(front: Front) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield LINE
        begun.set()
        go_on.wait(10)
        yield LINE

    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.append(front.post_stream("plain", body(), Idempotency_Key="two")))
    sender.start()
    assert begun.wait(10)
    until(lambda: front.post("plain", LINE, Idempotency_Key="two").status == 409, "the first is being worked on")
    go_on.set()
    sender.join(10)
    assert answers[0].json["accepted"] == 2


def test_a_key_that_nobody_can_read_is_refused(front: Front) -> None:
    for key in ("x" * 256, "a\tb"):
        connection = HTTPConnection(front.address, timeout=20)
        connection.request("POST", "/v1/assets/plain/events", LINE, {"Idempotency-Key": key})
        assert answer_of(connection).status == 400
        connection.close()


def test_a_refused_batch_leaves_its_key_free(front: Front) -> None:
    said = {"Idempotency_Key": "strict", "Prefer": "handling=strict"}
    assert front.post("plain", [{"n": "x"}], **said).status == 422
    assert front.post("plain", [{"n": 1}], **said).status == 202


class Notes:
    """Notes in memory."""

    def __init__(self) -> None:
        self.notes: dict[tuple[str, str], Any] = {}
        self.forgotten: list[tuple[str, str]] = []

    def remembered(self, topic: str, name: str) -> Any:
        return self.notes.get((topic, name))

    def forget(self, first: str, last: str) -> None:
        self.forgotten.append((first, last))


async def use(keys: Keys) -> tuple[bool, Keyed]:
    async with keys.using("plain", "k") as keyed:
        return keyed.is_done, keyed


@pytest.mark.parametrize(("days", "is_known"), [(0, True), (1, True), (2, False)])
def test_a_key_is_known_for_a_day_at_least(days: int, is_known: bool) -> None:
    notes, now = Notes(), [20_000 * 86_400.0]
    keys = Keys(notes, lambda: now[0])  # type: ignore[arg-type]
    _, keyed = asyncio.run(use(keys))
    topic, name, value = keyed.note(LINE, is_done=True)({"accepted": 1})
    notes.notes[topic, name] = json.loads(json.dumps(value))
    now[0] += days * 86_400
    is_done, _ = asyncio.run(use(keys))
    assert is_done is is_known
    assert notes.forgotten[-1] == ("idempotency:00000000", f"idempotency:{20_000 + days - 2:08d}")
