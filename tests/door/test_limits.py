"""Limits: their words in `[server]`, those that concern all requests together, and parsers that only ever refuse."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from tests.door.conftest import Front, served
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Receipt, Sending
from tidemill.project.loading import load
from tidemill.project.serving import Limits
from tidemill.server.chunks import Shape, chunk_of
from tidemill.server.committer import Committer
from tidemill.server.counts import Counts
from tidemill.server.encoding import PIECE_BYTES, decoding
from tidemill.server.messages import messages_in
from tidemill.server.rates import Rates
from tidemill.server.refusals import Busy, TooOften

TOPIC = Asset("t", AssetKind.TOPIC, id="id")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "ingest.md"


# Their words.


def test_every_limit_is_described() -> None:
    page = PAGE.read_text()
    assert [each.name for each in fields(Limits) if f"`{each.name}`" not in page] == []


@pytest.mark.parametrize(
    ("line", "message", "mend"),
    [
        ("request_byte_max = 5", "unknown word request_byte_max", "write request_bytes_max"),
        ("headers_max = 0", "headers_max is not a whole number above zero", "write headers_max = 100"),
        ("headers_max = true", "headers_max is not a whole number above zero", "write headers_max = 100"),
        ('headers_max = "5"', "headers_max is not a whole number above zero", "write headers_max = 100"),
        ('cors = "*"', "cors is not a list of origins", 'write cors = ["https://app.example.com"]'),
        ('cors = ["*"]', "cors is not a list of origins", 'write cors = ["https://app.example.com"]'),
        ('cors = ["https://a.b/c"]', "cors is not a list of origins", 'write cors = ["https://app.example.com"]'),
    ],
)
def test_a_wrong_word_is_a_problem_with_its_line(tmp_path: Path, line: str, message: str, mend: str) -> None:
    (tmp_path / "tidemill.toml").write_text(f'[project]\nname = "p"\n\n[server]\n{line}\n')
    [problem] = load(tmp_path).problems
    assert (problem.message, problem.mend, problem.place) == (f"server: {message}", mend, "tidemill.toml:5")


# Of a key.


def test_a_key_may_send_a_second_s_worth_at_once_and_no_more_than_its_rate_in_the_long_run() -> None:
    now = [100.0]
    rates = Rates(4, lambda: now[0])

    def taken(seconds: float, asked: int) -> int:
        now[0] += seconds
        return sum(1 for _ in range(asked) if not refused(lambda: rates.spend("a")))

    assert [taken(0, 10), taken(0.25, 10), taken(0.1, 10), taken(0.4, 10), taken(1_000, 10)] == [4, 1, 0, 2, 4]
    assert sum(taken(0.01, 3) for _ in range(1_000)) in range(39, 45)
    rates.spend("b")


def refused(work: Callable[[], None]) -> bool:
    try:
        work()
    except TooOften:
        return True
    return False


def test_a_key_that_asks_too_often_is_told_when_to_come_again_and_others_do_not_notice(tmp_path: Path) -> None:
    words = "[server]\nkey_requests_per_second_max = 1\n"
    topic = '[assets.t]\nkind = "topic"\n[assets.t.columns]\nn = "integer"\n'
    text = f'[project]\nname = "p"\n{words}{topic}'
    with served(tmp_path / "project", text) as front:
        hasty, calm = (front.mill.add_key(name, ["ingest", "read"])["secret"] for name in ("hasty", "calm"))
        answers = [front.post("t", {}, Authorization=f"Bearer {hasty}") for _ in range(20)]
        answer = next(answer for answer in answers if answer.status == 429)
        assert answer.headers["retry-after"] == "1"
        assert "the key hasty asks more than 1 times a second" in answer.json["error"]["message"]
        assert answers[0].status == front.post("t", {}, Authorization=f"Bearer {calm}").status == 202
        assert {front.post("t", {}, Authorization="Bearer owner").status for _ in range(5)} == {202}
        assert 429 in {front.ask("GET", "/v1/status", Authorization=f"Bearer {hasty}").status for _ in range(20)}
        assert len(front.rows("select * from t")) == sum(answer.status == 202 for answer in answers) + 6


# Of all requests together.


def test_more_connections_than_allowed_are_refused(tmp_path: Path) -> None:
    text = '[project]\nname = "p"\n[server]\nconnections_max = 3\n'
    with served(tmp_path / "project", text) as front, contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(socket.create_connection(host_and_port(front), timeout=10))
        assert front.ask("GET", "/healthz").status == 503


def host_and_port(front: Front) -> tuple[str, int]:
    host, _, port = front.address.partition(":")
    return host, int(port)


def test_more_requests_than_may_wait_are_refused_and_the_others_are_answered() -> None:
    go_on = threading.Event()

    def take(sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        go_on.wait(10)
        return [Receipt(accepted=1, head=1) for _ in sendings]

    async def story() -> tuple[int, int]:
        committer = Committer(take, 5, Counts())
        committer.start()
        asked = [asyncio.create_task(committer.commit(Sending(TOPIC, b"{}", 1))) for _ in range(8)]
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        committer.stop()
        busy = [each for each in answers if isinstance(each, Busy)]
        return len(busy), len([each for each in answers if isinstance(each, Receipt)])

    assert asyncio.run(story()) == (3, 5)


def test_what_goes_wrong_in_a_commit_is_told_to_every_request_of_it() -> None:
    def take(sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        raise RuntimeError("broken")

    async def story() -> list[Any]:
        committer = Committer(take, 5, Counts())
        committer.start()
        answers = await asyncio.gather(
            *(committer.commit(Sending(TOPIC, b"{}", 1)) for _ in range(3)), return_exceptions=True
        )
        committer.stop()
        return answers

    assert [str(each) for each in asyncio.run(story())] == ["broken"] * 3


# Decoders and parsers.


@given(st.binary(max_size=3_000), st.integers(1, 50), st.sampled_from(["gzip", "zstd"]), st.integers(1, 400))
def test_what_was_packed_is_unpacked_whatever_it_was_cut_into(
    data: bytes, times: int, encoding: str, size: int
) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if encoding == "gzip" else zstd.compress
    packed = pack(data * times) + pack(b"end")
    found = decoding(encoding)
    pieces = [piece for at in range(0, len(packed), size) for piece in found.feed(packed[at : at + size])]
    found.finish()
    assert b"".join(pieces) == data * times + b"end"
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_a_bomb_comes_out_in_pieces(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    pieces = list(decoding(encoding).feed(pack(b"0" * (40 * PIECE_BYTES + 1))))
    assert sum(map(len, pieces)) == 40 * PIECE_BYTES + 1
    assert max(map(len, pieces)) <= PIECE_BYTES


@given(st.binary(max_size=200), st.sampled_from(["gzip", "zstd"]))
def test_no_bytes_can_do_more_to_a_decoder_than_be_refused(data: bytes, encoding: str) -> None:
    found = decoding(encoding)
    with contextlib.suppress(UserError):
        list(found.feed(data))
        found.finish()


PIECES = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"', "\\u0000", "\n", '"id"', '"batch"', '"type":"track"', "1e999", "null", '"data"']
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)
BODIES = st.binary(max_size=80) | TEXTS.map(str.encode)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "source", "type", "specversion", "data", "data_base64", "time"]), inner
        )
    ),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode())


@given(st.sampled_from(list(Shape)), BODIES | JSONS, st.dictionaries(st.just("content-type"), st.text(max_size=20)))
def test_no_body_can_do_more_than_be_refused(shape: Shape, body: bytes, headers: dict[str, str]) -> None:
    with contextlib.suppress(UserError):
        chunk = chunk_of(
            shape, body, {**headers, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/", "ce-type": "t"}, TOPIC
        )
        lines = chunk.lines.split(b"\n") if chunk.lines else []
        assert len(lines) == chunk.count
        assert all(line.strip() for line in lines)


@given(BODIES | JSONS, st.sampled_from(["", "track", "group"]))
def test_no_tracking_call_can_do_more_than_be_refused(body: bytes, type_: str) -> None:
    with contextlib.suppress(UserError):
        assert all(b"\n" not in message.line for message in messages_in(body, type_, 0.0) if not message.reason)
