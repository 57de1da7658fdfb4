"""Contracts at the HTTP door: what is left out is told, what evolves is taken, and versions can be asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.door.conftest import Front, served

PROJECT = "\n".join(
    f"""
[assets.{policy}]
kind = "topic"
schema = "{policy}"
[assets.{policy}.columns]
n = "integer"
"""
    for policy in ("strict", "evolve", "ignore")
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("schemas") / "project", PROJECT) as front:
        yield front


def test_the_answer_tells_of_fields_that_were_left_out(shop: Front) -> None:
    answer = shop.post("ignore", {"n": 1, "m": 2})
    assert answer.status == 202
    assert answer.json["warning"].startswith("events of ignore carry what it does not declare: m")
    assert "warning" not in shop.post("ignore", {"n": 1}).json


def test_the_fields_of_every_event_of_a_request_are_told(shop: Front) -> None:
    answer = shop.post("ignore", [{"n": 1}, {"n": 2, "late": 1}, {"n": 3}, {"n": 4, "later": 1, "late": 2}])
    assert answer.json["undeclared"] == ["late", "later"]
    assert "does not declare: late, later" in answer.json["warning"]


def test_each_of_many_requests_is_told_of_its_own_fields(shop: Front) -> None:
    told: dict[int, Any] = {}

    def send(who: int) -> None:
        told[who] = [shop.post("ignore", {"n": 1, **({f"own{who}": 1} if who % 2 else {})}).json for _ in range(10)]

    threads = [threading.Thread(target=send, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fields = {who: {tuple(each.get("undeclared", ())) for each in answers} for who, answers in told.items()}
    assert fields == {who: {(f"own{who}",)} if who % 2 else {()} for who in range(8)}


def test_a_stream_is_told_of_the_fields_of_all_its_parts_also_when_it_is_sent_again(shop: Front) -> None:
    def body() -> Iterator[bytes]:
        for part in range(3):
            yield b'{"n": 1}\n' * 150_000
            yield b'{"n": 1, "part%d": 1}\n' % part

    first = shop.post_stream("ignore", body(), Idempotency_Key="parts")
    assert first.json["undeclared"] == ["part0", "part1", "part2"]
    assert shop.post_stream("ignore", body(), Idempotency_Key="parts").json == first.json


def test_strict_parks_such_an_event_with_its_column(shop: Front) -> None:
    answer = shop.post("strict", [{"n": 1}, {"n": 2, "m": 2}])
    assert (answer.json["accepted"], answer.json["parked"]) == (1, 1)
    (result,) = answer.json["results"]
    assert (result["index"], result["column"], result["reason"]) == (1, "m", "the field m is not declared")
    assert shop.post("strict", [{"n": 1}, {"n": 2, "m": 2}], Prefer="handling=strict").status == 422


def test_evolve_takes_it_and_the_versions_can_be_asked_for(shop: Front) -> None:
    bodies = [{"n": 1}, {"n": 2, "m": "a"}, {"n": 5_000_000_000}]
    for body in bodies:
        answer = shop.post("evolve", body)
        assert (answer.status, answer.json["accepted"]) == (202, 1), answer.json
        assert "warning" not in answer.json
    shown = shop.ask("GET", "/v1/assets/evolve").json
    assert shown["schema"] == "evolve"
    assert shown["columns"] == {"n": "bigint", "m": "varchar"}
    assert [(each["version"], each["since"]) for each in shown["versions"]] == [(1, 0), (2, 1), (3, 2)]
    assert shown["versions"][0]["columns"] == {"n": "integer"}
    assert shop.ask("GET", "/v1/assets/nobody").status == 404
    found = shop.ask("GET", "/v1/assets/evolve/rows").json
    assert [(row["n"], row["m"]) for row in (found["rows"] if isinstance(found, dict) else found)] == [
        (1, None), (2, "a"), (5_000_000_000, None),
    ]  # fmt: skip


def test_lines_of_json_with_new_fields_in_every_request_are_all_taken(shop: Front) -> None:
    before = shop.ask("GET", "/v1/assets/evolve").json["versions"][-1]["since"]

    def send(who: int) -> None:
        lines = b"".join(json.dumps({"n": number, f"x{who}": number}).encode() + b"\n" for number in range(20))
        answer = shop.post("evolve", lines, Content_Type="application/x-ndjson")
        assert answer.json["accepted"] == 20

    threads = [threading.Thread(target=send, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for who in range(4):
        assert shop.rows(f"select count(x{who})::int as n, sum(x{who})::int as s from evolve") == [{"n": 20, "s": 190}]
    assert shop.ask("GET", "/v1/assets/evolve").json["versions"][-1]["since"] > before


def test_a_new_field_behind_a_byte_order_mark_becomes_a_column_too(shop: Front) -> None:
    assert shop.post("evolve", b'\xef\xbb\xbf{"n": 1, "marked": 7}').json["accepted"] == 1
    assert shop.rows("select marked from evolve where marked is not null") == [{"marked": 7}]
