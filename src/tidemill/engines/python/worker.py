"""The other side of a worker process: `python -m tidemill.engines.python.worker FD`.

Rules of this file:
  * it answers requests one at a time until the line closes, then it ends: it outlives nobody;
  * a file's source is loaded once per content, under a name of its own;
  * whatever a function raises is an answer, not the end; what it prints is said as it comes.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import pyarrow as pa

from tidemill.core.errors import UserError
from tidemill.engines.python.apply import apply_keys, apply_rows, apply_tables
from tidemill.engines.python.capture import captured
from tidemill.engines.python.definition import Definition
from tidemill.engines.python.process import packed, unpacked
from tidemill.engines.python.run import Run

__all__ = ["serve"]

Code = tuple[str, bytes, str, str]


class _Line:
    """Our end of the line."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message)
        with self._sending:  # threads of a function print too
            self._connection.send_bytes(data)

    def receive(self) -> tuple[Any, ...]:
        message: tuple[Any, ...] = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - from our own parent
        return message

    def ask(self, *question: Any) -> Any:
        """Ask the parent; raises RuntimeError where it says no."""
        self.send(*question)
        word, *said = self.receive()
        if word != "done":
            raise RuntimeError(*said)
        return said[0] if said else None


def serve(connection: Connection) -> None:
    """Answer requests until the line closes."""
    line = _Line(connection)
    while True:
        try:
            kind, code, *rest = line.receive()
        except EOFError:
            return
        try:
            with captured(lambda text: line.send("said", text)):
                answer = _answer(line, kind, code, rest)
        except UserError as error:
            line.send("refused", error.message, error.mend)
        except BaseException as error:  # noqa: BLE001 - also what a function raises to leave
            line.send("raised", type(error).__name__, str(error), traceback.format_exc())
        else:
            line.send("done", answer)


def _answer(line: _Line, kind: str, code: Code, rest: list[Any]) -> Any:
    if kind != "run":
        return _apply(kind, code, *rest)
    _run(line, code, *rest)
    return None


def _apply(kind: str, code: Code, tables: list[bytes], outputs: tuple[str, ...], columns: tuple[Any, ...]) -> Any:
    function = _function(*code)
    given = [unpacked(data) for data in tables]
    if kind == "rows":
        applied = apply_rows(function, given[0], outputs, columns)
    elif kind == "keys":
        applied = apply_keys(function, given[0], outputs, columns)
    else:
        applied = apply_tables(function, given, outputs, columns)
    failures = [(failure.index, failure.reason) for failure in applied.failures]
    return [packed(table) for table in applied.tables], failures, applied.succeeded


def _run(line: _Line, code: Code, described: tuple[Any, ...]) -> None:
    run, job, output, inputs, key, attempt, value, traces = described

    def read(asset: str, images: str) -> pa.Table:
        return unpacked(line.ask("read", asset, images))

    def log(text: str) -> None:
        line.ask("log", text)

    given = Run(run, job, output, inputs, read, key=key, attempt=attempt, value=value, log=log, traceparents=traces)
    _function(*code)(given)


_loaded: dict[str, ModuleType] = {}


def _function(path: str, content: bytes, folder: str, name: str) -> Definition:
    """The definition of that name in a file's source."""
    module = _module(path, content, folder)
    for value in vars(module).values():
        if isinstance(value, Definition) and value.name == name:
            return value
    raise UserError(f"there is no job {name} in {path}")


def _module(path: str, content: bytes, folder: str) -> ModuleType:
    mark = hashlib.sha256(path.encode() + content).hexdigest()[:16]
    if mark not in _loaded:
        if folder not in sys.path:
            sys.path.append(folder)
        module = ModuleType(f"_tidemill_worker_{mark}")
        module.__file__ = path
        sys.modules[module.__name__] = module
        exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102 - the user's own file, as it was loaded
        _loaded[mark] = module
    return _loaded[mark]


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
