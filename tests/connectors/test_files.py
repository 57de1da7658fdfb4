"""Files become rows exactly, or are rejected whole at the line that is wrong."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.connectors.files import FilesSource
from tidemill.connectors.files import csv as csv_format
from tidemill.connectors.files.columns import from_text
from tidemill.connectors.files.identity import identified
from tidemill.core.change import PARENT, RID
from tidemill.core.errors import UpstreamError
from tidemill.core.model import Asset, AssetKind, Column
from tidemill.core.ports import SourceFile

COLUMNS = {"n": "integer", "s": "varchar", "d": "decimal(5,2)", "day": "date"}


def asset_of(path: str, columns: Mapping[str, str] = COLUMNS, format: str = "csv", **words: Any) -> Asset:
    typed = tuple(Column(name, kind.removesuffix("!"), kind.endswith("!")) for name, kind in columns.items())
    return Asset("a", AssetKind.FILES, typed, path=path, format=format, **words)


def land(root: Path, content: bytes | str, asset: Asset) -> tuple[FilesSource, SourceFile]:
    path = root / asset.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = FilesSource(asset, root)
    (file,) = source.list()
    return source, file


def rows(root: Path, content: bytes | str, asset: Asset) -> list[dict[str, Any]]:
    source, file = land(root, content, asset)
    table = source.read(file).rows
    return [{k: v for k, v in row.items() if k not in (RID, PARENT)} for row in table.to_pylist()]


def refusal(root: Path, content: bytes | str, asset: Asset) -> str:
    with pytest.raises(UpstreamError) as caught:
        rows(root, content, asset)
    return str(caught.value).partition("\n")[0]


def test_a_csv_file_is_read_as_its_columns_say(tmp_path: Path) -> None:
    content = 'day,n,s,d\n2026-01-05,1,"a, b",1.25\n2026-01-06,,"",\n'
    assert rows(tmp_path, content, asset_of("in/a.csv")) == [
        {"n": 1, "s": "a, b", "d": Decimal("1.25"), "day": date(2026, 1, 5)},
        {"n": None, "s": "", "d": None, "day": date(2026, 1, 6)},
    ]


CSV_REFUSALS = {
    "a value of another type": ("n\n1\n5.7\n", {"n": "integer"}, 'in/a.csv:3: column n is integer and "5.7" is not'),
    "a value that is too big": ("n\n300\n", {"n": "tinyint"}, 'in/a.csv:2: column n is tinyint and "300" does not fit'),
    "too many digits": ("d\n1.234\n", {"d": "decimal(5,2)"}, 'in/a.csv:2: column d is decimal(5,2) and "1.234" is not'),
    "the line after a line break in quotes": (
        's,n\n"x\ny",1\nz,q\n', {"s": "varchar", "n": "integer"}, 'in/a.csv:4: column n is integer and "q" is not',
    ),
    "too few values": ("n,s\n1,a\n2\n", {"n": "integer", "s": "varchar"}, "in/a.csv:3: 1 values where the header has 2 columns"),
    "a stranger": ("n,x\n1,2\n", {"n": "integer"}, "in/a.csv:1: the column x is not declared"),
    "a missing column": ("s\n1\n", {"s": "varchar", "n": "integer!"}, "in/a.csv:1: the required column n is missing"),
    "a missing value": ("n,s\n1,a\n,b\n", {"s": "varchar", "n": "integer!"}, "in/a.csv:3: the required column n is null"),
    "a doubled header": ("n,n\n1,2\n", {"n": "integer"}, "in/a.csv:1: the header names n twice"),
    "another day": ("day\n2026-13-01\n", {"day": "date"}, 'in/a.csv:2: column day is date and "2026-13-01" is not'),
    "no truth": ("b\nmaybe\n", {"b": "boolean"}, 'in/a.csv:2: column b is boolean and "maybe" is not'),
}  # fmt: skip


@pytest.mark.parametrize("case", CSV_REFUSALS)
def test_a_csv_file_is_rejected_at_its_line(tmp_path: Path, case: str) -> None:
    content, columns, message = CSV_REFUSALS[case]
    assert refusal(tmp_path, content, asset_of("in/a.csv", columns)) == message


def test_options_of_csv_are_followed(tmp_path: Path) -> None:
    options = {"delimiter": ";", "null": ["NA", "-"], "quote": "'"}
    content = "n;s\n1;'a;b'\nNA;-\n"
    assert rows(tmp_path, content, asset_of("in/a.csv", {"n": "integer", "s": "varchar"}, options=options)) == [
        {"n": 1, "s": "a;b"},
        {"n": None, "s": None},
    ]
    bare = asset_of("in/b.csv", {"n": "integer", "s": "varchar"}, options={"header": False})
    assert rows(tmp_path, "1,a\n2,b\n", bare) == [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]


def test_strangers_may_be_ignored(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", {"n": "integer"}, options={"schema": "ignore"})
    assert rows(tmp_path, "x,n\nq,1\n", asset) == [{"n": 1}]


@pytest.mark.parametrize("content", ["", "n,s\n", "\n"])
@pytest.mark.parametrize("format", ["csv", "ndjson", "json"])
def test_an_empty_file_has_no_rows(tmp_path: Path, content: str, format: str) -> None:
    if format != "csv" and content.strip():
        content = "[]" if format == "json" else ""
    assert rows(tmp_path, content, asset_of("in/a", {"n": "integer", "s": "varchar"}, format)) == []


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
            st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=6)),
        ),
        max_size=20,
    )
)
def test_the_fast_reader_and_the_exact_one_agree(values: list[tuple[int | None, str | None]]) -> None:
    lines = ["n,s"]
    for number, text in values:
        quoted = "" if text is None else '"' + text.replace('"', '""') + '"'
        lines.append(f"{'' if number is None else number},{quoted}")
    data = ("\n".join(lines) + "\n").encode()
    columns = [Column("n", "integer"), Column("s", "varchar")]
    fast = csv_format._fast(data, ["n", "s"], columns, {})
    exact = csv_format._exact(data, "f", ["n", "s"], columns, {})
    assert fast.to_pylist() == exact.to_pylist() == [{"n": number, "s": text} for number, text in values]


def test_a_moment_with_an_offset_becomes_utc() -> None:
    column = Column("t", "timestamp")
    assert from_text("2026-01-05T10:00:00+02:00", column) == datetime(2026, 1, 5, 8)  # noqa: DTZ001 - columns of no zone
    assert from_text("2026-01-05", Column("t", "timestamp with time zone")) == datetime(2026, 1, 5, tzinfo=UTC)
    with pytest.raises(ValueError, match="is not"):
        from_text("2026-01-05T10:00:00.1234567", column)


def test_a_csv_file_with_offsets_is_read_in_utc(tmp_path: Path) -> None:
    content = "t\n2026-01-05T10:00:00+02:00\n2026-01-05 10:00:00\n2026-01-05T10:00:00Z\n"
    found = [row["t"].hour for row in rows(tmp_path, content, asset_of("in/a.csv", {"t": "timestamp"}))]
    assert found == [8, 10, 10]


JSON_REFUSALS = {
    "no JSON": ('{"n": 1}\n{"n": \n', "in/a.ndjson:2: it is not JSON"),
    "another type": ('{"n": 1}\n\n{"n": 5.7}\n', "in/a.ndjson:3: column n is integer and 5.7 is not"),
    "text for a number": ('{"n": "1"}\n', 'in/a.ndjson:1: column n is integer and "1" is not'),
    "a stranger": ('{"n": 1, "x": 2}\n', "in/a.ndjson:1: the field x is not declared"),
    "no object": ("[1]\n", "in/a.ndjson:1: a row is an object, and this is [1]"),
    "truth for a number": ('{"n": true}\n', "in/a.ndjson:1: column n is integer and true is not"),
}


@pytest.mark.parametrize("case", JSON_REFUSALS)
def test_an_ndjson_file_is_rejected_at_its_line(tmp_path: Path, case: str) -> None:
    content, message = JSON_REFUSALS[case]
    assert refusal(tmp_path, content, asset_of("in/a.ndjson", {"n": "integer"}, "ndjson")).startswith(message)


def test_json_is_exact_whatever_the_column(tmp_path: Path) -> None:
    columns = {"d": "decimal(20,10)", "j": "json", "l": "integer[]", "f": "double", "t": "timestamp", "b": "bigint"}
    content = '[{"d": 0.1234567891, "j": {"a": [1]}, "l": [1, null], "f": 1, "t": "2026-01-05T00:00:00Z", "b": 2.0}]'
    assert rows(tmp_path, content, asset_of("in/a.json", columns, "json")) == [
        {
            "d": Decimal("0.1234567891"),
            "j": '{"a":[1]}',
            "l": [1, None],
            "f": 1.0,
            "t": datetime(2026, 1, 5),  # noqa: DTZ001 - a column of no zone
            "b": 2,
        }
    ]


def test_a_json_file_may_be_one_object_and_a_broken_one_names_its_line(tmp_path: Path) -> None:
    asset = asset_of("in/a.json", {"n": "integer"}, "json")
    assert rows(tmp_path, '{"n": 1}', asset) == [{"n": 1}]
    assert refusal(tmp_path, '[\n{"n": 1},\n{"n": }\n]', asset).startswith("in/a.json:3: it is not JSON")


def test_parquet_is_cast_only_where_nothing_is_lost(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int64()), "f": [1.0, 2.0]}), sink)
    assert rows(tmp_path, sink.getvalue(), asset_of("in/a.parquet", {"n": "integer", "f": "integer"}, "parquet")) == [
        {"n": 1, "f": 1},
        {"n": 2, "f": 2},
    ]
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1.5]}), sink)
    assert refusal(tmp_path, sink.getvalue(), asset_of("in/a.parquet", {"n": "integer"}, "parquet")) == (
        "in/a.parquet: row 1: column n is integer and 1.5 does not fit"
    )
    assert refusal(tmp_path, b"x", asset_of("in/a.parquet", {}, "parquet")).startswith(
        "in/a.parquet: it is not Parquet"
    )


def test_what_a_path_tells_is_typed_and_in_its_place(tmp_path: Path) -> None:
    asset = asset_of("in/{site}/{day}.csv", {"day": "date", "n": "integer", "site": "varchar"})
    (tmp_path / "in/EWR").mkdir(parents=True)
    (tmp_path / "in/EWR/2026-01-05.csv").write_text("n\n1\n")
    source = FilesSource(asset, tmp_path)
    (file,) = source.list()
    assert file.partition == {"site": "EWR", "day": "2026-01-05"}
    table = source.read(file).rows
    assert table.column_names == [RID, PARENT, "day", "n", "site"]
    assert table.to_pylist()[0]["day"] == date(2026, 1, 5)
    (tmp_path / "in/EWR/today.csv").write_text("n\n1\n")
    late = next(file for file in source.list() if "today" in file.path)
    with pytest.raises(UpstreamError, match='in its path, column day is date and "today" is not'):
        source.read(late)


def test_a_row_is_its_file_its_content_and_its_occurrence(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", {"n": "integer", "s": "varchar"})
    source, file = land(tmp_path, "n,s\n1,a\n2,b\n1,a\n", asset)
    read = source.read(file)
    table, before = read.rows, read.hash
    first = table.column(RID).to_pylist()
    assert len(set(first)) == 3
    assert {rid.rpartition("#")[2] for rid in first} == {"0", "1"}
    assert table.column(PARENT).to_pylist() == ["in/a.csv"] * 3
    source, file = land(tmp_path, "s,n\nb,2\na,1\na,1\n", asset)
    read = source.read(file)
    table, after = read.rows, read.hash
    assert set(table.column(RID).to_pylist()) == set(first)
    assert before != after


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text("ab:1n", max_size=4)), st.one_of(st.none(), st.text("ab:1n", max_size=4))
        ),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_rows_that_differ_have_different_identities(pairs: list[tuple[str | None, str | None]]) -> None:
    table = pa.table(
        {"a": pa.array([a for a, _ in pairs], pa.string()), "b": pa.array([b for _, b in pairs], pa.string())}
    )
    rids = csv_identity(table)
    assert rids[0] != rids[1]


def csv_identity(table: pa.Table) -> list[str]:
    from_table: list[str] = identified(table, "f").column(RID).to_pylist()
    return from_table


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert list(FilesSource(asset_of("in/{d}.csv"), tmp_path).list()) == []


def test_binary_files_land_without_rows(tmp_path: Path) -> None:
    source, file = land(tmp_path, b"\x00\x01", asset_of("in/a.bin", {}, "binary"))
    read = source.read(file)
    table, digest = read.rows, read.hash
    assert table.num_rows == 0
    assert len(digest) == 64


def test_columns_are_inferred_without_losing_a_digit(tmp_path: Path) -> None:
    content = "code,n,f,day,t,b,s,none\n007,1,1.5,2026-01-05,2026-01-05 10:00:00,true,x,\n"
    source, file = land(tmp_path, content, asset_of("in/a.csv", {}))
    assert {column.name: column.type for column in source.infer(file)} == {
        "code": "varchar", "n": "bigint", "f": "double", "day": "date", "t": "timestamp", "b": "boolean",
        "s": "varchar", "none": "varchar",
    }  # fmt: skip
    source = FilesSource(asset_of("in/a.csv", {column.name: column.type for column in source.infer(file)}), tmp_path)
    table = source.read(file).rows
    assert table.to_pylist()[0]["code"] == "007"


def test_ndjson_columns_are_inferred_over_the_whole_file(tmp_path: Path) -> None:
    content = '{"n": 1, "x": null}\n{"n": 1.5, "o": {"a": 1}, "m": 1}\n{"m": "text"}\n'
    source, file = land(tmp_path, content, asset_of("in/a.ndjson", {}, "ndjson"))
    found = {column.name: column.type for column in source.infer(file)}
    assert found == {"n": "double", "x": "varchar", "o": "json", "m": "json"}


def test_files_on_another_file_system_are_found_by_url() -> None:
    asset = asset_of("memory://bucket/in/{day}.csv", {"n": "integer", "day": "varchar"})
    source = FilesSource(asset, ".")
    source._files.pipe_file("/bucket/in/1.csv", b"n\n7\n")
    (file,) = source.list()
    assert file.partition == {"day": "1"}
    assert source.read(file).rows.to_pylist()[0]["n"] == 7
