"""Files change their columns over time; what becomes of that is one word of the asset, the same for every format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.connectors.test_files import asset_of, land, refusal
from tidemill.connectors.files import FilesSource
from tidemill.core.change import PARENT, RID
from tidemill.core.errors import UpstreamError
from tidemill.core.ports import FileContent

Row = Mapping[str, Any]
COLUMNS = {"n": "bigint", "s": "varchar"}


def csv_of(rows: Sequence[Row]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def ndjson_of(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet_of(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {"csv": csv_of, "ndjson": ndjson_of, "parquet": parquet_of}
POLICIES = ("strict", "evolve", "ignore")


def read(root: Path, rows: Sequence[Row], format: str, policy: str) -> tuple[list[dict[str, Any]], FileContent]:
    asset = asset_of(f"in/a.{format}", COLUMNS, format, options={"schema": policy})
    source, file = land(root, WRITERS[format](rows), asset)
    found = source.read(file)
    return [{k: v for k, v in row.items() if k not in (RID, PARENT)} for row in found.rows.to_pylist()], found


def refused(root: Path, rows: Sequence[Row], format: str, policy: str) -> str:
    return refusal(root, WRITERS[format](rows), asset_of(f"in/a.{format}", COLUMNS, format, options={"schema": policy}))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("format", WRITERS)
def test_another_order_and_another_case_are_no_difference(tmp_path: Path, format: str, policy: str) -> None:
    rows, found = read(tmp_path, [{"S": "a", "N": 1}, {"S": "b", "N": 2}], format, policy)
    assert rows == [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]
    assert [column.name for column in found.columns] == ["n", "s"]
    assert found.left_out == ()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("format", WRITERS)
def test_a_column_that_is_missing_is_null(tmp_path: Path, format: str, policy: str) -> None:
    assert read(tmp_path, [{"n": 1}, {"n": 2}], format, policy)[0] == [{"n": 1, "s": None}, {"n": 2, "s": None}]


@pytest.mark.parametrize("policy", ["evolve", "ignore"])
@pytest.mark.parametrize("format", WRITERS)
def test_a_file_that_has_none_of_the_columns_is_another_file(tmp_path: Path, format: str, policy: str) -> None:
    """Such as one without a header: its first row would be the names, and every row would be empty."""
    assert refused(tmp_path, [{"x": 1, "y": "a"}], format, policy).endswith(
        " it has none of the asset's columns, but x, y"
    )


def test_without_a_header_no_column_is_new(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", COLUMNS, options={"schema": "evolve", "header": False})
    source, file = land(tmp_path, b"1,a\n", asset)
    assert [column.name for column in source.read(file).columns] == ["n", "s"]
    assert refusal(tmp_path, b"1,a,2\n", asset).endswith("3 values where the header has 2 columns")


@pytest.mark.parametrize("format", WRITERS)
def test_a_new_column_is_rejected_by_strict(tmp_path: Path, format: str) -> None:
    assert refused(tmp_path, [{"n": 1, "s": "a", "x": 2}], format, "strict").endswith(" x is not declared")


@pytest.mark.parametrize("format", WRITERS)
def test_a_new_column_is_left_out_by_ignore_and_told(tmp_path: Path, format: str) -> None:
    rows, found = read(tmp_path, [{"n": 1, "s": "a", "x": 2}], format, "ignore")
    assert rows == [{"n": 1, "s": "a"}]
    assert found.left_out == ("x",)


@pytest.mark.parametrize("format", WRITERS)
def test_a_new_column_is_added_by_evolve_with_its_type(tmp_path: Path, format: str) -> None:
    rows, found = read(tmp_path, [{"x": 2.5, "n": 1, "s": "a"}], format, "evolve")
    assert rows == [{"n": 1, "s": "a", "x": 2.5}]
    assert [(column.name, column.type, column.required) for column in found.columns][2:] == [("x", "double", False)]


@pytest.mark.parametrize("format", WRITERS)
def test_a_column_that_a_file_added_counts_for_the_files_after_it(tmp_path: Path, format: str) -> None:
    source = FilesSource(asset_of(f"in/{{d}}.{format}", {"n": "bigint", "d": "varchar"}, format, options={"schema": "evolve"}), tmp_path)  # fmt: skip
    (tmp_path / "in").mkdir()
    for name, rows in (("1", [{"n": 1, "x": 5}]), ("2", [{"n": 2}]), ("3", [{"X": 7, "n": 3}])):
        (tmp_path / f"in/{name}.{format}").write_bytes(WRITERS[format](rows))
    files = sorted(source.list(), key=lambda file: file.path)
    tables = [source.read(file).rows.drop_columns([RID, PARENT]).to_pylist() for file in files]
    assert tables == [[{"n": 1, "d": "1", "x": 5}], [{"n": 2, "d": "2", "x": None}], [{"n": 3, "d": "3", "x": 7}]]


def test_a_new_column_without_a_value_is_not_added_yet(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", COLUMNS, options={"schema": "evolve"})
    source, file = land(tmp_path, b"n,s,x\n1,a,\n", asset)
    assert [column.name for column in source.read(file).columns] == ["n", "s"]


def test_a_rejected_file_adds_no_column(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", COLUMNS, options={"schema": "evolve"})
    source, file = land(tmp_path, b"n,s,x\none,a,1\n", asset)
    with pytest.raises(UpstreamError, match="column n is bigint"):
        source.read(file)
    (tmp_path / "in/a.csv").write_bytes(b"n,s\n1,a\n")
    assert [column.name for column in source.read(file).columns] == ["n", "s"]


def test_two_columns_of_one_name_in_sql_are_rejected(tmp_path: Path) -> None:
    asset = asset_of("in/a.csv", COLUMNS, options={"schema": "evolve"})
    assert refusal(tmp_path, b"n,s,N\n1,a,2\n", asset) == "in/a.csv: the columns n and N are one name in SQL"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("format", WRITERS)
def test_a_required_column_is_missed_under_every_policy(tmp_path: Path, format: str, policy: str) -> None:
    asset = asset_of(f"in/a.{format}", {"n": "bigint", "s": "varchar!"}, format, options={"schema": policy})
    assert refusal(tmp_path, WRITERS[format]([{"n": 1}]), asset).endswith(" s is missing")
