"""What the tables store does beyond its port, and what only it can get wrong: types, SQL, files, threads, a full disk."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tidemill.core.change import RID, WEIGHT, Appended, Became, Changed, Images, Replaced, Slice, Statement
from tidemill.core.errors import (
    BrokenJob,
    Conflict,
    ContractViolation,
    DefinitionError,
    OperatorError,
    PoisonRecord,
    StateCorrupt,
    StateTooNew,
    StorageFull,
    UserError,
)
from tidemill.core.model import Column
from tidemill.core.ports import Progress, Table
from tidemill.stores.duckdb import DuckDBStore
from tidemill.stores.duckdb.database import Session
from tidemill.stores.duckdb.inputs import SHAPES_MAX
from tidemill.stores.duckdb.site import Site
from tidemill.testing.contract.probe import (
    COLUMNS,
    changes,
    contents,
    head,
    progress,
    reading,
    rows,
    settle,
    state,
    write,
    writing,
)

RICH = {
    "json": """'{"a": [1, null]}'""",
    "uuid": "'6c084e9d-6e5e-4d5c-8d1a-3f9a9d9b6a0e'",
    "hugeint": "170141183460469231731687303715884105727",
    "ubigint": "18446744073709551615",
    "time": "'23:59:59.999999'",
    "interval": "INTERVAL 3 MONTH",
    "enum('Low', 'high')": "'Low'",
    "struct(a integer, b varchar[])": "{'a': 1, 'b': ['x', NULL]}",
    "map(varchar, integer)": "MAP {'k': 1}",
    "struct(p decimal(9, 2))[]": "[{'p': 1.25}]",
    "timestamp_s": "'2024-01-01 00:00:00'",
    "real": "'nan'",
    "decimal(38, 10)": "1234567890123456789012345678.0123456789",
}


@pytest.fixture
def store() -> Iterator[DuckDBStore]:
    store = DuckDBStore(":memory:")
    yield store
    store.close()


@pytest.mark.parametrize("most", [False, True], ids=["few are new", "most are new"])
def test_a_key_that_an_old_row_has_is_refused_however_few_rows_are_new(store: DuckDBStore, most: bool) -> None:
    """NULL is a value of a key like any other; nothing is written."""
    old = [(n, "x") for n in range(1 if most else 20)] + [(0, None)]

    def append(*given: tuple[Any, ...]) -> int:
        with writing(store) as transaction:
            transaction.define(Table("t", COLUMNS, ("id", "name")))
            begun = transaction.head("t").offset
            parents = [str(begun + n) for n in range(len(given))]
            return transaction.write("t", Appended(rows(*given, parent=parents, ordinal=[0] * len(given))))

    assert append(*old) == len(old)
    fresh = [(n, "y") for n in range(5 if most else 1)]
    for twice in ((0, "x"), (0, None)):
        with pytest.raises(ContractViolation, match="the key is not unique"):
            append(*fresh, twice)
    assert append(*fresh, (1_000, None)) == len(fresh) + 1
    assert contents(store, "t") == sorted([*old, *fresh, (1_000, None)], key=repr)


# Types.


@pytest.mark.parametrize("images_max", [0, 100])
@pytest.mark.parametrize("kind", RICH)
def test_any_type_of_duckdb_is_kept(kind: str, images_max: int) -> None:
    store = DuckDBStore(":memory:", site=Site(":memory:", images_max=images_max))
    columns = (Column("id", "integer"), Column("v", kind))
    one = Statement(f"SELECT 1 AS id, ({RICH[kind]})::{kind} AS v", {})
    none = Statement(f"SELECT 1 AS id, NULL::{kind} AS v", {})
    with writing(store) as transaction:
        for asset, key in (("keyed", ("id",)), ("bare", None), ("by_value", ("v",))):
            transaction.define(Table(asset, columns))
            assert transaction.write(asset, Became(one, key)) == 1
            assert transaction.write(asset, Became(one, key)) == 0
        transaction.write("keyed", Became(none, ("id",)))
        transaction.write("keyed", Became(one, ("id",)))
        # The slice is read back by SQL, with the asset's own types.
        transaction.define(Table("copy", columns))
        part = Slice("keyed", 3, transaction.head("keyed").offset, Images.ADDED)
        transaction.write("copy", Became(Statement('SELECT id, v FROM "@input:keyed"', {"keyed": part}), ("id",)))
    found = store.query("SELECT c.v IS NOT DISTINCT FROM k.v AS same, typeof(c.v) FROM copy c, keyed k").to_pylist()
    assert found[0]["same"] is True
    assert len(state(store, "keyed")) == 1
    [change] = changes(store, "keyed", 3, 4)
    assert (change.old is None, change.new is not None) == (False, True)
    store.close()


@pytest.mark.parametrize("kind", RICH)
def test_a_change_set_may_have_any_type(kind: str, store: DuckDBStore) -> None:
    columns = (Column("id", "integer"), Column("v", kind))

    def lines(*lines: tuple[int, int]) -> Changed:
        values = ", ".join(map(str, lines))
        made = f"SELECT 'a' AS _rid, w AS _weight, i AS id, ({RICH[kind]})::{kind} AS v FROM (VALUES {values}) t(w, i)"
        return Changed(Statement(made, {}))

    assert write(store, "t", lines((1, 0)), columns) == 1
    assert write(store, "t", lines((-1, 0), (1, 0)), columns) == 0
    assert write(store, "t", lines((-1, 0), (1, 0), (-1, 0), (1, 1)), columns) == 1
    [found] = store.query(f"SELECT id, v IS NOT DISTINCT FROM ({RICH[kind]})::{kind} AS same FROM t").to_pylist()
    assert found == {"id": 1, "same": True}


def _given(kind: Any, *lines: tuple[str, int, Any]) -> Changed:
    rids, weights, values = (list(column) for column in zip(*lines, strict=True))
    return Changed(pa.table({RID: rids, WEIGHT: pa.array(weights, pa.int8()), "v": pa.array(values, kind)}))


@pytest.mark.parametrize("images_max", [0, 100])
def test_the_lines_of_a_change_set_are_compared_in_the_types_of_the_asset(images_max: int) -> None:
    store = DuckDBStore(":memory:", site=Site(":memory:", images_max=images_max))
    for asset, kind, arrow, one, other in (
        ("a", "decimal(9,2)", pa.float64(), 1.001, 1.0),
        ("b", "integer", pa.float64(), 1.2, 1.4),
        ("c", "real", pa.float64(), 0.1, 0.1 + 1e-12),
        ("d", "varchar", pa.timestamp("us"), 0, 0),
        ("e", "bigint", pa.int32(), 7, 7),
        ("f", "double", pa.float64(), 0.0, -0.0),
    ):
        columns = (Column("v", kind),)
        given = _given(arrow, ("a", 1, one), ("b", 1, one), ("b", -1, other))
        assert write(store, asset, given, columns) == 1
        assert write(store, asset, _given(arrow, ("a", -1, other), ("a", 1, one)), columns) == 0
        assert write(store, asset, _given(pa.null(), ("a", -1, None), ("n", 1, None), ("a", 1, None)), columns) == 1
        assert head(store, asset).rows == 2
    store.close()


def test_sessions_run_in_utc(store: DuckDBStore) -> None:
    given = Statement("SELECT 1 AS id, '2024-01-01 00:00:00'::TIMESTAMPTZ::VARCHAR AS name", {})
    write(store, "t", Became(given, ("id",)))
    assert contents(store, "t") == [(1, "2024-01-01 00:00:00+00")]
    assert store.query("SELECT current_setting('TimeZone') AS zone").to_pylist() == [{"zone": "UTC"}]


# Statements.


def _copying(store: DuckDBStore, sql: str) -> int:
    part = Slice("in", 0, head(store, "in").offset)
    return write(store, "out", Became(Statement(sql, {"in": part}), ("id",)))


def test_a_statement_may_be_any_query(store: DuckDBStore) -> None:
    write(store, "in", Became(rows((1, "a"), (2, "b")), ("id",)))
    for sql in (
        'SELECT id, name FROM "@input:in";',
        'WITH x AS (SELECT * FROM "@input:in") SELECT x.id, x.name FROM x ORDER BY id LIMIT 5 -- and a comment',
        'SELECT a.id, b.name FROM "@input:in" a JOIN "@input:in" AS b USING (id)',
        'SELECT "@input:in".id, name FROM "@input:in" UNION SELECT id, name FROM "@input:in"',
        """SELECT id, name FROM "@input:in" WHERE name <> ';' /* '@input:in' */""",
    ):
        _copying(store, sql)
        assert contents(store, "out") == [(1, "a"), (2, "b")]


def test_what_a_record_breaks_is_poison_and_what_the_text_breaks_is_the_job(store: DuckDBStore) -> None:
    write(store, "in", Became(rows((1, "a"), (2, "7")), ("id",)))
    with pytest.raises(PoisonRecord):
        _copying(store, 'SELECT name::INTEGER AS id, name FROM "@input:in"')
    with pytest.raises(PoisonRecord):
        _copying(store, "SELECT id, error('no') AS name FROM \"@input:in\"")
    for sql in ("SELECT nothing AS id FROM x", "SELEKT 1", 'SELECT id, nope AS name FROM "@input:in"'):
        with pytest.raises(BrokenJob):
            _copying(store, sql)
    with pytest.raises(DefinitionError):
        write(store, "bad", Appended(rows()), (Column("id", "no such type"),))
    assert sorted(store.positions().heads) == ["in"]


def test_a_transaction_evaluates_a_statement_at_its_snapshot(store: DuckDBStore) -> None:
    write(store, "in", Became(rows((1, "a"), (2, "b")), ("id",)))
    with reading(store) as reader:
        assert reader.head("in").offset == 3
        write(store, "in", Became(rows(), ("id",)))
        statement = Statement('SELECT count(*) AS n FROM "@input:in"', {"in": Slice("in", 0, 3)})
        assert reader.evaluate(statement).to_pylist() == [{"n": 2}]  # type: ignore[attr-defined]


def test_a_statement_that_is_evaluated_is_one_statement_and_is_not_remembered(counted: DuckDBStore) -> None:
    part = Slice("in", 0, head(counted, "in").offset)
    Counting.described.clear()
    with reading(counted) as reader:
        for number in range(3):
            Counting.ran.clear()
            statement = Statement(f'SELECT count(*) AS n FROM "@input:in" WHERE id > {number}', {"in": part})
            assert reader.evaluate(statement).to_pylist() == [{"n": 2 - number}]  # type: ignore[attr-defined]
            assert Counting.ran[-1:] == ["SELECT"]
    assert Counting.described == []


def test_what_is_known_of_the_columns_of_statements_is_bounded(counted: DuckDBStore) -> None:
    counted._site.shapes.update(dict.fromkeys(range(SHAPES_MAX), ()))
    write(counted, "out", Appended(Statement("SELECT 1 AS id, 'y' AS name", {})))
    assert contents(counted, "out") == [(0, "x"), (1, "y")]
    assert len(counted._site.shapes) == 1


def test_a_store_evaluates_rows_handed_over(store: DuckDBStore) -> None:
    statement = Statement('SELECT sum(id) AS n FROM "@input:x"', {"x": rows((1, "a"), (2, "b"))})
    assert store.evaluate(statement).to_pylist() == [{"n": 3}]


AS_FEW = {
    "every plain type": "SELECT true AS a, 1::TINYINT AS b, 2::SMALLINT AS c, 3 AS d, 4::BIGINT AS e, 5::HUGEINT AS f, "
    "-0.0::DOUBLE AS g, 'x' || chr(0) AS h",
    "NULLs": "SELECT NULL::BIGINT AS a, NULL::HUGEINT AS b, NULL::VARCHAR AS c",
    "no rows": "SELECT 1::BIGINT AS a, 'x' AS b WHERE false",
    "more digits than Arrow's decimals": "SELECT (-170141183460469231731687303715884105727)::HUGEINT AS a, 1::HUGEINT AS b",
    "types by way of Arrow": "SELECT TIMESTAMP 'infinity' AS a, DATE '9999-12-31' + 1 AS b, 1.25::DECIMAL(4, 2) AS c",
    **{f"{n} rows": f"SELECT i, 'n' || i AS b FROM range({n}) AS r(i) ORDER BY i" for n in (32, 33, 34, 5000)},
}


@pytest.mark.parametrize("sql", AS_FEW.values(), ids=AS_FEW)
def test_few_rows_are_what_an_export_to_arrow_gives(sql: str) -> None:
    with duckdb.connect() as connection:
        exported = connection.sql(sql).to_arrow_table()
        assert Session(connection).few(sql).equals(exported)


def test_a_description_has_the_exact_types(store: DuckDBStore) -> None:
    shapes = {"t": (Column("a", "integer"), Column("d", "decimal(9,2)")), "u": (Column("s", "varchar"),)}
    sql = """SELECT a, sum(a) AS total, avg(d) AS mean, [s] AS l, 'x'::ENUM('X', 'x') AS e, count(*) AS n
             FROM t JOIN "@input:u" u ON u._rid = t.a::VARCHAR GROUP BY ALL -- end"""
    found = {column.name: column.type for column in store.describe(sql, shapes)}
    assert found == {
        "a": "integer",
        "total": "hugeint",
        "mean": "double",
        "l": "varchar[]",
        "e": "enum('X', 'x')",
        "n": "bigint",
    }
    with pytest.raises(BrokenJob):
        store.describe("SELECT nope FROM t", shapes)


class Endless:
    """Many rows that are made while they are read, and readable again: as a spool on disk is."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        size = 40_000
        made = (rows(*((b * size + n, "x" * 50) for n in range(size))).to_batches()[0] for b in range(self.batches))
        return pa.RecordBatchReader.from_batches(rows().schema, made).__arrow_c_stream__(requested_schema)


def test_rows_that_do_not_fit_in_memory_are_streamed(store: DuckDBStore) -> None:
    given = Endless(14)
    assert write(store, "t", Appended(given)) == 560_000
    assert write(store, "u", Became(given, ("id",))) == 560_000
    assert write(store, "u", Became(given, ("id",))) == 0
    [found] = store.query("SELECT count(*) AS n, bool_and(id = _from - 2) AS ordered FROM store.t").to_pylist()
    assert found == {"n": 560_000, "ordered": True}


# Queries.


def test_a_query_sees_the_current_rows_and_only_the_users_columns(store: DuckDBStore) -> None:
    write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
    write(store, "t", Became(rows((1, "A")), ("id",)))
    write(store, "j@parked", Appended(rows((1, "x"))))
    assert store.query("FROM t").to_pylist() == [{"id": 1, "name": "A"}]
    with pytest.raises(BrokenJob):
        store.query('SELECT * FROM main."j@parked"')
    [known] = store.query("SELECT * FROM tidemill.tables WHERE asset = 't'").to_pylist()
    assert (known["head"], known["rows"], known["generation"], known["floor"]) == (5, 1, 1, 0)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM store.t",
        "INSERT INTO store.t VALUES (1)",
        "SELECT 1; DROP TABLE store.t",
        "DROP VIEW t",
        "COPY t TO 'x.csv'",
        "ATTACH ':memory:' AS other",
        "SET threads = 1",
        "EXPLAIN ANALYZE DELETE FROM store.t",
        "CREATE TEMP TABLE x AS SELECT 1",
        "",
    ],
)
def test_anything_but_a_query_is_refused(store: DuckDBStore, sql: str) -> None:
    write(store, "t", Appended(rows((1, "a"))))
    with pytest.raises((UserError, OperatorError, PoisonRecord)):
        store.query(sql)
    assert contents(store, "t") == [(1, "a")]


# Files.


def test_a_backup_is_a_consistent_copy_of_a_live_store(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "live.duckdb")
    write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
    write(store, "t", Became(rows((1, "A")), ("id",)))
    settle(store, progress(t=5))
    open_one = store.begin()
    open_one.write("t", Became(rows((9, "uncommitted")), ("id",)))
    copy = DuckDBStore(store.backup(tmp_path / "backup"))
    open_one.commit()
    assert contents(copy, "t") == [(1, "A")]
    assert copy.query("FROM t").to_pylist() == [{"id": 1, "name": "A"}]
    assert copy.positions().progress == {"j": progress(t=5)}
    assert len(changes(copy, "t", 3, 5)) == 2
    write(copy, "t", Became(rows((3, "goes on")), ("id",)))
    copy.close()
    again = DuckDBStore(store.backup(tmp_path / "backup"))
    assert contents(again, "t") == [(9, "uncommitted")]
    again.close()
    store.close()


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    DuckDBStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE tidemill.meta SET value = 99 WHERE name = 'schema'")
    with pytest.raises(StateTooNew):
        DuckDBStore(path)


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"x"])
def test_a_corrupt_file_is_named_with_its_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.duckdb"
    path.write_bytes(content)
    with pytest.raises(StateCorrupt) as raised:
        DuckDBStore(path)
    assert str(path) in str(raised.value)
    assert "backup" in raised.value.mend


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    store = DuckDBStore(path)
    write(store, "t", Became(rows(*((n, str(n)) for n in range(3000))), ("id",)))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OperatorError):
        _read_all(path)


def _read_all(path: Path) -> int:
    store = DuckDBStore(path)
    try:
        return len(contents(store, "t"))
    finally:
        store.close()


def test_a_state_that_knows_only_half_of_an_asset_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    store = DuckDBStore(path)
    write(store, "t", Appended(rows((1, "a"))))
    store.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM tidemill.state WHERE id = 'shape t'")
    with pytest.raises(StateCorrupt):
        DuckDBStore(path)


OTHER_PROCESS = """
import sys
from tidemill.stores.duckdb import DuckDBStore
from tidemill.core.errors import OperatorError
try:
    DuckDBStore(sys.argv[1])
except OperatorError as error:
    print(type(error).__name__, error.mend)
"""


def test_a_second_process_is_told_that_the_file_is_in_use(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "t.duckdb")
    command = [sys.executable, "-c", OTHER_PROCESS, store.path]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("OperatorError stop the other process")
    store.close()


ENDLESS_RUNS = """
import sys
import pyarrow as pa
from tidemill.core.change import Appended, Became
from tidemill.core.model import Column
from tidemill.core.ports import Progress, Table
from tidemill.stores.duckdb import DuckDBStore
store = DuckDBStore(sys.argv[1])
store.claim()
run = 0
while True:
    run += 1
    transaction = store.begin()
    before = transaction.progress("j")
    transaction.define(Table("t", (Column("id", "bigint"),)))
    transaction.define(Table("u", (Column("id", "bigint"),)))
    transaction.write("t", Appended(pa.table({"id": [run]})))
    transaction.write("u", Became(pa.table({"id": [run, run + 1]}), ("id",)))
    transaction.settle(Progress("j", "v", {}, {}, str(run)), before)
    transaction.commit()
    print(run, flush=True)
"""


@pytest.mark.parametrize("commits", [1, 7, 40])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, commits: int) -> None:
    path = tmp_path / "t.duckdb"
    command = [sys.executable, "-c", ENDLESS_RUNS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(commits):
            acknowledged = int(process.stdout.readline())
        process.kill()
    store = DuckDBStore(path)
    run = int(store.positions().progress["j"].run)
    assert run >= acknowledged
    assert contents(store, "t") == sorted([(n,) for n in range(1, run + 1)], key=repr)
    assert sorted(contents(store, "u")) == [(run,), (run + 1,)]
    assert head(store, "t").offset == run + 1
    store.close()


# A full disk.


class Full(Session):
    """A session on a disk that is full: of commits as long as `left` says, or of writes with a text in them."""

    __slots__ = ()
    left = 0
    text = ""

    def commit(self) -> None:
        if Full.left:
            Full.left -= 1
            raise StorageFull("No space left on device")
        super().commit()

    def run(self, sql: str, parameters: Sequence[Any] | None = None) -> int:
        if Full.text and Full.text in sql:
            raise StorageFull("No space left on device")
        return super().run(sql, parameters)


def test_a_full_disk_stops_the_work_and_leaves_the_state_valid() -> None:
    store = DuckDBStore(":memory:", site=Site(":memory:", session_type=Full))
    write(store, "t", Became(rows((1, "z")), ("id",)))
    write(store, "t", Became(rows((1, "a")), ("id",)))
    settle(store, progress(t=2))
    attempts: list[Callable[[], object]] = [
        lambda: write(store, "t", Became(rows((1, "b")), ("id",))),
        lambda: settle(store, progress(t=2, run="r2"), progress(t=2)),
        lambda: store.trim("t", 3),
    ]
    for attempt in attempts:
        Full.left = 1
        with pytest.raises(StorageFull):
            attempt()
        assert contents(store, "t") == [(1, "a")]
        assert store.positions().progress == {"j": progress(t=2)}
    for text in ("@lines", "INSERT INTO tables.store", "UPDATE tables.store", "tidemill.state"):
        Full.text = text
        with pytest.raises(StorageFull):
            write(store, "t", Became(rows((1, "b")), ("id",)))
        Full.text = ""
        assert contents(store, "t") == [(1, "a")]
    for attempt in attempts:
        attempt()
    assert contents(store, "t") == [(1, "b")]
    store.close()


def test_on_a_full_disk_nothing_expires_by_half() -> None:
    store = DuckDBStore(":memory:", site=Site(":memory:", session_type=Full))
    write(store, "m", Appended(rows((1, "a"), (2, "b"), offset=[1, 2]), head=2))
    before = head(store, "m")
    for text in ("DELETE FROM tables.store", "tidemill.state"):
        Full.text = text
        with pytest.raises(StorageFull):
            store.expire("m", 1)
        Full.text = ""
        assert (head(store, "m"), len(contents(store, "m"))) == (before, 2)
    Full.left = 1
    with pytest.raises(StorageFull):
        store.expire("m", 1)
    assert (head(store, "m"), len(contents(store, "m"))) == (before, 2)
    assert store.expire("m", 1) == 1
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MB, where this machine lets us have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


FILLING = """
import sys
from tests.contract.test_store_duckdb_inside import *

store, committed, failed = DuckDBStore(sys.argv[1]), 0, 0
while failed < 3:
    text = f"{committed}-{failed}" * 100
    given = Statement(f"SELECT i AS id, sha256('{text}' || i) || sha256(i || '{text}') AS name FROM range(9000) r(i)", {})
    try:
        with writing(store) as transaction:
            transaction.define(Table("t", COLUMNS))
            transaction.write("t", Appended(given))
            transaction.settle(Progress("j", "v", run=str(committed + 1)), transaction.progress("j"))
        committed += 1
        print(committed, flush=True)
    except StorageFull:
        failed += 1
assert store.query("SELECT count(*) AS n FROM t").to_pylist() == [{"n": committed * 9000}]
assert store.positions().progress["j"].run == str(committed)
print("full", flush=True)
sys.stdin.readline()
write(store, "t", Appended(rows((1, "room"))))
assert head(store, "t").rows == committed * 9000 + 1
print("went on", flush=True)
"""


def test_work_goes_on_when_there_is_room_again(small_disk: Path) -> None:
    """Also where the disk fills up in a checkpoint, after which DuckDB gives its database up.

    In a process of its own: DuckDB 2.0.0 has been seen to crash on a full disk. Then its process is gone, and what must
    hold is what holds after any death: every commit is there, and the next process goes on.
    """
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", FILLING, str(small_disk / "t.duckdb")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, text=True, **pipes) as process:  # type: ignore[call-overload]
        told: list[str] = []
        while "full" not in told and (line := process.stdout.readline().strip()):
            told.append(line)
        subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=False)
        rest, errors = process.communicate("go on\n", timeout=120)
    told += rest.split("\n")
    committed = max(int(line) for line in told if line.isdigit())
    went_on = "went on" in told
    assert went_on or process.returncode < 0, errors
    store = DuckDBStore(small_disk / "t.duckdb")
    assert head(store, "t").rows >= committed * 9000 + (1 if went_on else 0)
    write(store, "t", Appended(rows((2, "after"))))
    store.close()


# Threads.


def test_many_threads_lose_nothing(store: DuckDBStore) -> None:
    """Exclusive runs wait, others try again after a conflict; every row arrives once."""
    write(store, "t", Appended(rows()))
    failures: list[BaseException] = []

    def runs(worker: int) -> None:
        try:
            for number in range(8):
                while not _one_run(store, worker, number, exclusive=worker % 2 == 0):
                    pass
        except BaseException as error:  # noqa: BLE001 - the test shows what a thread died of
            failures.append(error)

    threads = [threading.Thread(target=runs, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert contents(store, "t") == sorted([(w, str(n)) for w in range(6) for n in range(8)], key=repr)
    assert head(store, "t").offset == 1 + 48
    assert {job: done.run for job, done in store.positions().progress.items()} == {f"j{w}": "7" for w in range(6)}


def _one_run(store: DuckDBStore, worker: int, number: int, *, exclusive: bool) -> bool:
    with suppress(Conflict), writing(store, exclusive=exclusive) as transaction:
        before = transaction.progress(f"j{worker}")
        transaction.write("t", Appended(rows((worker, str(number)))))
        transaction.settle(Progress(f"j{worker}", "v", run=str(number)), before)
    return store.positions().progress.get(f"j{worker}", Progress("", "")).run == str(number)


# Statements a run costs: each is about a millisecond, so their number is the speed.


class Counting(Session):
    """A session that notes what it runs."""

    __slots__ = ()
    ran: list[str] = []  # noqa: RUF012 - one list for all sessions of the test
    described: list[str] = []  # noqa: RUF012

    def run(self, sql: str, parameters: Sequence[Any] | None = None) -> int:
        Counting.ran.append(sql.split(" ", 1)[0])
        return super().run(sql, parameters)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        Counting.ran.append("SELECT")
        return super().rows(sql)

    def arrow(self, sql: str) -> Any:
        Counting.ran.append("SELECT")
        return super().arrow(sql)

    def few(self, sql: str) -> Any:
        Counting.ran.append("SELECT")
        return super().few(sql)

    def shape(self, sql: str) -> list[tuple[str, str]]:
        Counting.described.append(sql)
        return super().shape(sql)


@pytest.fixture
def counted() -> Iterator[DuckDBStore]:
    store = DuckDBStore(":memory:", site=Site(":memory:", session_type=Counting))
    write(store, "in", Appended(rows((1, "a"), (2, "b"))))
    write(store, "out", Appended(rows((0, "x"), rid=["0"], parent=["0"])))
    settle(store, Progress("j", "v", {"in": 2}, {"in": 1}))
    yield store
    store.close()


def test_trimming_where_no_image_has_ended_since_runs_nothing(counted: DuckDBStore) -> None:
    write(counted, "t", Became(rows((1, "a")), ("id",)))
    write(counted, "t", Became(rows((1, "b")), ("id",)))
    Counting.ran.clear()
    assert counted.trim("in", 2) == 0
    assert Counting.ran == []
    assert counted.trim("t", 3) == 1
    Counting.ran.clear()
    assert counted.trim("t", 3) == 0
    assert Counting.ran == []


def _run(store: DuckDBStore, *outputs: Any) -> list[str]:
    Counting.ran.clear()
    with writing(store) as transaction:
        for number, output in enumerate(outputs):
            before = transaction.progress("j")
            transaction.head("in")
            transaction.define(Table("out", COLUMNS))
            transaction.write("out", output)
            transaction.settle(Progress("j", "v", {"in": 3}, {"in": 1}, str(number)), before)
    return list(Counting.ran)


def test_a_realtime_run_of_one_event_is_two_statements(counted: DuckDBStore) -> None:
    assert _run(counted, Appended(rows((2, "b"), parent=["2"], ordinal=[0]))) == ["INSERT", "UPDATE"]
    statement = Statement('SELECT id, name, _rid AS _parent FROM "@input:in"', {"in": Slice("in", 2, 3, Images.ADDED)})
    assert _run(counted, Appended(statement)) == ["INSERT", "UPDATE"]


def test_a_group_of_runs_stores_its_progress_once(counted: DuckDBStore) -> None:
    given = [Appended(rows((n, "b"), parent=[str(n)], ordinal=[0])) for n in range(4)]
    assert _run(counted, *given) == ["INSERT"] * 4 + ["UPDATE"]


def test_replacing_a_few_rows_looks_at_them_first(counted: DuckDBStore) -> None:
    given = rows((9, "z"), parent=["0"], ordinal=[0])
    assert _run(counted, Replaced(given, ["0"])) == ["SELECT", "UPDATE", "INSERT", "UPDATE"]
    assert _run(counted, Replaced(given, ["0"])) == ["SELECT", "UPDATE"]
    assert _run(counted, Replaced(rows((1, "n"), parent=["new"], ordinal=[0]), ["new"])) == [
        "SELECT",
        "INSERT",
        "UPDATE",
    ]


def test_a_difference_is_three_statements(counted: DuckDBStore) -> None:
    many = [(n, "z") for n in range(100)]
    given = rows(*many, parent=["0"] * 100, ordinal=list(range(100)))
    assert _run(counted, Replaced(given, ["0"])) == ["CREATE", "UPDATE", "INSERT", "UPDATE"]
    assert _run(counted, Replaced(given, ["0"])) == ["CREATE", "UPDATE"]
    assert _run(counted, Became(rows((1, "q")), ("id",))) == ["CREATE", "UPDATE", "INSERT", "UPDATE"]


def _lines(*lines: tuple[str, int, int, str], is_checked: bool = False) -> Changed:
    rids, weights = [line[0] for line in lines], [line[1] for line in lines]
    return Changed(rows(*(line[2:] for line in lines), rid=rids, weight=weights), is_checked)


def test_a_change_set_of_few_rows_costs_a_statement_for_what_ends_and_one_for_what_begins(counted: DuckDBStore) -> None:
    assert _run(counted, _lines(("a", 1, 1, "a"), ("b", 1, 2, "b"))) == ["INSERT", "UPDATE"]
    assert _run(counted, _lines(("a", 1, 1, "A"), ("a", -1, 1, "a"))) == ["UPDATE", "INSERT", "UPDATE"]
    assert _run(counted, _lines(("a", -1, 1, "A"), ("b", -1, 2, "b"))) == ["UPDATE", "UPDATE"]
    assert _run(counted, _lines(("a", 1, 1, "a"), ("a", -1, 1, "a"))) == ["UPDATE"]
    assert _run(counted, _lines()) == ["UPDATE"]
    assert _run(counted, _lines(("a", 1, 1, "a"), is_checked=True)) == ["SELECT", "INSERT", "UPDATE"]
    assert _run(counted, _lines(("a", -1, 1, "a"), ("a", 1, 1, "b"), is_checked=True)) == ["UPDATE", "INSERT", "UPDATE"]


def test_a_change_set_in_sql_scans_the_table_only_where_rows_end(counted: DuckDBStore) -> None:
    many = [(f"r{n}", 1, n, "x") for n in range(100)]
    assert _run(counted, _lines(*many)) == ["CREATE", "SELECT", "INSERT", "UPDATE"]
    moved = [(rid, -1, n, name) for rid, _, n, name in many] + [(rid, 1, n, "y") for rid, _, n, _ in many]
    assert _run(counted, _lines(*moved)) == ["CREATE", "SELECT", "UPDATE", "INSERT", "UPDATE"]
    assert _run(counted, _lines(*moved[:50], *many[:50])) == ["CREATE", "UPDATE"]


def test_a_statement_that_makes_a_change_set_is_evaluated_once(counted: DuckDBStore) -> None:
    part = Slice("in", 2, 3, Images.CHANGES)
    statement = Statement('SELECT _rid, _weight, id, name FROM "@input:in"', {"in": part})
    assert _run(counted, Changed(statement)) == ["CREATE", "SELECT", "INSERT", "UPDATE"]
