"""Functions in worker processes: the same results, and an end that can be forced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.engines.fake import MemoryReader, inserts
from tidemill.core.change import PARENT
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind, Isolation, Job, Takes
from tidemill.core.ports import Work
from tidemill.engines.python import FunctionFailed, PythonEngine
from tidemill.engines.python.calling import RunTimedOut
from tidemill.engines.python.process import FunctionRaised, WorkerDied
from tidemill.project.pyjobs import read_file

SOURCE = """
import os, time
from pathlib import Path
import pyarrow as pa
import tidemill as tm

@tm.job(inputs="numbers", output="out")
def row(row: dict):
    return {"twice": row["n"] * 2, "pid": os.getpid()}

@tm.job(inputs="numbers", output="out")
def fragile(row: dict):
    return {"inverse": 1 // row["n"]}

@tm.job(inputs="numbers", output="out", takes="full")
def full(table):
    return pa.table({"rows": [table.num_rows]})

@tm.job(inputs="numbers", output="out", takes="full")
def raises(table):
    raise KeyError("gone")

@tm.job(inputs="numbers", output="out", takes="full")
def dies(table):
    os._exit(7)

@tm.job(inputs="numbers", output="out", takes="full")
def hangs(table):
    Path("pid").write_text(str(os.getpid()))
    time.sleep(600)

@tm.job(inputs="numbers", output="sent")
def sends(run: tm.Run):
    run.log(f"{run.changes('numbers').num_rows} changes, attempt {run.attempt}, {run.idempotency_key[:4]}")
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PythonEngine]:
    """An engine that knows every job of the source above."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.py").write_text(SOURCE)
    found = read_file(tmp_path / "jobs.py", tmp_path).jobs
    engine = PythonEngine([job_of(each.name, Takes(each.takes)) for each in found], {each.name: each for each in found})
    yield engine
    engine.close()


def job_of(name: str, takes: Takes, timeout_seconds: float = 0.0) -> Job:
    isolation = Isolation.PROCESS
    return Job(name, ("numbers",), ("out",), takes, "", "v", isolation=isolation, timeout_seconds=timeout_seconds)


def reader() -> MemoryReader:
    return MemoryReader(
        {"numbers": inserts([{"n": n} for n in (1, 0, 2)])}, {"numbers": pa.schema([("n", pa.int64())])}
    )


def rows(engine: PythonEngine, name: str, takes: Takes, timeout_seconds: float = 0.0) -> list[dict[str, Any]]:
    job = job_of(name, takes, timeout_seconds)
    work = Work(job, engine.plan(job, {"numbers": Asset("numbers", AssetKind.TOPIC)}), {"numbers": (0, 3)}, "run1")
    found: list[dict[str, Any]] = pa.table(dict(engine.compute(work, reader()))["out"].rows).to_pylist()
    return found


def test_rows_are_computed_in_another_process_and_come_back_with_their_parents(engine: PythonEngine) -> None:
    found = rows(engine, "row", Takes.ROW)
    assert [(row[PARENT], row["twice"]) for row in found] == [("r1", 2), ("r2", 0), ("r3", 4)]
    assert {row["pid"] for row in found} != {os.getpid()}


def test_a_worker_is_used_again(engine: PythonEngine) -> None:
    assert rows(engine, "row", Takes.ROW)[0]["pid"] == rows(engine, "row", Takes.ROW)[0]["pid"]


def test_a_failed_row_is_named_across_the_process_border(engine: PythonEngine) -> None:
    with pytest.raises(FunctionFailed) as caught:
        rows(engine, "fragile", Takes.ROW)
    assert caught.value.rows == (("numbers", "r2"),)


def test_an_exception_comes_back_with_its_type_message_and_traceback(engine: PythonEngine) -> None:
    with pytest.raises(FunctionRaised, match="KeyError: 'gone'") as caught:
        rows(engine, "raises", Takes.FULL)
    assert "in raises" in caught.value.__notes__[0]


def test_a_process_that_dies_is_a_failure_and_the_next_call_gets_another(engine: PythonEngine) -> None:
    with pytest.raises(WorkerDied, match="ended with exit code 7"):
        rows(engine, "dies", Takes.FULL)
    assert rows(engine, "full", Takes.FULL) == [{"rows": 3}]


def test_a_process_that_takes_too_long_is_killed(engine: PythonEngine, tmp_path: Path) -> None:
    rows(engine, "full", Takes.FULL)
    with pytest.raises(RunTimedOut, match="job hangs took longer than 1 s"):
        rows(engine, "hangs", Takes.FULL, timeout_seconds=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_run_in_another_process_asks_for_its_changes_and_writes_its_log(engine: PythonEngine) -> None:
    lines: list[str] = []
    job = job_of("sends", Takes.RUN)
    work = Work(
        job, engine.plan(job, {"numbers": Asset("numbers", AssetKind.TOPIC)}), {"numbers": (1, 3)}, "r", attempt=2
    )
    engine._open_log = lambda _run: nullcontext(lines.append)
    engine.effect(work, reader(), "abcdef")
    assert lines == ["2 changes, attempt 2, abcd"]


def test_an_old_version_keeps_its_code_when_the_file_changes(engine: PythonEngine, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("raise SystemExit('changed')")
    assert rows(engine, "full", Takes.FULL) == [{"rows": 3}]


def test_a_function_that_is_in_no_file_is_refused() -> None:
    job = replace(job_of("loose", Takes.ROW))
    engine = PythonEngine([job], {"loose": lambda row: row})
    with pytest.raises(UserError, match="isolation: process needs a function from a file"):
        rows(engine, "loose", Takes.ROW)
