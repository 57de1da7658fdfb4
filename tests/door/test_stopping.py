"""`on_error = "stop"`: a topic stops at what it cannot take, visibly, and nothing after it is acknowledged past it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.door.conftest import Answer, Front, served
from tests.stores.sqlite.ledger import ndjson, topic, values
from tidemill.core.errors import Stopped, UpstreamError
from tidemill.core.ports import Receipt, Sending
from tidemill.stores.sqlite import SQLiteStore

PROJECT = """
[assets.bookings]
kind = "topic"
id = "id"
on_error = "stop"
[assets.bookings.columns]
id = "varchar"
amount = "integer"

[assets.others]
kind = "topic"
[assets.others.columns]
n = "integer"
"""


@pytest.fixture
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("books") / "project", PROJECT) as front:
        yield front


def booking(id_: str, amount: Any = 1) -> dict[str, Any]:
    return {"id": id_, "amount": amount}


def ids(front: Front) -> list[str]:
    return [row["id"] for row in front.rows("select id from bookings order by id")]


def refused(answer: Answer) -> str:
    assert (answer.status, answer.json["error"]["kind"]) == (409, "Stopped"), answer.body
    return str(answer.json["error"]["message"])


def test_nothing_is_acknowledged_past_an_event_that_cannot_be_taken(books: Front) -> None:
    assert books.post("bookings", booking("a")).status == 202
    batch = [booking("b"), booking("c", "much"), booking("d")]
    assert 'stopped at an event that it does not take: "much" is not a lossless integer' in refused(
        books.post("bookings", batch)
    )
    assert "much" in refused(books.post("bookings", booking("e")))
    assert ids(books) == ["a"]
    assert books.post("others", {"n": 1}).status == 202
    kinds = {alarm["kind"] for alarm in books.mill.status()["alarms"]}
    assert {"parked", "stopped topic"} <= kinds


def test_it_goes_on_when_the_event_is_mended_and_replayed_and_all_is_sent_again(books: Front) -> None:
    batch = [booking("b"), booking("c", "much"), booking("d")]
    refused(books.post("bookings", batch))
    (letter,) = books.mill.dead()
    books.mill.edit_dead(letter["id"], json.dumps(booking("c", 7)))
    (settled,) = books.mill.replay_dead([letter["id"]])
    assert settled["state"] == "replayed"
    answer = books.post("bookings", batch).json
    assert (answer["accepted"], answer["parked"]) == (2, 1)
    assert ids(books) == ["b", "c", "d"]
    assert [letter["state"] for letter in books.mill.dead()] == ["replayed"]
    assert all(alarm["kind"] != "stopped topic" for alarm in books.mill.status()["alarms"])


def test_it_goes_on_past_an_event_that_is_discarded(books: Front) -> None:
    refused(books.post("bookings", b'{"id": "b"', Content_Type="application/x-ndjson"))
    books.mill.discard_dead([books.mill.dead()[0]["id"]])
    answer = books.post("bookings", b'{"id": "b"\n{"id": "c", "amount": 1}', Content_Type="application/x-ndjson")
    assert (answer.status, answer.json["accepted"], answer.json["parked"]) == (202, 1, 1)
    refused(books.post("bookings", booking("d", 2.5)))
    assert ids(books) == ["c"]


def test_the_same_id_with_other_content_stops_it_too_and_a_duplicate_does_not(books: Front) -> None:
    books.post("bookings", booking("a"))
    assert books.post("bookings", booking("a")).json["duplicate"] == 1
    assert "same id, other content" in refused(books.post("bookings", [booking("b"), booking("a", 2)]))
    assert ids(books) == ["a"]


def test_a_stream_under_a_key_goes_on_from_what_was_taken(books: Front) -> None:
    lines = b"".join(json.dumps(booking(f"s{number:06d}")).encode() + b"\n" for number in range(60_000))
    broken = lines + b'{"id": "t", "amount": "x"}\n'
    refused(books.post_stream("bookings", iter([lines, broken[len(lines) :]]), Idempotency_Key="k"))
    kept = len(ids(books))
    assert 0 < kept < 60_000
    books.mill.discard_dead([books.mill.dead()[0]["id"]])
    answer = books.post_stream("bookings", iter([broken]), Idempotency_Key="k").json
    assert (answer["accepted"], answer["duplicate"], answer["parked"]) == (60_000, 0, 1)
    assert len(ids(books)) == 60_000


def test_a_batch_that_is_to_be_taken_whole_is_refused_and_stops_nothing(books: Front) -> None:
    answer = books.post("bookings", [booking("a"), booking("b", "x")], Prefer="handling=strict")
    assert answer.status == 422
    assert books.post("bookings", booking("c")).status == 202
    refused(books.post("bookings", booking("d", "x")))
    refused(books.post("bookings", booking("e"), Prefer="handling=strict"))


def test_a_cloudevents_batch_with_what_is_none_stops_it(books: Front) -> None:
    good = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"amount": 1}}
    body = [good, {**good, "id": ""}]
    assert "the attribute id is missing or empty" in refused(
        books.post("bookings", body, Content_Type="application/cloudevents-batch+json")
    )
    assert ids(books) == []


def test_a_stopped_project_opens_and_is_still_stopped(books: Front) -> None:
    refused(books.post("bookings", booking("a", "x")))
    asset = books.mill.machine.catalog.assets["bookings"]
    assert books.mill.machine.ledger.append(asset, b"").head == 0
    with pytest.raises(UpstreamError):
        books.mill.emit("bookings", [booking("b")])


def test_a_stop_in_one_commit_concerns_its_topic_alone_and_keeps_no_mark() -> None:
    store = SQLiteStore()
    stopping = topic(name="s", id="id", options={"on_error": "stop"})
    with pytest.raises(Stopped):
        store.append(stopping, ndjson({"id": "1"}, {"id": "2", "n": "x"}), source="f", mark="9")
    assert store.mark("s", "f") == ""
    answers = store.append_all(
        [
            Sending(stopping, ndjson({"id": "3"}), 1),
            Sending(topic(), ndjson({"n": 1}, {"n": "x"}), 2),
            Sending(stopping, ndjson({"id": "4"}), 1, keep=lambda _: ("kept", "k", 1)),
        ]
    )
    assert [type(answer) for answer in answers] == [Stopped, Receipt, Stopped]
    assert store.notes("kept") == {}
    assert [row["n"] for row in values(store)] == [1]
    store.close()
