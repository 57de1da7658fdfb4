"""Worker processes: a function runs where it can be killed, and where it shares no interpreter with anyone.

Rules of this file:
  * a worker is a fresh Python, not a fork; it is sent the source that was loaded, not a path to be read again, so an
    old version of a job keeps running its old code;
  * one call at a time and worker; idle workers are kept and end by themselves when we are gone;
  * a worker that died in the middle is the function's failure (`WorkerDied`), one that took too long is killed.

Messages are pickled tuples between two processes of ours; tables cross as Arrow IPC bytes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from tidemill.core.errors import UserError
from tidemill.core.model import Column
from tidemill.engines.python.apply import Applied, Failure
from tidemill.engines.python.definition import Definition
from tidemill.engines.python.run import Run

__all__ = ["FunctionRaised", "ProcessTimedOut", "WorkerDied", "Workers", "packed", "unpacked"]

IDLE_MAX = 4
"""Idle worker processes that are kept."""


class FunctionRaised(Exception):
    """What a function raised in a worker: its type and message, with the worker's traceback as a note."""


class WorkerDied(Exception):
    """The process of a function ended in the middle of a call."""


class ProcessTimedOut(Exception):
    """A worker did not answer in time and was killed."""


def packed(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unpacked(data: bytes) -> pa.Table:
    """The table of Arrow IPC bytes."""
    return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


class _Worker:
    """One process and our end of the line to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tidemill.engines.python.worker", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        self._line = Connection(ours.detach())

    def send(self, message: tuple[Any, ...]) -> None:
        """Say something to the worker."""
        try:
            self._line.send_bytes(pickle.dumps(message))
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied(self._ending()) from None

    def receive(self, deadline: float | None) -> tuple[Any, ...]:
        """What the worker says next."""
        waits = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            if not self._line.poll(waits):
                raise ProcessTimedOut
            message: tuple[Any, ...] = pickle.loads(self._line.recv_bytes())  # noqa: S301 - from our own process
        except (EOFError, ConnectionResetError):
            raise WorkerDied(self._ending()) from None
        return message

    def _ending(self) -> str:
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"the process of the function ended with {how}"

    def kill(self) -> None:
        """End the process and all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._line.close()


class Workers:
    """Worker processes, made when needed and used again."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def apply(
        self,
        definition: Definition,
        kind: str,
        tables: Sequence[pa.Table],
        outputs: Sequence[str],
        columns: Sequence[Column],
        *,
        deadline: float | None,
    ) -> Applied:
        """Call the function on tables (`rows`, `keys` or `tables`) and give back what it made of them."""
        request = (kind, _code(definition), [packed(table) for table in tables], tuple(outputs), tuple(columns))
        results, failures, succeeded = self._talk(request, None, deadline)
        return Applied([unpacked(data) for data in results], [Failure(*each) for each in failures], succeeded)

    def run(self, definition: Definition, run: Run, deadline: float | None) -> None:
        """Call the function with a run; what the run is asked is answered from here."""
        said = (run.id, run.job, run.output, run.inputs, run.idempotency_key, run.attempt, run.value)
        described = (*said, run.traceparents)
        request = ("run", _code(definition), described)
        self._talk(request, run, deadline)

    def close(self) -> None:
        """End all idle workers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    def _talk(self, request: tuple[Any, ...], run: Run | None, deadline: float | None) -> Any:
        """One request and its answer; the questions in between are the run's."""
        worker = self._take()
        is_well = False
        try:
            worker.send(request)
            while True:
                word, *said = worker.receive(deadline)
                if word == "said":
                    sys.stderr.write(f"{said[0]}\n")  # into the run's log, where this run is captured
                    continue
                if word in ("done", "raised", "refused"):
                    is_well = True
                    return _answer(word, said)
                worker.send(_reply(word, said, run))
        finally:
            self._give_back(worker) if is_well else worker.kill()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
        return _Worker()

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(worker)
                return
        worker.kill()


def _code(definition: Definition) -> tuple[str, bytes, str, str]:
    assert definition.origin is not None
    path, content, folder = definition.origin
    return str(path), content, str(folder), definition.name


def _reply(word: str, said: list[Any], run: Run | None) -> tuple[Any, ...]:
    """The answer to a question that the function asked its run."""
    if run is None:
        return ("raised", f"a question nobody expected: {word}")
    if word == "log":
        run.log(*said)
        return ("done",)
    try:
        return ("done", packed(run.read(*said)))
    except Exception as error:  # noqa: BLE001 - it is raised again in the worker
        return ("raised", f"{type(error).__name__}: {error}")


def _answer(word: str, said: list[Any]) -> Any:
    if word == "done":
        return said[0] if said else None
    if word == "refused":
        message, mend = said
        raise UserError(message, mend=mend)
    name, message, trace = said
    error = FunctionRaised(f"{name}: {message}".rstrip(": "))
    error.add_note(trace)
    raise error
