"""Emitting: rows, files that resume, streams, and what is said of events that were not accepted."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.fake import FakeMill
from tidemill.cli.sending import BLOCK_BYTES, RESULTS_MAX, send_file, send_stream
from tidemill.core.errors import OperatorError


def event(number: int, **said: Any) -> str:
    return json.dumps({"id": str(number), "carrier": "UA", "delay": number, **said})


def lines(*numbers: int) -> str:
    return "".join(f"{event(number)}\n" for number in numbers)


class Unplugged(FakeMill):
    """A mill that takes some blocks and then goes away."""

    def __init__(self, blocks_left: int) -> None:
        super().__init__()
        self.blocks_left = blocks_left

    def emit(self, asset: str, data: bytes, *, source: str = "", mark: str = "") -> Any:
        if not self.blocks_left:
            raise OperatorError("unplugged")
        self.blocks_left -= 1
        return super().emit(asset, data, source=source, mark=mark)


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """A file of three blocks."""
    file = tmp_path / "events.ndjson"
    padding = "x" * 10_000
    count = 2 * BLOCK_BYTES // 10_000 + 50
    file.write_text("".join(f"{event(number, padding=padding)}\n" for number in range(count)))
    return file


def test_several_rows_at_once(tidemill: Command) -> None:
    result = tidemill("emit", "departures", "--row", event(1), "--row", event(2), "--row", event(1))
    assert result.stdout == "departures: 2 accepted, 1 duplicate, 0 parked\n"


def test_a_row_keeps_its_digits(tidemill: Command, mill: FakeMill) -> None:
    tidemill("emit", "departures", "--row", '{"id": "1", "delay": 123456789012345678}')
    assert mill.query("select delay from departures") == [{"delay": 123456789012345678}]


def test_what_is_parked_is_said_with_its_place_and_fails_the_command(tidemill: Command) -> None:
    result = tidemill("emit", "departures", "-", stdin=lines(1) + '{"id": "2", "delay": "late"}\n')
    assert result.exit_code == 1
    assert result.stdout == "departures: 1 accepted, 0 duplicate, 1 parked\n"
    assert result.stderr == "  event 2 parked (delay): not a departure\n"


@pytest.mark.parametrize("row", ["{", "5", "[]", "not"])
def test_a_row_that_is_no_object_is_wrong_use(tidemill: Command, row: str) -> None:
    result = tidemill("emit", "departures", "--row", row)
    assert result.exit_code == 2
    assert "--row is not" in result.stderr


@pytest.mark.parametrize("words", [["--row", event(1)], ["--file", "events.ndjson"], ["-"], []], ids=" ".join)
def test_events_have_no_version(tidemill: Command, mill: FakeMill, words: list[str]) -> None:
    result = tidemill("emit", "departures", *words, "--version", "3", stdin=lines(1))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--version" in result.stderr
    assert "leave out --version" in result.stderr
    assert mill.query("select * from departures") == []


def test_an_external_asset_is_said_to_have_changed(tidemill: Command) -> None:
    result = tidemill("emit", "end_of_day", "--version", "2013-01-01", "--json")
    assert json.loads(result.stdout) == {"accepted": 1, "duplicate": 0, "parked": 0}


def test_a_topic_without_events_is_wrong_use(tidemill: Command) -> None:
    result = tidemill("emit", "departures")
    assert result.exit_code == 2
    assert "departures is a topic, and no events were given" in result.stderr


def test_an_unknown_asset_is_wrong_use(tidemill: Command) -> None:
    for words in (["nothing"], ["nothing", "--row", event(1)]):
        result = tidemill("emit", *words)
        assert result.exit_code == 2
        assert "there is no asset nothing" in result.stderr


def test_a_file_that_is_not_there_is_wrong_use(tidemill: Command) -> None:
    result = tidemill("emit", "departures", "--file", "nothing.ndjson")
    assert result.exit_code == 2
    assert "there is no file nothing.ndjson" in result.stderr


def test_a_file_goes_in_blocks_of_whole_lines(tidemill: Command, mill: FakeMill, big_file: Path) -> None:
    result = tidemill("emit", "departures", "--file", str(big_file), "--json")
    assert json.loads(result.stdout)["accepted"] == len(big_file.read_text().splitlines())
    assert len(mill.blocks) == 3
    assert [mark for _, mark in mill.blocks][-1] == str(big_file.stat().st_size)
    assert all(BLOCK_BYTES <= size < BLOCK_BYTES + 20_000 for size, _ in mill.blocks[:-1])


def test_an_interrupted_file_resumes_even_under_another_name(big_file: Path) -> None:
    mill = Unplugged(blocks_left=1)
    with pytest.raises(OperatorError):
        send_file(mill, "departures", str(big_file), is_quiet=True)
    moved = big_file.rename(big_file.with_name("moved.ndjson"))
    mill.blocks_left = 9
    total = send_file(mill, "departures", str(moved), is_quiet=True)
    assert len(mill.blocks) == 3
    assert total.duplicate == 0
    assert mill.query("select count(*) as n from departures") == [{"n": len(moved.read_text().splitlines())}]


def test_a_finished_file_is_sent_anew(mill: FakeMill, big_file: Path) -> None:
    first = send_file(mill, "departures", str(big_file), is_quiet=True)
    second = send_file(mill, "departures", str(big_file), is_quiet=True)
    assert (second.accepted, second.duplicate) == (0, first.accepted)


def test_other_content_under_the_same_name_begins_anew(mill: FakeMill, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(lines(1))
    send_file(mill, "departures", str(file), is_quiet=True)
    file.write_text(lines(2, 3))
    assert send_file(mill, "departures", str(file), is_quiet=True).accepted == 2
    source = f"file:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert mill.mark("departures", source) == str(file.stat().st_size)


def test_a_file_may_be_one_array_or_end_without_a_newline_or_be_empty(mill: FakeMill, tmp_path: Path) -> None:
    for number, text in enumerate([f"\n[{event(1)},\n {event(2)}]", lines(3) + event(4), ""]):
        file = tmp_path / str(number)
        file.write_text(text)
        send_file(mill, "departures", str(file), is_quiet=True)
    assert mill.query("select count(*) as n from departures") == [{"n": 4}]


def test_the_place_of_a_parked_event_counts_from_the_begin_of_the_file(mill: FakeMill, big_file: Path) -> None:
    count = len(big_file.read_text().splitlines())
    with big_file.open("a") as file:
        file.write("broken\n")
    total = send_file(mill, "departures", str(big_file), is_quiet=True)
    assert [said["index"] for said in total.results] == [count]


def test_what_was_not_accepted_is_listed_up_to_a_limit_and_counted_wholly(mill: FakeMill) -> None:
    total = send_stream(mill, "departures", BytesIO(b"broken\n" * (RESULTS_MAX + 5)))
    assert len(total.results) == RESULTS_MAX
    assert total.parked == RESULTS_MAX + 5


class Trickle:
    """A stream that gives what has arrived, in odd pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read1(self, _: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def test_a_stream_is_sent_as_it_comes(mill: FakeMill) -> None:
    text = lines(1, 2, 3).encode()
    total = send_stream(mill, "departures", Trickle(text[:60], text[60:70], text[70:-1]))
    assert total.accepted == 3
    assert len(mill.blocks) == 3
