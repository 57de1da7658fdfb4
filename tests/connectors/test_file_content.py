"""What lies in a file is unpacked within limits and decoded, or the file is rejected by name."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from tests.connectors.test_files import asset_of, refusal, rows
from tidemill.connectors.files.content import LIMITS, unpacked
from tidemill.core.errors import UpstreamError

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstd.compress, "bz2": bz2.compress}
CONTENTS = {
    "csv": b"n,s\n1,a\n2,b\n",
    "ndjson": b'{"n": 1, "s": "a"}\n{"n": 2, "s": "b"}\n',
    "json": b'[{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]',
}
COLUMNS = {"n": "integer", "s": "varchar"}
ROWS = [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("format", CONTENTS)
def test_a_packed_file_is_its_content(tmp_path: Path, format: str, ending: str) -> None:
    asset = asset_of(f"in/a.{format}.{ending}", COLUMNS, format)
    assert rows(tmp_path, PACKERS[ending](CONTENTS[format]), asset) == ROWS


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_file_of_several_parts_is_all_of_them(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    packed = pack(b"n,s\n1,a\n") + pack(b"2,b\n")
    assert rows(tmp_path, packed, asset_of(f"in/a.csv.{ending}", COLUMNS)) == ROWS


def broken(packed: bytes, how: str) -> bytes:
    return {
        "cut": packed[: len(packed) // 2],
        "plain": b"n,s\n1,a\n",
        "changed": packed[:20] + b"\x00\xff" + packed[22:],
    }[how]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("how", ["cut", "plain", "changed"])
def test_a_broken_archive_is_rejected_whole_and_by_name(tmp_path: Path, ending: str, how: str) -> None:
    lines = "".join(f"{number},{number * number}\n" for number in range(5_000))
    packed = PACKERS[ending](f"n,s\n{lines}".encode())
    assert refusal(tmp_path, broken(packed, how), asset_of(f"in/a.csv.{ending}", COLUMNS)).startswith(
        f"in/a.csv.{ending}: it cannot be unpacked"
    )


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_larger_than_the_asset_allows_is_rejected_and_named(tmp_path: Path, ending: str) -> None:
    asset = asset_of(f"in/a.csv.{ending}", COLUMNS, options={"unpacked_bytes_max": 10})
    assert refusal(tmp_path, PACKERS[ending](CONTENTS["csv"]), asset) == (
        f"in/a.csv.{ending}: unpacked it is more than 10 bytes (unpacked_bytes_max)"
    )


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_bomb_costs_no_more_memory_than_its_limit(ending: str) -> None:
    bomb = PACKERS[ending](b"0" * 300_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamError, match="unpacked_bytes_max"):
            unpacked(bomb, f"in/a.csv.{ending}", {"unpacked_bytes_max": 4_000_000})
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_a_thousandfold_is_rejected_without_being_told() -> None:
    bomb = zstd.compress(b"0" * 100_000_000)
    assert len(bomb) * LIMITS["unpacked_ratio_max"] < 100_000_000 < LIMITS["unpacked_bytes_max"]
    with pytest.raises(UpstreamError, match=r"a.csv.zst: unpacked it is more than 1,000 times .*unpacked_ratio_max"):
        unpacked(bomb, "a.csv.zst", {})
    assert len(unpacked(bomb, "a.csv.zst", {"unpacked_ratio_max": 1_000_000})) == 100_000_000


TEXTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "UTF-8 with its mark": ("\ufeffs\né\n".encode(), {}),
    "UTF-16 with its mark, low byte first": (b"\xff\xfe" + "s\né\n".encode("utf-16-le"), {}),
    "UTF-16 with its mark, high byte first": (b"\xfe\xff" + "s\né\n".encode("utf-16-be"), {}),
    "UTF-16 without a mark, said": ("s\né\n".encode("utf-16-be"), {"encoding": "utf-16-be"}),
    "latin-1, said": ("s\né\n".encode("latin-1"), {"encoding": "latin-1"}),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_is_read_in_its_encoding(tmp_path: Path, case: str) -> None:
    content, options = TEXTS[case]
    assert rows(tmp_path, content, asset_of("in/a.csv", {"s": "varchar"}, options=options)) == [{"s": "é"}]


def test_json_may_be_utf16_and_packed(tmp_path: Path) -> None:
    content = gzip.compress(json.dumps([{"s": "é"}], ensure_ascii=False).encode("utf-16"))
    assert rows(tmp_path, content, asset_of("in/a.json.gz", {"s": "varchar"}, "json")) == [{"s": "é"}]


NO_TEXTS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "UTF-8": (b"s\nok\nb\xe9\n", {}, "in/a.csv:3: byte 0xe9 is not UTF-8 (byte 6 of the file)"),
    "UTF-8 after a mark": (b"\xef\xbb\xbfs\n\xe9\n", {}, "in/a.csv:2: byte 0xe9 is not UTF-8 (byte 5 of the file)"),
    "another one": (b"s\nok\n\xe9\n", {"encoding": "ascii"}, "in/a.csv:3: byte 0xe9 is not ascii (byte 5 of the file)"),
    "half of UTF-16": (
        b"\xff\xfe" + "s\nx".encode("utf-16-le") + b"\x0a", {},
        "in/a.csv:2: byte 0x0a is not utf-16 (byte 8 of the file)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TEXTS)
def test_a_byte_that_is_no_text_names_its_line_and_place(tmp_path: Path, case: str) -> None:
    content, options, message = NO_TEXTS[case]
    assert refusal(tmp_path, content, asset_of("in/a.csv", {"s": "varchar"}, options=options)) == message
