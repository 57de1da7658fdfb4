"""The rows of affected keys come in bounded portions, and a key is never cut in two."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tidemill.core.change import PARENT, Appended
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind, Column, Job, Takes
from tidemill.core.ports import Table, Work
from tidemill.engines.python.apply import apply_keys, keys_of
from tidemill.engines.python.keyed import Affected, keyed_plan
from tidemill.stores.duckdb import DuckDBStore

COLUMNS = (Column("k", "varchar"), Column("n", "integer"))
NUMBERS = Asset("numbers", AssetKind.TOPIC, COLUMNS)
JOB = Job("j", ("numbers",), ("out",), Takes.TABLE, "jobs/j.py:j", "v1", by=("k",))


@pytest.mark.parametrize(("last", "rows_max", "sizes"), [(9, 4, [3, 4, 1]), (9, 100, [8]), (3, 4, [3, 4]), (0, 4, [])])
def test_keys_come_in_portions_of_bounded_size_whole(
    tmp_path: Path, last: int, rows_max: int, sizes: list[int]
) -> None:
    store = DuckDBStore(tmp_path / "tables.duckdb")
    keys = ["a", "b", None, "a", "b", "a", "b", "b"]
    writer = store.begin()
    writer.define(Table("numbers", COLUMNS))
    table = pa.table({"k": pa.array(keys), "n": pa.array(range(8), pa.int32())})
    writer.write("numbers", Appended(table, head=None))
    writer.commit()
    reader = store.begin(exclusive=False)
    end = reader.head("numbers").offset
    work = Work(JOB, keyed_plan(JOB, {"numbers": NUMBERS}), {"numbers": (end - last, end)}, "r")
    chunks = list(Affected(work, reader, rows_max).chunks())
    reader.rollback()
    store.close()
    assert [chunk.num_rows for chunk in chunks] == sizes
    assert all(chunk.num_rows <= rows_max or len(keys_of(chunk)) == 1 for chunk in chunks)


def chunk_of(*keys: str) -> pa.Table:
    return pa.table({PARENT: keys, "n": pa.array(range(len(keys)), pa.int64())})


def test_results_of_keys_may_be_tables_rows_one_row_or_nothing_and_fit_together() -> None:
    results = iter([pa.table({"x": pa.array([1], pa.int32())}), [{"x": 2}, {"x": 3.5}], {"x": 4}, None])
    applied = apply_keys(lambda _rows: next(results), chunk_of("a", "a", "b", "c", "d"), ["out"], ())
    found = sorted(zip(applied.tables[0]["_index"].to_pylist(), applied.tables[0]["x"].to_pylist(), strict=True))
    assert found == [(0, 1.0), (1, 2.0), (1, 3.5), (2, 4.0)]
    assert applied.succeeded == 4


def test_a_result_that_does_not_fit_the_declared_columns_is_the_failure_of_its_key() -> None:
    results = iter([{"x": 1}, {"x": "one"}, {"y": 1}])
    applied = apply_keys(lambda _rows: next(results), chunk_of("a", "b", "c"), ["out"], (Column("x", "integer"),))
    assert applied.tables[0]["x"].to_pylist() == [1]
    assert [failure.index for failure in applied.failures] == [1, 2]
    assert "x is integer and 'one' does not fit" in applied.failures[0].reason


def test_tables_of_two_keys_with_other_types_ask_for_declared_columns() -> None:
    results = iter([pa.table({"x": [1]}), pa.table({"x": ["one"]})])
    with pytest.raises(UserError, match="do not fit together") as raised:
        apply_keys(lambda _rows: next(results), chunk_of("a", "b"), ["out"], ())
    assert "declare columns" in raised.value.mend


def test_several_outputs_take_what_the_mapping_gives_them() -> None:
    results = iter([{"one": {"x": 1}}, None, {"other": [{"y": 1}, {"y": 2}]}])
    applied = apply_keys(lambda _rows: next(results), chunk_of("a", "b", "c"), ["one", "other"], ())
    assert [table["_index"].to_pylist() for table in applied.tables] == [[0], [2, 2]]
