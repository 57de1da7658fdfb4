"""The Python engine computes what the rules say: rows belong to rows, modes cannot matter, errors name their row."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.fake import MemoryReader, inserts
from tidemill.core.change import ORDINAL, PARENT, Appended, Became, Change, Output, Replaced
from tidemill.core.effect import idempotency_key
from tidemill.core.errors import DefinitionError, NotFound, UserError
from tidemill.core.model import Asset, AssetKind, Column, Job, Semantics, Takes
from tidemill.core.ports import Work
from tidemill.engines.python import FunctionFailed, PythonEngine, Run, engine
from tidemill.engines.python.calling import RunTimedOut
from tidemill.engines.python.spool import Spool

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])
APPEND = Asset("numbers", AssetKind.TOPIC)
UPSERT = Asset("numbers", AssetKind.TOPIC, key=("id",), semantics=Semantics.UPSERT)


def made(function: Callable[..., Any], takes: Takes, asset: Asset = APPEND, **words: Any) -> tuple[PythonEngine, Work]:
    job = Job("j", (asset.name,), ("out",), takes, "jobs/j.py:j", "v1", **words)
    made_engine = PythonEngine([job], {"j": function})
    return made_engine, Work(job, made_engine.plan(job, {asset.name: asset}), {asset.name: (0, 0)}, "run1")


def reader_of(log: list[Change]) -> MemoryReader:
    return MemoryReader({"numbers": log}, {"numbers": SCHEMA})


def computed(
    engine_: PythonEngine, work: Work, log: list[Change], from_: int = 0, to: int | None = None, **changes: Any
) -> Output:
    end = log[-1].offset if to is None else to
    part = replace(work, ranges={"numbers": (from_, end)}, **changes)
    return dict(engine_.compute(part, reader_of(log)))["out"]


def rows_of(output: Output) -> list[dict[str, Any]]:
    assert not isinstance(output.rows, dict)
    return pa.table(output.rows).to_pylist()


def numbers(*values: int) -> list[Change]:
    return inserts([{"id": index, "n": value} for index, value in enumerate(values)])


def twice(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "twice": row["n"] * 2}


def test_a_row_job_appends_the_rows_of_new_rows() -> None:
    output = computed(*made(twice, Takes.ROW), numbers(1, 2))
    assert isinstance(output, Appended)
    assert rows_of(output) == [
        {PARENT: "r1", ORDINAL: 0, "id": 0, "twice": 2},
        {PARENT: "r2", ORDINAL: 0, "id": 1, "twice": 4},
    ]


def test_a_row_job_may_give_none_one_or_many_rows() -> None:
    def repeated(row: Mapping[str, Any]) -> Any:
        return None if row["n"] == 0 else [{"n": row["n"]}] * row["n"]

    output = computed(*made(repeated, Takes.ROW), numbers(0, 1, 2))
    assert [(row[PARENT], row[ORDINAL]) for row in rows_of(output)] == [("r2", 0), ("r3", 0), ("r3", 1)]


def test_a_changed_row_is_replaced_and_a_removed_one_is_removed_without_a_call() -> None:
    log = [
        *numbers(1, 2),
        Change(3, "r1", {"id": 0, "n": 1}, {"id": 0, "n": 7}),
        Change(4, "r2", {"id": 1, "n": 2}, None),
    ]
    seen: list[int] = []

    def seeing(row: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(row["n"])
        return twice(row)

    output = computed(*made(seeing, Takes.ROW, UPSERT), log, from_=2)
    assert isinstance(output, Replaced)
    assert output.parents is not None
    assert sorted(output.parents) == ["r1", "r2"]
    assert [row["twice"] for row in rows_of(output)] == [14]
    assert seen == [7]


def test_a_row_that_is_about_to_be_parked_has_no_outputs_and_is_not_called() -> None:
    log = [*numbers(1, 2), Change(3, "r1", {"id": 0, "n": 1}, {"id": 0, "n": 7})]
    output = computed(*made(twice, Takes.ROW, UPSERT), log, from_=2, excluding={"numbers": ("r1",)})
    assert isinstance(output, Replaced)
    assert output.parents == ("r1",)
    assert rows_of(output) == []


def test_a_run_over_the_whole_replaces_every_row_by_the_rows_as_they_are() -> None:
    log = [*numbers(1, 2), Change(3, "r1", {"id": 0, "n": 1}, {"id": 0, "n": 7})]
    output = computed(*made(twice, Takes.ROW, UPSERT), log, whole=True)
    assert isinstance(output, Replaced)
    assert output.parents is None
    assert sorted(row["twice"] for row in rows_of(output)) == [4, 14]


def test_failed_rows_are_named_all_at_once_and_the_others_still_succeed() -> None:
    def fragile(row: Mapping[str, Any]) -> dict[str, Any]:
        return {"inverse": 10 // row["n"]}

    with pytest.raises(FunctionFailed) as caught:
        computed(*made(fragile, Takes.ROW), numbers(1, 0, 2, 0))
    assert caught.value.rows == (("numbers", "r2"), ("numbers", "r4"))
    assert caught.value.succeeded == 2
    assert str(caught.value) == (
        "job j: ZeroDivisionError: integer division or modulo by zero, on row r2 of numbers (and 1 more rows)"
    )


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"n": 5.7}, "column n is integer and 5.7 does not fit"),
        ({"n": "5"}, "column n is integer and '5' does not fit"),
        ({"n": 2**40}, f"column n is integer and {2**40} does not fit"),
        ({"n": None}, "column n is required and a row has none"),
        ({"n": 1, "m": 2}, "the result has a column m that is not declared"),
        ({"_rid": 1}, "the function returned a column _rid"),
        (7, "the function returned int 7"),
    ],
)
def test_what_does_not_fit_the_declared_columns_is_the_failure_of_its_row(returned: Any, message: str) -> None:
    made_ = made(lambda _: returned, Takes.ROW, columns=(Column("n", "integer", required=True),))
    with pytest.raises(FunctionFailed) as caught:
        computed(*made_, numbers(1))
    assert caught.value.reasons == (message,)


def test_a_value_that_is_equal_in_the_declared_type_fits() -> None:
    columns = (Column("n", "integer"), Column("d", "decimal(5,2)"))
    output = computed(*made(lambda _: {"n": 5.0, "d": 1.5}, Takes.ROW, columns=columns), numbers(1))
    assert pa.table(output.rows).schema.field("d").type == pa.decimal128(5, 2)
    assert rows_of(output)[0]["n"] == 5


def test_undeclared_columns_take_the_types_of_the_values() -> None:
    output = computed(*made(lambda row: {"n": row["n"], "s": "x", "f": 1.5}, Takes.ROW), numbers(1))
    assert isinstance(output.rows, Spool)
    assert [(column.name, column.type) for column in output.rows.columns] == [
        ("n", "bigint"),
        ("s", "varchar"),
        ("f", "double"),
    ]


@settings(deadline=None)  # a busy machine is no defect
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_where_the_change_set_is_cut_never_matters(values: list[int], cut: int, choose: random.Random) -> None:
    """Rule 16 for row jobs: replaying the outputs of two sets equals one, and both equal a run over the whole."""
    log = _history(values, choose)
    pair = made(lambda row: [twice(row)] * (row["n"] % 3), Takes.ROW, UPSERT)
    end, middle = log[-1].offset, min(cut, log[-1].offset)
    at_once = _after({}, computed(*pair, log))
    in_two = _after(_after({}, computed(*pair, log, 0, middle)), computed(*pair, log, middle, end))
    assert at_once == in_two == _after({}, computed(*pair, log, whole=True))


def _history(values: list[int], choose: random.Random) -> list[Change]:
    """Inserts, updates and deletes of at most five rows."""
    state: dict[str, dict[str, int]] = {}
    log = []
    for offset, value in enumerate(values, start=1):
        index = choose.randrange(5)
        rid, new = f"r{index}", ({"id": index, "n": value} if value >= 0 else None)
        log.append(Change(offset, rid, state.get(rid), new))
        if new is None:
            state.pop(rid, None)
        else:
            state[rid] = new
    return log


def _after(before: dict[str, list[Any]], output: Output) -> dict[str, list[Any]]:
    """The output rows by parent after an output has been applied."""
    assert isinstance(output, Replaced)
    kept = {} if output.parents is None else {p: rows for p, rows in before.items() if p not in set(output.parents)}
    for row in rows_of(output):
        kept.setdefault(row[PARENT], []).append({name: value for name, value in row.items() if name != PARENT})
    return kept


def test_a_table_job_gets_no_hidden_columns_and_its_rows_belong_by_place() -> None:
    names: list[list[str]] = []

    def doubled(table: pa.Table) -> pa.Table:
        names.append(table.column_names)
        return pa.table({"twice": [n * 2 for n in table.column("n").to_pylist()]})

    output = computed(*made(doubled, Takes.TABLE), numbers(1, 2))
    assert [(row[PARENT], row["twice"]) for row in rows_of(output)] == [("r1", 2), ("r2", 4)]
    assert set(map(tuple, names)) == {("id", "n")}


def test_a_table_job_over_rows_that_change_belongs_by_the_key() -> None:
    def odd_backwards(table: pa.Table) -> pa.Table:
        return table.filter(pa.array([n % 2 == 1 for n in table.column("n").to_pylist()])).sort_by(
            [("id", "descending")]
        )

    output = computed(*made(odd_backwards, Takes.TABLE, UPSERT), numbers(1, 2, 3))
    assert [(row[PARENT], row["id"]) for row in rows_of(output)] == [("r3", 2), ("r1", 0)]


def test_a_table_job_over_rows_that_change_must_return_their_key() -> None:
    made_ = made(lambda table: table.select(["n"]), Takes.TABLE, UPSERT)
    with pytest.raises(UserError) as caught:
        computed(*made_, numbers(1, 2))
    assert str(caught.value) == (
        "job j: the result has no column id, which is in the key of its input\n"
        "  mend: return the input's key too (id): its rows can change, and their results with them"
    )


def test_a_function_that_is_not_row_wise_is_found_out_before_it_returns() -> None:
    def normalised(table: pa.Table) -> pa.Table:
        values = table.column("n").to_pylist()
        return pa.table({"share": [n / sum(values) for n in values]})

    with pytest.raises(UserError) as caught:
        computed(*made(normalised, Takes.TABLE), numbers(1, 2, 3))
    assert str(caught.value) == (
        "job j is not row-wise: 3 rows at once give other results than in two halves\n"
        "  mend: use takes='full' if the result depends on other rows, or make each row's result its own"
    )


def test_a_table_job_of_rows_without_a_key_that_can_change_is_refused() -> None:
    with pytest.raises(DefinitionError) as caught:
        made(lambda table: table, Takes.TABLE, Asset("numbers", AssetKind.FILES))
    assert str(caught.value) == (
        "job j takes tables of numbers, whose rows can change and have no key\n"
        "  mend: give the asset a key, or say takes='row' or takes='full'"
    )


def test_a_full_job_gets_whole_inputs_and_becomes_its_result() -> None:
    log = [*numbers(1, 2), Change(3, "r1", {"id": 0, "n": 1}, None)]
    output = computed(*made(lambda table: table, Takes.FULL, UPSERT, key=("id",)), log, from_=2)
    assert isinstance(output, Became)
    assert output.key == ("id",)
    assert rows_of(output) == [{"id": 1, "n": 2}]


def test_chunks_of_any_size_give_the_same_rows() -> None:
    log = numbers(*range(25))
    whole = rows_of(computed(*made(twice, Takes.ROW), log))
    for size in (1, 7, 24, 25, 26):
        chunks = list(engine._chunks(reader_of(log).read(engine.Slice("numbers", 0, 25, "added")), size))
        assert sum(chunk.num_rows for chunk in chunks) == 25
        assert max(chunk.num_rows for chunk in chunks) <= size
    assert Counter(row[PARENT] for row in whole) == Counter(f"r{n}" for n in range(1, 26))


def test_a_version_that_is_not_loaded_is_never_run_as_another() -> None:
    engine_, work = made(twice, Takes.ROW)
    with pytest.raises(NotFound, match="the code of job j at version v2 is not loaded"):
        engine_.compute(replace(work, job=replace(work.job, version="v2")), reader_of(numbers(1)))


def test_an_older_version_stays_known_beside_a_newer_one() -> None:
    engine_, work = made(twice, Takes.ROW)
    engine_.adopt([replace(work.job, version="v2")], {"j": lambda row: {"id": row["id"], "twice": 0}})
    assert rows_of(computed(engine_, work, numbers(4)))[0]["twice"] == 8


def test_a_run_job_sees_its_changes_its_rows_and_one_key_over_all_attempts() -> None:
    seen: dict[str, Any] = {}
    lines: list[str] = []

    def send(run: Run) -> None:
        seen.update(changes=run.changes("numbers").to_pylist(), rows=run.rows("numbers").to_pylist())
        seen.update(key=run.idempotency_key, attempt=run.attempt, keys=run.keys("numbers"))
        run.log("sent")

    engine_, work = made(send, Takes.RUN, UPSERT)
    log = [*numbers(1), Change(2, "r1", {"id": 0, "n": 1}, {"id": 0, "n": 5})]
    part = replace(work, ranges={"numbers": (1, 2)}, attempt=2)
    engine_._open_log = lambda _run: nullcontext(lines.append)
    assert engine_.effect(part, reader_of(log)) == {}
    assert seen["changes"] == [{"_weight": -1, "id": 0, "n": 1}, {"_weight": 1, "id": 0, "n": 5}]
    assert seen["rows"] == [{"id": 0, "n": 5}]
    assert (seen["key"], seen["attempt"]) == (idempotency_key("j", {"numbers": (1, 2)}), 2)
    assert lines == ["sent"]
    assert len(seen["keys"]) == 2


def test_a_run_answers_nothing_after_it_is_over() -> None:
    kept: list[Run] = []
    engine_, work = made(kept.append, Takes.RUN)
    engine_.effect(work, reader_of(numbers(1)))
    with pytest.raises(UserError, match="run run1 is over"):
        kept[0].rows("numbers")


def test_a_thread_that_takes_too_long_is_abandoned() -> None:
    let_go = threading.Event()
    made_ = made(lambda _: let_go.wait(20), Takes.ROW, timeout_seconds=0.05)
    with pytest.raises(RunTimedOut, match=r"job j took longer than 0\.05 s"):
        computed(*made_, numbers(1))
    let_go.set()


def test_many_rows_spill_to_a_file_and_can_be_read_again_and_again() -> None:
    spool = Spool(spill_bytes=1_000)
    for start in range(0, 1_000, 100):
        spool.add(pa.table({"n": list(range(start, start + 100))}))
    spool.add(pa.table({"n": [1.5], "late": ["x"]}))
    first, second = pa.table(spool), pa.table(spool)
    assert first.equals(second)
    assert first.num_rows == spool.rows == 1_001
    assert first.column("n").to_pylist()[:3] == [0.0, 1.0, 2.0]
    assert first.column("late").to_pylist()[-2:] == [None, "x"]


def test_a_job_with_several_outputs_returns_rows_by_name() -> None:
    job = Job("j", ("numbers",), ("odd", "even"), Takes.ROW, "", "v1")
    engine_ = PythonEngine([job], {"j": lambda row: {"odd" if row["n"] % 2 else "even": {"n": row["n"]}}})
    work = Work(job, engine_.plan(job, {"numbers": APPEND}), {"numbers": (0, 3)}, "run1")
    outputs = dict(engine_.compute(work, reader_of(numbers(1, 2, 3))))
    assert {name: [row["n"] for row in rows_of(output)] for name, output in outputs.items()} == {
        "odd": [1, 3],
        "even": [2],
    }
