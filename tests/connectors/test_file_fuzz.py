"""Whatever a file holds, its reader gives exactly what it says or rejects it: no other error, no row lost, no value bent."""

from __future__ import annotations

import bz2
import contextlib
import csv as plain_csv
import datetime as dt
import gzip
import io
import json as plain_json
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidemill.connectors.files import csv, json, parquet
from tidemill.connectors.files.content import text_bytes, unpacked
from tidemill.connectors.files.marking import is_marked, listed
from tidemill.core.errors import UpstreamError
from tidemill.core.model import Column
from tidemill.core.schema import Policy

TYPES = [
    "boolean", "tinyint", "integer", "bigint", "utinyint", "ubigint", "hugeint", "float", "double", "varchar", "json",
    "uuid", "blob", "date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns",
    "timestamp with time zone", "decimal(10,2)", "decimal(38,0)", "integer[]", "varchar[]", "integer[][]",
]  # fmt: skip
TRICKY = [
    "", "NA", "null", "true", "1", "-1", "5.7", "1e400", "1e39", "-0", "007", "+5", "1_000", "nan", "-inf", "Infinity",
    "9" * 39, "9" * 5_000, "1e999999999", "2026-01-01", "9999-12-31", "10000-01-01", "2026-W01-1", "12:00",
    "12:00+02:00", "12:00:00.1234567", "24:00:00", "2026-01-01T00:00:00.123456789", "2026-01-01T00:00:00,1234567",
    "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00", "{}", "[1,2]", '["a"]', '[[1],["x"]]', "[null]",
    "[" * 20_000, '{"a":NaN}', '"\\ud800"', "\x00", "\u2028", "é", "𝟗", "٣", "a,b", '"q"', 'a"b', "\r", "\n", "\ufeff",
    "\t", " 5 ", "x" * 70_000, "\x1a", "\x85",
]  # fmt: skip
VALUES = st.sampled_from(TRICKY) | st.text(max_size=8) | st.integers().map(str) | st.floats().map(repr)
COLUMNS = st.lists(st.tuples(st.sampled_from(TYPES), st.booleans()), max_size=3).map(
    lambda kinds: tuple(Column(f"c{place}", kind, required) for place, (kind, required) in enumerate(kinds))
)
MORE_NAMES = st.sampled_from([[], [], ["x"], ["C0"], ["_rid"], [""]])
POLICIES = st.sampled_from(list(Policy))
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def spoilt(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> bytes:
    """Content of which something may be cut, or a few bytes changed."""
    data = bytearray(draw(content))
    if data and draw(st.integers(0, 3)) == 0:
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        data = data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data
    return bytes(data)


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[tuple[Column, ...], Mapping[str, Any], bytes]:
    columns = draw(COLUMNS)
    names = [column.name for column in columns] + draw(MORE_NAMES)
    rows = draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), max_size=4))
    write = draw(st.sampled_from([quoted, str]))
    text = "\n".join([",".join(names), *(",".join(write(value) for value in row) for row in rows)])
    options = draw(
        st.sampled_from(
            [{}, {}, {"null": ["", "NA"]}, {"delimiter": ";"}, {"header": False}, {"quote": ""}, {"encoding": "utf-16"}]
        )
    )
    return columns, options, draw(spoilt(st.just(text.encode("utf-8", "surrogatepass"))))


@many
@given(csv_files(), POLICIES)
@example(((Column("c0", "hugeint"),), {}, b"c0\n" + b"9" * 39), Policy.STRICT)
@example(((Column("c0", "integer[]"),), {}, b'c0\n"[""a""]"'), Policy.STRICT)
@example(((Column("c0", "json"),), {}, b'c0\n"' + b"[" * 20_000 + b'"'), Policy.STRICT)
@example(((Column("c0", "timestamp_ns"),), {}, b"c0\n9999-12-31"), Policy.STRICT)
def test_no_csv_file_can_do_more_than_be_rejected(
    file: tuple[tuple[Column, ...], Mapping[str, Any], bytes], policy: Policy
) -> None:
    columns, options, data = file
    with contextlib.suppress(UpstreamError):
        table, _ = csv.read(data, "f.csv", columns, options, policy)
        assert table.column_names == [column.name for column in columns]
    with contextlib.suppress(UpstreamError):
        csv.infer(data, "f.csv", options)
        csv.names(data, "f.csv", options)


@st.composite
def json_files(draw: st.DrawFn) -> tuple[tuple[Column, ...], bool, bytes]:
    columns, lines = draw(COLUMNS), draw(st.booleans())
    names = [column.name for column in columns] + draw(MORE_NAMES)
    row = st.dictionaries(st.sampled_from(names), JSONS) if names else st.just({})
    rows = draw(st.lists(row | JSONS, max_size=4))
    text = "\n".join(plain_json.dumps(each) for each in rows) if lines else plain_json.dumps(rows)
    return columns, lines, draw(spoilt(st.just(text.encode())))


@many
@given(json_files(), POLICIES)
@example(((Column("c0", "json"),), True, b'{"c0":' + b"[" * 20_000 + b"]" * 20_000 + b"}"), Policy.STRICT)
@example(((Column("c0", "json"),), False, b"[" * 20_000), Policy.STRICT)
@example(((Column("c0", "integer[]"),), True, b'{"c0": "[1, \\"a\\"]"}'), Policy.STRICT)
@example(((Column("c0", "double"), Column("c1", "json")), True, b'{"c0": 1e400}'), Policy.STRICT)
def test_no_json_file_can_do_more_than_be_rejected(
    file: tuple[tuple[Column, ...], bool, bytes], policy: Policy
) -> None:
    columns, lines, data = file
    with contextlib.suppress(UpstreamError):
        table, _ = json.read(data, "f.json", columns, {}, policy, lines=lines)
        assert table.column_names == [column.name for column in columns]
        for column in columns:
            if column.type in ("double", "float"):
                assert not any(value is not None and math.isinf(value) for value in said_numbers(table, column.name))
    with contextlib.suppress(UpstreamError):
        json.infer(data, "f.json", {}, lines=lines)
        json.names(data, "f.json", {}, lines=lines)


def said_numbers(table: pa.Table, name: str) -> list[Any]:
    """The numbers of a column that were written as numbers: words for infinity are text."""
    return [value for value in table.column(name).to_pylist() if value is not None and abs(value) != math.inf]


ARROW: Sequence[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [0, -1, 100]),
    (pa.int64(), [0, 2**62]),
    (pa.uint64(), [2**63]),
    (pa.float32(), [1.5, math.inf, math.nan]),
    (pa.float64(), [1.5, 1e300, 1e39, math.inf, math.nan]),
    (pa.string(), TRICKY[:40]),
    (pa.large_string(), ["x", "5"]),
    (pa.binary(), [b"\xff", b"5"]),
    (pa.bool_(), [True, False]),
    (pa.decimal128(20, 3), [Decimal("12.345")]),
    (pa.date32(), [dt.date(1, 1, 1), dt.date(2026, 1, 1)]),
    (pa.time64("us"), [dt.time(23, 59, 59, 999_999)]),
    (pa.timestamp("us", "UTC"), [dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]),
    (pa.list_(pa.int64()), [[1], [None], []]),
    (pa.list_(pa.string()), [["a"]]),
    (pa.struct([("a", pa.float64())]), [{"a": math.nan}, {"a": 1.0}]),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)]]),
    (pa.dictionary(pa.int32(), pa.string()), ["x"]),
    (pa.null(), [None]),
]
RAW = [
    pa.timestamp("ns"),
    pa.timestamp("ms"),
    pa.timestamp("ns", "UTC"),
    pa.date32(),
    pa.duration("us"),
    pa.time64("ns"),
]


@st.composite
def parquet_files(draw: st.DrawFn) -> tuple[tuple[Column, ...], bytes]:
    columns = draw(COLUMNS)
    names = [column.name for column in columns] + [name or "e" for name in draw(MORE_NAMES)]
    arrays = []
    for _ in names:
        if draw(st.integers(0, 4)):
            kind, values = draw(st.sampled_from(ARROW))
            arrays.append(pa.array([draw(st.sampled_from(values)), None], kind))
        else:  # numbers that no Python value of this kind can be
            kind = draw(st.sampled_from(RAW))
            number = draw(st.sampled_from([0, 2**31 - 1, -(2**31)]))
            number = number << 30 if "32" not in str(kind) and draw(st.booleans()) else number
            whole = pa.int32() if kind == pa.date32() else pa.int64()
            arrays.append(pa.array([number, None], whole).cast(kind, safe=False))
    if len(names) > 1 and draw(st.integers(0, 9)) == 0:
        names[-1] = names[0]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, names=names), sink)
    return columns, draw(spoilt(st.just(sink.getvalue())))


@many
@given(parquet_files(), POLICIES)
def test_no_parquet_file_can_do_more_than_be_rejected(file: tuple[tuple[Column, ...], bytes], policy: Policy) -> None:
    columns, data = file
    with contextlib.suppress(UpstreamError):
        table, _ = parquet.read(data, "f.parquet", columns, policy)
        assert table.column_names == [column.name for column in columns]
    with contextlib.suppress(UpstreamError):
        parquet.infer(data, "f.parquet")


# What is read is what was written.


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=6)


@many
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=8))
def test_every_record_of_a_csv_file_is_a_row_with_its_texts(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    plain_csv.writer(text, quoting=plain_csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b"], *rows])
    columns = (Column("a", "varchar"), Column("b", "varchar"))
    table, _ = csv.read(text.getvalue().encode(), "f.csv", columns, {}, Policy.STRICT)
    assert [list(row.values()) for row in table.to_pylist()] == rows


@many
@given(st.sampled_from(["integer", "bigint", "double", "decimal(10,2)", "hugeint", "float"]), VALUES)
def test_a_number_is_the_one_that_is_written_or_none(kind: str, text: str) -> None:
    columns = (Column("n", kind), Column("u", "uuid"))  # the second keeps the exact reader awake
    for chosen in (columns, columns[:1]):
        header = ",".join(column.name for column in chosen)
        data = f"{header}\n{quoted(text)}{',' if len(chosen) > 1 else ''}\n".encode("utf-8", "surrogatepass")
        try:
            table, _ = csv.read(data, "f.csv", chosen, {}, Policy.STRICT)
        except UpstreamError:
            continue
        (value,) = table.column("n").to_pylist() or [None]
        if value is None or text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
            continue
        assert text.strip().isascii()
        assert "_" not in text
        said = Decimal(text.strip())
        is_near = kind in ("double", "float") and math.isclose(value, float(text), rel_tol=1e-6, abs_tol=1e-40)
        assert is_near or Decimal(value) == said


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("double", "1e400"),
        ("float", "1e39"),
        ("double", "1_0"),
        ("decimal(10,2)", "1_0"),
        ("integer", "٣"),
        ("time", "12:00+02:00"),
        ("time", "12:00:00.1234567"),
        ("timestamp", "2026-01-01T00:00:00,1234567"),
        ("json", '{"a": NaN}'),
        ("integer[]", "5"),
        ("integer[]", "[1.5]"),
    ],
)
def test_what_a_type_cannot_hold_exactly_rejects_the_file(kind: str, text: str) -> None:
    columns = (Column("n", kind), Column("other", "uuid"))
    for chosen in (columns, columns[:1]):
        rest = ",other", "," if len(chosen) > 1 else ""
        data = f"n{rest[0] if len(chosen) > 1 else ''}\n{quoted(text)}{rest[1]}\n".encode()
        with pytest.raises(UpstreamError) as refused:
            csv.read(data, "f.csv", chosen, {}, Policy.STRICT)
        assert refused.value.place == "f.csv:2"
    line = plain_json.dumps({"n": text}).encode()
    if kind != "json":  # a text is JSON
        with pytest.raises(UpstreamError) as refused:
            json.read(line, "f.json", columns[:1], {}, Policy.STRICT, lines=True)
        assert refused.value.place == "f.json:1"


def test_a_parquet_number_that_a_float_cannot_hold_rejects_the_file() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1.5, math.inf, 1e39]}), sink)
    with pytest.raises(UpstreamError, match=r"row 3: column n is float and 1e\+39 does not fit"):
        parquet.read(sink.getvalue(), "f.parquet", (Column("n", "float"),), Policy.STRICT)


@many
@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.text(max_size=5) | st.none()), max_size=8), st.booleans())
def test_every_object_of_a_json_file_is_a_row_with_its_texts(rows: list[dict[str, Any]], lines: bool) -> None:
    columns = (Column("a", "varchar"), Column("b", "varchar"))
    text = "\n".join(plain_json.dumps(row) for row in rows) if lines else plain_json.dumps(rows)
    table, _ = json.read(text.encode(), "f.json", columns, {}, Policy.STRICT, lines=lines)
    assert table.to_pylist() == [{"a": row.get("a"), "b": row.get("b")} for row in rows]


# Encodings, packing, marks.

PACKED: Mapping[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd.compress}


@many
@given(st.text(max_size=50), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
def test_text_survives_its_encoding(text: str, encoding: str) -> None:
    said = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    assert text_bytes(text.encode(encoding), "f", said).decode() == text.removeprefix("\ufeff")


@many
@given(st.binary(max_size=60), st.sampled_from(["utf-8", "utf-16", "utf-32", "latin-1", "cp1252", "utf-7", "idna"]))
def test_no_bytes_can_do_more_to_an_encoding_than_be_rejected(data: bytes, encoding: str) -> None:
    with contextlib.suppress(UpstreamError):
        text_bytes(data, "f", encoding).decode()


@many
@given(st.binary(max_size=200), st.sampled_from(list(PACKED)), st.data())
def test_an_archive_is_its_content_or_rejected(content: bytes, ending: str, data: st.DataObject) -> None:
    packed = PACKED[ending](content)
    assert unpacked(packed, f"f.{ending}", {}) == content
    with contextlib.suppress(UpstreamError):
        unpacked(data.draw(spoilt(st.just(packed) | st.binary(max_size=80))), f"f.{ending}", {})


PATHS = st.lists(st.sampled_from(["in", "a", "b.csv", "_SUCCESS", "M", "*", "[", "?"]), min_size=1, max_size=3).map(
    "/".join
)
LISTS = st.lists(PATHS | st.text(max_size=8) | st.sampled_from(["#", "..", "../a", "/a", "\x00"]), max_size=5).map(
    "\n".join
)


@many
@given(st.sets(PATHS, max_size=6), PATHS, LISTS)
def test_no_manifest_names_a_file_that_is_not_there(paths: set[str], name: str, text: str) -> None:
    assert listed(paths, name.rpartition("/")[2], lambda _: text) <= paths
    assert all(is_marked(path, set(), "_SUCCESS") is False for path in paths)
