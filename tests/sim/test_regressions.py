"""Histories that once broke a promise, made small: each is here under the name of the promise."""

from __future__ import annotations

import pytest

from tidemill.testing.simulator import History
from tidemill.testing.simulator.simulate import play
from tidemill.testing.simulator.words import (
    Define,
    Emit,
    GateSpec,
    Go,
    JobSpec,
    LookAtFiles,
    Meanwhile,
    PutFile,
    RemoveFile,
    Rename,
    Resume,
    Settle,
    SourceSpec,
    Stumble,
    Trouble,
)

APPEND = SourceSpec("append", "append")
UPSERT = SourceSpec("upsert", "upsert")
FILES = SourceSpec("files", "files", members=("s1", "s2"))
MAP = JobSpec("j0", "map", "row", ("append",), "t0")
SUM = JobSpec("j1", "sum", "sql", ("append",), "t1", is_keyed=True)
GATED = JobSpec("j0", "sum", "full", ("files",), "t0", poison=9, is_keyed=True, gate=GateSpec())

HISTORIES = {
    "a word about a job that is gone changes nothing": History(
        (APPEND,), (MAP,), (Resume("j0"), Rename("j0", JobSpec("j9", "map", "row", ("append",), "t0")))
    ),
    "a start that was decided before the definition changed rebuilds": History(
        (UPSERT,),
        (JobSpec("j0", "split", "row", ("upsert",), "t0", factor=2, max_changes=5),),
        (
            Emit("upsert", (("b", 16, 1), ("a", 22, 3))),
            Settle(),
            Emit("upsert", (("c", None, 4),)),
            Go((0,)),
            Define(JobSpec("j0", "split", "row", ("upsert",), "t0", factor=3, max_changes=5)),
        ),
    ),
    "a job that is removed while it waits for its turn takes no other down": History(
        (APPEND,),
        (SUM, JobSpec("j2", "count", "sql", ("append",), "t2")),
        (Emit("append", (("a", 1, 0),)), Go((0,)), Rename("j1", JobSpec("j9", "sum", "sql", ("append",), "t1"))),
    ),
    "jobs of both homes that wait for one lane are not committed together": History(
        (APPEND,),
        (SUM, JobSpec("j2", "keep", "sql", ("append",), "t2", to_topic=True)),
        (Emit("append", (("a", 1, 0), ("b", 2, 0))), Go((0,)), Settle()),
    ),
    "a row that was mended before the search for poison is not parked": History(
        (UPSERT,),
        (JobSpec("j1", "keep", "sql", ("upsert",), "t1", factor=3, poison=3, mode="batch"),),
        (
            Emit("upsert", (("b", 4, 1), ("a", 16, 2), ("c", 15, 3))),
            Go((0,)),
            Meanwhile(action=Emit("upsert", (("a", 7, 4),))),
            Go((1,)),
        ),
    ),
    "another version tries the parked rows again": History(
        (APPEND,),
        (JobSpec("j0", "map", "row", ("append",), "t0", poison=3),),
        (
            Emit("append", (("a", 3, 0), ("b", 4, 0))),
            Settle(),
            Define(JobSpec("j0", "map", "row", ("append",), "t0", factor=2)),
        ),
    ),
    "readers of a table with other columns are rebuilt from its new log": History(
        (APPEND,),
        (
            JobSpec("j0", "sum", "full", ("append",), "t0", is_keyed=True),
            JobSpec("j1", "map", "row", ("t0",), "t1"),
        ),
        (
            Emit("append", (("a", 3, 0), ("b", 4, 0))),
            Settle(),
            Define(JobSpec("j0", "sum", "full", ("append",), "t0", is_keyed=True, is_wide=True)),
            Settle(),
        ),
    ),
    "a delay over changes without event time ends": History(
        (APPEND,),
        (
            JobSpec("j1", "map", "row", ("append",), "t1", to_topic=True),
            JobSpec("j2", "sum", "sql", ("t1",), "t2", after=30.0),
        ),
        (Emit("append", (("a", 1, 0),)), Settle()),
    ),
    "a delay over removals alone ends": History(
        (UPSERT,),
        (JobSpec("j1", "map", "row", ("upsert",), "t1", after=30.0),),
        (Emit("upsert", (("a", 1, 1),)), Settle(), Emit("upsert", (("a", None, 2),)), Settle()),
    ),
    "a gate parks the poison of every value, not only of the first": History(
        (FILES,),
        (GATED,),
        (
            PutFile("files", "2024-03-02", "s1", (("c", 25), ("b", 6))),
            PutFile("files", "2024-03-02", "s2", (("a", 22), ("c", 4))),
        ),
    ),
    "a row that came before its value was released, and went after it, is late": History(
        (FILES,),
        (JobSpec("j0", "distinct", "full", ("files",), "t0", gate=GateSpec()),),
        (
            PutFile("files", "2024-03-04", "s1", ()),
            PutFile("files", "2024-03-04", "s2", (("a", 14),)),
            LookAtFiles("files"),
            Settle(),
            PutFile("files", "2024-03-02", "s1", (("b", 14),)),
            PutFile("files", "2024-03-02", "s2", (("d", 1),)),
            LookAtFiles("files"),
            Settle(),
            PutFile("files", "2024-03-02", "s1", ()),
        ),
    ),
    "a forced gate with nothing to open is no error": History(
        (FILES,), (JobSpec("j0", "keep", "row", ("files",), "t0", when="each", gate=GateSpec()),)
    ),
    "a mirror of a topic without events holds up no other reader of the topic": History(
        (APPEND, UPSERT),
        (
            JobSpec("j0", "join", "full", ("append", "upsert"), "t0", is_keyed=True),
            JobSpec("j1", "join", "sql", ("upsert", "append"), "t1"),
        ),
        (Emit("append", (("a", 1, 0),)), Settle(), Emit("upsert", (("a", 1, 1),)), Settle()),
    ),
    "a file that was rejected and then removed keeps the rows it had": History(
        (FILES,),
        (),
        (
            PutFile("files", "2024-03-04", "s2", (("a", 1),)),
            LookAtFiles("files"),
            PutFile("files", "2024-03-04", "s2", None),
            LookAtFiles("files"),
            RemoveFile("files", "2024-03-04", "s2"),
        ),
    ),
    "ranges that cannot be pinned together are pinned one by one": History(
        (APPEND,),
        (JobSpec("j0", "map", "run", ("append",), "x0"), JobSpec("j1", "map", "run", ("append",), "x1")),
        (Stumble("ledger", is_after=False), Emit("append", (("a", 1, 0),)), Settle()),
    ),
    "a parked row of a released value stays parked while other values open": History(
        (FILES,),
        (JobSpec("j0", "keep", "row", ("files",), "t0", factor=3, poison=10, gate=GateSpec()),),
        (
            PutFile("files", "2024-03-04", "s1", (("c", 13), ("c", 23))),
            PutFile("files", "2024-03-04", "s2", (("b", 25),)),
            LookAtFiles("files"),
            PutFile("files", "2024-03-04", "s1", (("d", 8),)),
            Settle(),
            Define(
                JobSpec("j0", "keep", "row", ("files",), "t0", factor=3, poison=10, on_error="stop", gate=GateSpec())
            ),
        ),
    ),
    "a run outside that is tried again takes what it took at first": History(
        (APPEND,),
        (JobSpec("j0", "map", "run", ("append",), "x0"),),
        (Trouble("j0", 2), Emit("append", (("a", 1, 0),)), Settle(), Emit("append", (("b", 2, 0),)), Settle()),
    ),
    "a job that stops at a bad row is rebuilt once the row is mended": History(
        (UPSERT,),
        (JobSpec("j1", "map", "sql", ("upsert",), "t1", factor=2, poison=2, max_changes=1, on_error="stop"),),
        (
            Emit("upsert", (("a", 23, 1), ("c", 22, 2), ("d", 11, 3), ("d", 10, 4), ("b", 7, 5))),
            Settle(),
            Emit("upsert", (("c", 29, 6),), told="lost"),
            Emit("upsert", (("a", 15, 7), ("c", 7, 8))),
            Settle(),
            Define(JobSpec("j1", "map", "sql", ("upsert",), "t1", factor=3, poison=9, max_changes=1, on_error="stop")),
        ),
    ),
    "a correction that was broken and then withdrawn takes no value back": History(
        (FILES,),
        (JobSpec("j0", "map", "run", ("files",), "x0", mode="batch", gate=GateSpec("06:00", "fail", "hold")),),
        (
            PutFile("files", "2024-03-04", "s1", (("d", 28), ("d", 6))),
            PutFile("files", "2024-03-04", "s2", (("b", 21), ("c", 23), ("b", 26))),
            LookAtFiles("files"),
            Settle(),
            PutFile("files", "2024-03-04", "s2", None),
            LookAtFiles("files", told="lost"),
            RemoveFile("files", "2024-03-04", "s2"),
        ),
    ),
    "a person is asked again about what a job does once it may take more": History(
        (APPEND,),
        (
            JobSpec(
                "j2",
                "keep",
                "sql",
                ("append",),
                "t2",
                factor=2,
                poison=6,
                mode="microbatch",
                max_changes=2,
                on_error="stop",
            ),
            JobSpec("j3", "map", "run", ("t2",), "x3", mode="batch", max_changes=5, hold_above=2),
        ),
        (
            Emit("append", (("c", 6, 0),)),
            Emit("append", (("a", 12, 0),), told="lost"),
            Emit("append", (("d", 13, -600),), told="twice"),
            Define(JobSpec("j2", "keep", "sql", ("append",), "t2", factor=2, poison=6, when="any", max_changes=1)),
        ),
    ),
}


@pytest.mark.parametrize("promise", HISTORIES)
def test_a_promise_that_was_once_broken_is_kept(promise: str) -> None:
    assert play(HISTORIES[promise]) == ""
