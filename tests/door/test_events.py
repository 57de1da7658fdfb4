"""Events over HTTP: every shape, every encoding, what is not accepted and why, and the limits."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from backports import zstd

from tests.door.conftest import Answer, Front, answer_of
from tests.e2e.conftest import until
from tidemill.server.events import CHUNK_BYTES

NDJSON = "application/x-ndjson"
NUMBERS = itertools.count()


def order(**more: Any) -> dict[str, Any]:
    return {"id": f"o{next(NUMBERS)}", "amount": 1, **more}


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def counts(answer: Answer) -> tuple[int, int, int, int]:
    said = answer.json
    return answer.status, said["accepted"], said["duplicate"], said["parked"]


def amount_of(front: Front, id_: str) -> Any:
    [row] = front.rows(f"select amount from orders where id = '{id_}'")
    return row["amount"]


# Shapes and encodings.


@pytest.mark.parametrize("media_type", ["application/json", "application/vnd.shop+json", "text/plain", ""])
def test_an_object_an_array_and_lines_are_taken(front: Front, media_type: str) -> None:
    said = {"Content_Type": media_type} if media_type else {}
    assert counts(front.post("orders", order(), **said)) == (202, 1, 0, 0)
    assert counts(front.post("orders", [order(), order()], **said)) == (202, 2, 0, 0)
    assert counts(front.post("orders", lines(order(), order(), order()), **said)) == (202, 3, 0, 0)


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl; charset=utf-8"])
def test_lines_of_json_are_taken_under_their_own_types(front: Front, media_type: str) -> None:
    body = lines(order(), order()).replace(b"\n", b"\r\n\r\n")
    assert counts(front.post("orders", body, Content_Type=media_type)) == (202, 2, 0, 0)


@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("zstd", zstd.compress)]
)
def test_a_compressed_body_is_taken(front: Front, name: str, pack: Any) -> None:
    one = order(amount=77)
    assert counts(front.post("orders", pack(lines(one)), Content_Encoding=name)) == (202, 1, 0, 0)
    assert amount_of(front, one["id"]) == 77
    members = pack(lines(order())) + pack(lines(order()))
    assert counts(front.post("orders", members, Content_Encoding=name, Content_Type=NDJSON)) == (202, 2, 0, 0)


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_a_body_that_is_cut_or_spoilt_is_refused(front: Front, name: str, pack: Any, media_type: str) -> None:
    packed = pack(lines(order()))
    for spoilt in (packed[:-3], b"not packed at all"):
        answer = front.post("orders", spoilt, Content_Encoding=name, Content_Type=media_type)
        assert answer.status == 400
        assert f"the body is not {name}" in answer.json["error"]["message"]


def test_an_encoding_or_a_type_that_is_not_read_says_which_are(front: Front) -> None:
    packed = front.post("orders", b"x", Content_Encoding="br")
    assert (packed.status, packed.headers["accept-encoding"]) == (415, "gzip, zstd")
    typed = front.post("orders", b"<x/>", Content_Type="text/xml")
    assert typed.status == 415
    assert "application/x-ndjson" in typed.json["error"]["mend"]


def test_a_stream_of_any_size_is_taken_in_chunks_and_counted_through(front: Front) -> None:
    def body() -> Iterator[bytes]:
        for number in range(40):
            yield b"".join(b'{"n":%d,"pad":"%s"}\n' % (number, b"x" * 2_000) for _ in range(100))
        yield b'{"n":"no number"}'  # the last line needs no break

    answer = front.post_stream("plain", body())
    assert counts(answer) == (202, 4_000, 0, 1)
    assert answer.json["results"][0]["index"] == 4_000
    assert front.mill.dead(asset="plain")[0]["reason"].startswith('"no number" is not a lossless integer')


def test_a_stream_is_durable_while_it_comes(front: Front) -> None:
    before = head(front, "plain")
    connection = HTTPConnection(front.address, timeout=20)
    connection.putrequest("POST", "/v1/assets/plain/events")
    connection.putheader("Content-Type", NDJSON)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = b'{"n":1}\n' * (CHUNK_BYTES // 8 + 1)
    connection.send(b"%x\r\n%s\r\n" % (len(sent), sent))
    until(lambda: head(front, "plain") > before, "the first chunk is in the topic")
    connection.send(b"0\r\n\r\n")
    assert answer_of(connection).json["accepted"] == len(sent) // 8
    connection.close()


def head(front: Front, asset: str) -> int:
    return next(int(each["head"]) for each in front.mill.status()["assets"] if each["asset"] == asset)


@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_a_byte_order_mark_is_no_part_of_what_was_sent(front: Front, media_type: str) -> None:
    first, second = order(amount=5), order(amount=6)
    body = lines(first, second) if media_type == NDJSON else json.dumps([first, second]).encode()
    assert counts(front.post("orders", b"\xef\xbb\xbf" + body, Content_Type=media_type)) == (202, 2, 0, 0)
    assert (amount_of(front, first["id"]), amount_of(front, second["id"])) == (5, 6)


# What is not accepted.


def test_the_answer_lists_what_was_not_accepted_by_its_place(front: Front) -> None:
    known, new = order(), order()
    front.post("orders", known)
    answer = front.post("orders", [new, {**known}, order(amount="5.7"), {"amount": 1}, {**new, "amount": 2}])
    assert counts(answer) == (202, 1, 1, 3)
    said = [(each["index"], each["status"], each["column"]) for each in answer.json["results"]]
    assert said == [(1, "duplicate", ""), (2, "parked", "amount"), (3, "parked", "id"), (4, "parked", "id")]
    reasons = [each["reason"] for each in answer.json["results"]]
    assert "the same event is at offset" in reasons[0]
    assert '"5.7" is not a lossless integer' in reasons[1]
    assert "same id, other content" in reasons[3]


def test_a_long_list_of_what_was_not_accepted_is_cut(front: Front) -> None:
    answer = front.post("plain", [{"n": "x"}] * 60)
    assert (answer.json["parked"], len(answer.json["results"]), answer.json["results_left_out"]) == (60, 50, 10)


def test_a_batch_is_taken_whole_or_not_at_all_where_that_is_asked_for(front: Front) -> None:
    good, bad = order(), order(amount="x")
    for media_type in ("application/json", NDJSON):
        body = lines(good, bad)
        answer = front.post("orders", body, Prefer="handling=strict", Content_Type=media_type)
        assert answer.status == 422
        assert "none was" in answer.json["error"]["message"]
        assert [(each["index"], each["status"]) for each in answer.json["results"]] == [(1, "refused")]
        assert answer.json["accepted"] == 0
    assert front.rows(f"select * from orders where id = '{good['id']}'") == []
    assert counts(front.post("orders", good, Prefer="handling=strict")) == (202, 1, 0, 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": "x", "amount": }', "malformed"),
        (b'{"id": "x" "amount": 1}', "byte 11"),
        (b'{"id": "\xff"}', "UTF-8"),
        (b'{"id": "x", "amount": 9007199254740993.5}', "fraction or is out of range"),
        (b'{"id": "x", "amount": 99999999999}', "out of range"),
        (b'{"id": "x", "placed_at": "2026-13-01"}', "not a lossless timestamp"),
        (b'{"id": "x", "more": ' + b"[" * 80 + b"]" * 80 + b"}", "nested deeper than 64"),
        (b'"text"', "must be a JSON object"),
    ],
)
def test_a_wrong_event_is_parked_with_its_place_and_reason(front: Front, body: bytes, reason: str) -> None:
    answer = front.post("orders", body)
    assert counts(answer) == (202, 0, 0, 1)
    assert reason in answer.json["results"][0]["reason"]


@pytest.mark.parametrize("body", [b"[", b'[{"a": 1}, {]', b'["\xff", ]', b"[" * 200_000])
def test_a_broken_array_is_refused_whole(front: Front, body: bytes) -> None:
    answer = front.post("orders", body)
    assert answer.status == 400
    assert "not a JSON array" in answer.json["error"]["message"]


def test_an_unknown_asset_names_the_nearest(front: Front) -> None:
    answer = front.post("order", {})
    assert (answer.status, answer.json["error"]["mend"]) == (404, "did you mean `orders`?")


def test_an_external_asset_changed(front: Front) -> None:
    before = head(front, "outside")
    assert front.post("outside", b"").json["accepted"] == 1
    assert head(front, "outside") == before + 1


# CloudEvents.

EVENT = {"specversion": "1.0", "source": "/shop", "type": "order.paid", "time": "2026-11-20T10:00:00Z"}


def ce(id_: str, data: Any, **more: Any) -> dict[str, Any]:
    return {**EVENT, "id": id_, "data": data, **more}


def test_a_structured_event_keeps_its_attributes_and_its_data(front: Front) -> None:
    said = ce("1", {"amount": 1.10, "deep": [1, {"x": None}]}, subject="s", extension="e")
    answer = front.post("envelopes", json.dumps(said, indent=1).encode(), Content_Type="application/cloudevents+json")
    assert counts(answer) == (202, 1, 0, 0)
    [row] = front.rows("select * from envelopes where id = '1'")
    assert row == {
        "event_id": "/shop 1",
        "id": "1",
        "source": "/shop",
        "type": "order.paid",
        "subject": "s",
        "event_time": "2026-11-20T10:00:00",
        "datacontenttype": None,
        "data": row["data"],
    }
    assert json.loads(row["data"]) == {"amount": 1.10, "deep": [1, {"x": None}]}


def binary(id_: str, **more: str) -> dict[str, str]:
    said = {"ce_specversion": "1.0", "ce_id": id_, "ce_source": "/shop", "ce_type": "order.paid"}
    return {**said, **more}


def test_the_three_modes_bring_the_same_event(front: Front) -> None:
    one = ce("mode", {"amount": 3})
    first = front.post("envelopes", one, Content_Type="application/cloudevents+json")
    batch = front.post("envelopes", [one, ce("other", None)], Content_Type="application/cloudevents-batch+json")
    said = binary("mode", ce_time=EVENT["time"])
    headers = front.post("envelopes", b'{"amount": 3}', **said)
    assert counts(first) == (202, 1, 0, 0)
    assert counts(batch) == (202, 1, 1, 0)
    assert counts(headers) == (202, 0, 1, 0)


def test_identity_is_source_and_id_together(front: Front) -> None:
    for source in ("/a", "/b"):
        answer = front.post("envelopes", ce("same", 1, source=source), Content_Type="application/cloudevents+json")
        assert counts(answer) == (202, 1, 0, 0)


@pytest.mark.parametrize(
    ("body", "media_type", "data"),
    [
        (b"hello", "text/plain", '"hello"'),
        (b"\xff\x00", "application/octet-stream", '"/wA="'),
        (b"[1.10]", "application/vnd.x+json", "[1.10]"),
        (b"", "application/json", None),
    ],
)
def test_binary_data_of_any_type_is_kept(front: Front, body: bytes, media_type: str, data: Any) -> None:
    answer = front.post("envelopes", body, **binary(media_type, Content_Type=media_type))
    assert counts(answer) == (202, 1, 0, 0)
    [row] = front.rows(f"select data, datacontenttype from envelopes where id = '{media_type}'")
    assert row == {"data": data, "datacontenttype": media_type}


def test_a_topic_of_its_own_shape_takes_the_data_as_the_event(front: Front) -> None:
    front.post("orders", ce("own", {"amount": 9}), Content_Type="application/cloudevents+json")
    front.post("orders", ce("kept", {"id": "mine", "amount": 8}), Content_Type="application/cloudevents+json")
    assert front.rows("select id, amount, placed_at from orders where amount > 7 and amount < 10 order by id") == [
        {"id": "/shop own", "amount": 9, "placed_at": "2026-11-20T10:00:00"},
        {"id": "mine", "amount": 8, "placed_at": "2026-11-20T10:00:00"},
    ]


def test_an_event_of_a_batch_that_is_none_is_parked_alone(front: Front) -> None:
    body = [ce("b1", 1), {"id": "b2"}, ce("b3", 1), 5, ce("b4", 1, specversion="0.3")]
    answer = front.post("envelopes", body, Content_Type="application/cloudevents-batch+json")
    assert counts(answer) == (202, 2, 0, 3)
    said = [(each["index"], each["reason"]) for each in answer.json["results"]]
    assert [index for index, _ in said] == [1, 3, 4]
    assert "specversion is missing" in said[0][1]
    assert "not a JSON object" in said[1][1]
    assert '"0.3" is not read here' in said[2][1]


@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_a_single_event_without_an_attribute_is_refused(front: Front, missing: str) -> None:
    answer = front.post("envelopes", {**ce("m", 1), missing: ""}, Content_Type="application/cloudevents+json")
    assert answer.status == 400
    assert f"the attribute {missing} is missing or empty" in answer.json["error"]["message"]


# Limits.


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(front: Front) -> None:
    answer = front.post("orders", b" " * 3_000_001)
    assert answer.status == 413
    assert "3000000 bytes" in answer.json["error"]["message"]


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
@pytest.mark.parametrize("media_type", ["application/json", NDJSON])
def test_a_bomb_is_refused_however_small_it_is(front: Front, name: str, pack: Any, media_type: str) -> None:
    bomb = pack(b"x" * 50_000_000)
    assert len(bomb) < 100_000
    answer = front.post("plain", bomb, Content_Encoding=name, Content_Type=media_type)
    assert answer.status == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [({f"X-{number}": "1" for number in range(120)}, 431), ({"X-Long": "x" * 40_000}, 431)],
    ids=["many", "long"],
)
def test_too_many_or_too_long_headers_are_refused(front: Front, headers: dict[str, str], status: int) -> None:
    assert front.ask("GET", "/healthz", **headers).status == status
    assert front.post("orders", order(), **headers).status == status


def test_too_long_an_address_is_refused(front: Front) -> None:
    assert front.ask("GET", "/healthz?" + "x" * 9_000).status == 414


def test_a_body_that_pauses_too_long_is_refused(front: Front) -> None:
    connection = HTTPConnection(front.address, timeout=20)
    connection.putrequest("POST", "/v1/assets/orders/events")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"id"')
    answer = answer_of(connection)
    connection.close()
    assert answer.status == 408
    assert "nothing of the body came for 2 s" in answer.json["error"]["message"]


def test_a_head_that_never_ends_is_cut_off(front: Front) -> None:
    with socket.create_connection(host_and_port(front), timeout=10) as raw:
        raw.sendall(b"POST /v1/assets/orders/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert raw.recv(100) == b""


def test_a_head_that_grows_without_end_is_cut_off_before_it_fills_memory(front: Front) -> None:
    header = b"X: %s\r\n" % (b"x" * 1_000)
    with socket.create_connection(host_and_port(front), timeout=10) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        taken = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while taken < 40_000_000:
                taken += raw.send(header * 100)
    assert taken < 20_000_000  # what it takes besides stands in the buffers of the system


def test_a_sender_that_leaves_in_the_middle_takes_nothing_with_it(front: Front) -> None:
    one = order()
    with socket.create_connection(host_and_port(front), timeout=10) as raw:
        body = json.dumps(one).encode()
        raw.sendall(b"POST /v1/assets/orders/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % 999)
        raw.sendall(body)
    assert counts(front.post("orders", one)) == (202, 1, 0, 0)


def test_where_there_is_no_room_the_sender_is_told_when_to_come_again(front: Front) -> None:
    """Five bodies that never end fill the room of four; the fifth is refused at once, and then there is room again."""
    half = (
        b"POST /v1/assets/orders/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2999999\r\n\r\n"
        + b" " * 2_900_000
    )
    answers: list[bytes] = []
    senders = [threading.Thread(target=lambda: answers.append(first_bytes(front, half))) for _ in range(5)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(20)
    assert sorted(answer.split()[1] for answer in answers) == [b"408"] * 4 + [b"429"]
    assert any(b"retry-after: 1\r\n" in answer for answer in answers)
    one = order()
    assert front.post("orders", one).status == 202
    assert amount_of(front, one["id"]) == 1


def first_bytes(front: Front, sent: bytes) -> bytes:
    with socket.create_connection(host_and_port(front), timeout=10) as raw:
        raw.sendall(sent)
        return raw.recv(4_000)


def host_and_port(front: Front) -> tuple[str, int]:
    host, _, port = front.address.partition(":")
    return host, int(port)
