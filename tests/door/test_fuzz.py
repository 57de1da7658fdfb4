"""Whatever is sent, and however it is cut: every event is one of accepted, duplicate and parked, and the good ones are in
the topic once."""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.door.conftest import PROJECT, Answer, Front, served
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind, Column
from tidemill.project.hooks import Hook
from tidemill.project.secrets import Secret
from tidemill.server import hooks
from tidemill.server.chunks import Shape, chunk_of
from tidemill.server.messages import chunk_for, messages_in
from tidemill.server.refusals import WrongSignature
from tidemill.server.signatures import SCHEMES, verify

EXAMPLES = itertools.count()
PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "zstd": zstd.compress}
some = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("fuzz") / "project", PROJECT) as front:
        yield front


# Events by lines and arrays.


@dataclass(frozen=True)
class Sent:
    """One event: its text, and what must become of it after those before."""

    text: str
    id: str = ""
    amount: int = 0


NOT_EVENTS = st.sampled_from(
    [
        "{", "}", "nothing", '"text"', "[1]", "5", "null", '{"id": 1', '{"id": "x"} {"id": "y"}', '{"amount": 1}',
        '{"id": null}', '{"id": "x", "amount": 5.5}', '{"id": "x", "amount": "5.5"}', '{"id": "x", "amount": 3e99}',
        '{"id": "x", "placed_at": "soon"}', '{"id": "\\ud800"}', '{"id": "x", "a": NaN}', "\x00", "\ufeff", "{'id': 1}",
        '{"id": "x", "deep": ' + "[" * 70 + "]" * 70 + "}", '{"id": "x", "long": "' + "y" * (1 << 20) + '"}',
    ]
)  # fmt: skip
IDS = st.integers(0, 9)
EVENTS = st.lists(
    st.tuples(st.just("good"), IDS, st.integers(0, 2)) | st.tuples(st.just("bad"), NOT_EVENTS, st.just(0)), max_size=25
)
JSON_ONLY = ('"text"', "[1]", "5", "null", '{"amount": 1}', '{"id": null}', '{"id": "x", "amount": 5.5}')


def sent_of(drawn: list[tuple[str, Any, int]]) -> list[Sent]:
    """The events of one example, with ids of their own; ids of other examples are never met."""
    example = next(EXAMPLES)
    found = []
    for kind, what, amount in drawn:
        id_ = f"{example}-{what}"
        space = " " * amount  # blanks say nothing: the event is the same
        event = f'{{"id":{space}"{id_}", "amount": {amount // 2}}}'
        found.append(Sent(event, id_, amount // 2) if kind == "good" else Sent(what))
    return found


def expected(sent: list[Sent]) -> tuple[int, int, int, dict[str, int]]:
    """How many are accepted, duplicate and parked, and the amount of each id in the topic."""
    taken: dict[str, int] = {}
    duplicate = parked = 0
    for each in sent:
        if not each.id or taken.get(each.id, each.amount) != each.amount:
            parked += 1
        elif each.id in taken:
            duplicate += 1
        taken |= {each.id: taken.get(each.id, each.amount)} if each.id else {}
    return len(taken), duplicate, parked, taken


def check(front: Front, sent: list[Sent], answer: Answer) -> None:
    accepted, duplicate, parked, taken = expected(sent)
    assert answer.status == 202, answer.body
    said = answer.json
    assert (said["accepted"], said["duplicate"], said["parked"]) == (accepted, duplicate, parked)
    assert len(said["results"]) + said.get("results_left_out", 0) == duplicate + parked
    if taken:
        prefix = next(iter(taken)).partition("-")[0]
        rows = front.rows(f"select id, amount from orders where id like '{prefix}-%'")
        assert sorted((row["id"], row["amount"]) for row in rows) == sorted(taken.items())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@some
@given(EVENTS, st.sampled_from(["\n", "\r\n", "\n\n \n"]), st.lists(st.integers(0, 1 << 22), max_size=6), st.data())
def test_lines_are_each_taken_or_told_however_they_are_cut_and_packed(
    door: Front, drawn: list[tuple[str, Any, int]], between: str, places: list[int], data: st.DataObject
) -> None:
    sent = sent_of(drawn)
    encoding = data.draw(st.sampled_from(list(PACKED)))
    body = PACKED[encoding](between.join(each.text for each in sent).encode("utf-8", "surrogatepass"))
    said = {"Content_Encoding": encoding} if encoding else {}
    check(door, sent, door.post_stream("orders", cut(body, places), **said))


@some
@given(EVENTS)
def test_the_events_of_an_array_are_each_taken_or_told(door: Front, drawn: list[tuple[str, Any, int]]) -> None:
    sent = [each for each in sent_of(drawn) if each.id or each.text in JSON_ONLY]
    check(door, sent, door.post("orders", f"[{','.join(each.text for each in sent)}]".encode()))


@some
@given(EVENTS, st.lists(st.integers(0, 1 << 12), max_size=4))
def test_a_stream_that_is_sent_again_under_its_key_does_nothing_twice(
    door: Front, drawn: list[tuple[str, Any, int]], places: list[int]
) -> None:
    sent = sent_of(drawn)
    body = "\n".join(each.text for each in sent).encode("utf-8", "surrogatepass")
    key = f"key-{next(EXAMPLES)}"
    first = door.post_stream("orders", cut(body, places), Idempotency_Key=key)
    check(door, sent, first)
    again = door.post_stream("orders", cut(body, places[::2]), Idempotency_Key=key)
    assert again.json == first.json


# Tracking calls and CloudEvents.


MESSAGES = st.lists(
    st.sampled_from(["track", "page", "identify"]).flatmap(lambda type_: st.tuples(st.just(type_), IDS))
    | st.tuples(
        st.just("bad"),
        st.sampled_from(['"x"', "5", "null", "[]", "{}", '{"type": "no"}', '{"type": 5}', '{"messageId": {}}']),
    ),
    max_size=12,
)


@some
@given(MESSAGES, st.sampled_from(list(PACKED)))
def test_every_tracking_message_is_in_its_topics_once_or_told(
    door: Front, drawn: list[tuple[str, Any]], encoding: str
) -> None:
    example = next(EXAMPLES)
    good = {f"{example}-{type_}-{what}": type_ for type_, what in drawn if type_ != "bad"}
    texts = [
        what if type_ == "bad" else json.dumps({"type": type_, "messageId": f"{example}-{type_}-{what}"})
        for type_, what in drawn
    ]
    body = PACKED[encoding](f'{{"batch": [{",".join(texts)}]}}'.encode())
    said = {"Content-Encoding": encoding} if encoding else {}
    answer = door.ask("POST", "/v1/batch", body, **said)
    assert answer.status == 200, answer.body
    for topic, types in (("site", {"track", "page", "identify"}), ("clicks", {"track", "page"})):
        wanted = {id_: type_ for id_, type_ in good.items() if type_ in types}
        told = answer.json["topics"][topic]
        counted = sum(type_ in types for type_, _ in drawn)
        assert told["accepted"] == len(wanted)
        assert told["duplicate"] == counted - len(wanted)
        assert told["parked"] == sum(type_ == "bad" for type_, _ in drawn)
        rows = door.rows(f"select message_id, type from {topic} where message_id like '{example}-%'")
        assert sorted((row["message_id"], row["type"]) for row in rows) == sorted(wanted.items())


@some
@given(st.lists(st.tuples(IDS, st.sampled_from(["", "", "id", "source", "type", "specversion"])), max_size=12))
def test_every_event_of_a_cloudevents_batch_is_taken_once_or_told(door: Front, drawn: list[tuple[int, str]]) -> None:
    example = next(EXAMPLES)
    events = []
    for number, missing in drawn:
        event = {"specversion": "1.0", "id": f"{example}-{number}", "source": "/f", "type": "t", "data": number}
        event.pop(missing, None)
        events.append(event)
    answer = door.post("envelopes", events, Content_Type="application/cloudevents-batch+json")
    good = [number for number, missing in drawn if not missing]
    said = answer.json
    counts = (said["accepted"], said["duplicate"], said["parked"])
    assert counts == (len(set(good)), len(good) - len(set(good)), len(drawn) - len(good))
    rows = door.rows(f"select id from envelopes where id like '{example}-%'")
    assert sorted(row["id"] for row in rows) == sorted(f"{example}-{number}" for number in set(good))


# Parsers by themselves.


TOPIC = Asset("t", AssetKind.TOPIC, (Column("id", "varchar"), Column("livemode", "boolean")), id="id", event_time="at")
TOPICS = st.sampled_from([TOPIC, replace(TOPIC, options={"cloudevents": True})])
DEEP = [b"[" * depth + b"]" * depth for depth in (100, 900, 1_100, 50_000)]
PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b",", b":", b'"', b'"id"', b"1", b"1e999", b"null", b'"\\u0000"', b'"\\ud800"', b"\xff",
        b"\xef\xbb\xbf", b"\n", b"\r", b'"type"', b'"track"', b'"batch"', b'"0001-01-01T00:00:00+14:00"', b"9" * 400,
        b'"specversion":"1.0"', b'"source"', b'"data_base64"', b'"sentAt"', b'"timestamp"', *DEEP,
    ]
)  # fmt: skip
MEMBERS = st.sampled_from(
    "id type created timestamp messageId sentAt originalTimestamp batch context data data_base64 source specversion "
    "time livemode payload hook event_id".split()
)
SAID = st.sampled_from(
    [b"1", b"null", b'"x"', b"[]", b"{}", b"9" * 400, b"-1e5", b'"\\n"', b"true", b"253402300800", b'"1.0"', *DEEP]
)
OBJECTS = st.dictionaries(MEMBERS, SAID, max_size=6).map(
    lambda members: b"{" + b",".join(b'"%s":%s' % (name.encode(), said) for name, said in members.items()) + b"}"
)
BODIES = (
    st.binary(max_size=60)
    | st.lists(PIECES, max_size=12).map(b"".join)
    | OBJECTS
    | st.lists(OBJECTS | SAID, max_size=3).map(lambda events: b"[" + b",".join(events) + b"]")
    | st.lists(OBJECTS | SAID, max_size=3).map(lambda events: b'{"batch":[' + b",".join(events) + b"]}")
)
HEADERS = st.fixed_dictionaries(
    {
        "content-type": st.sampled_from(["", "application/json", "application/x-www-form-urlencoded", "text/plain"]),
        "webhook-id": st.text(st.characters(max_codepoint=255), max_size=4),
        "x-shopify-triggered-at": st.sampled_from(["x", "2026-01-01", "99999"]),
        "x-github-delivery": st.just("1"),
        "x-shopify-webhook-id": st.just("1"),
        "ce-id": st.just("1"),
        "ce-source": st.sampled_from(["/", "%ff", "%"]),
        "ce-type": st.just("t"),
        "ce-specversion": st.sampled_from(["1.0", "0.3", ""]),
    }
)


@many
@given(st.sampled_from(list(Shape)), BODIES, HEADERS, TOPICS)
def test_every_event_of_a_body_is_one_line_or_refused(
    shape: Shape, body: bytes, headers: dict[str, str], topic: Asset
) -> None:
    with contextlib.suppress(UserError):
        chunk = chunk_of(shape, body, headers, topic)
        lines = chunk.lines.split(b"\n") if chunk.lines else []
        assert len(lines) == chunk.count
        assert all(line.strip() for line in lines)
        assert chunk.places is None or len(chunk.places) == len(set(chunk.places)) == chunk.count


@many
@given(BODIES, st.sampled_from(["", "track", "group"]), st.floats(0, 2e11))
def test_every_message_is_one_line_or_refused(body: bytes, type_: str, received_at: float) -> None:
    with contextlib.suppress(UserError):
        messages = messages_in(body, type_, received_at)
        chunk = chunk_for(replace(TOPIC, options={"tracking": True}), messages)
        assert chunk.count + len(chunk.refused) == len(messages)
        assert len(chunk.lines.split(b"\n") if chunk.lines else []) == chunk.count


@many
@given(st.sampled_from(list(SCHEMES)), BODIES, HEADERS)
def test_every_webhook_is_one_line_with_its_id_or_refused(scheme: str, body: bytes, headers: dict[str, str]) -> None:
    hook = Hook("h", scheme, "t", ())
    with contextlib.suppress(UserError):
        line = hooks._line(hook, TOPIC, headers, body)
        assert b"\n" not in line
        if b"[" * 900 not in body:
            assert json.loads(line)["event_id"]


@many
@given(st.sampled_from(list(SCHEMES)), st.text(st.characters(max_codepoint=255), max_size=40), BODIES)
def test_no_signature_that_is_none_passes(scheme: str, written: str, body: bytes) -> None:
    secret = Secret("whsec_" + base64.b64encode(b"x" * 24).decode(), Path())
    headers = {SCHEMES[scheme].signature: written, "webhook-timestamp": "0", "webhook-id": "1"}
    with pytest.raises(WrongSignature):
        verify(Hook("h", scheme, "t", (secret,)), headers, body, 0.0)
