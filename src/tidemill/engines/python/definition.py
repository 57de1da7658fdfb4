"""`@job`, `asset` and `topic`: what a Python file says, kept as it was said.

Rules of this file:
  * a decorator returns a definition and registers nothing anywhere; the loader finds it in the file's names;
  * a definition is still the function: calling it calls the function, so a unit test needs no tidemill;
  * words are kept as written; the project room reads them with the same table as SQL headers and tidemill.toml;
  * no library is imported here: what a function takes is told by the names of its annotations.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Place, Takes

__all__ = ["AssetWords", "Declaration", "Definition", "JobWords", "asset", "job", "topic"]

Function = Callable[..., Any]
Names = str | Sequence[str]

_ROW_TYPES = ("dict", "Dict", "Mapping", "MutableMapping", "Row")
_TABLE_TYPES = ("pa.Table", "pyarrow.Table", "Table", "pa.RecordBatch", "pyarrow.RecordBatch", "pyarrow.lib.Table")
_RUN_TYPES = ("tm.Run", "tidemill.Run", "Run")
_TAKES = (Takes.ROW, Takes.TABLE, Takes.FULL, Takes.RUN)


class JobWords(TypedDict, total=False):
    """What `@job` may say besides its inputs and outputs; the values are those of a SQL header."""

    mode: str
    key: Names
    when: str
    schedule: str
    every: str
    on: str
    after: str
    gate: str
    deadline: str
    on_missing: str
    on_late: str
    on_error: str
    retries: int
    timeout: str
    isolation: str
    max_changes: int
    priority: int
    freshness: str
    start_from: str
    hold_above: int
    assert_: Names
    reconcile: str
    compare: str
    description: str
    owner: str
    tags: Names


class AssetWords(TypedDict, total=False):
    """What `asset` may say; the values are those of `[assets.x]` in tidemill.toml."""

    key: Names
    event_time: str
    id: str
    semantics: str
    version: str
    path: str
    format: str
    complete: Mapping[str, Names]
    restate: str
    on_delete: str
    marker: str
    every: str
    dedup_window: str
    freshness: str
    description: str
    owner: str
    tags: Names


class Definition:
    """A job as a Python file defines it, and still the function it was made of."""

    def __init__(self, function: Function, said: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = said["name"] or function.__name__
        self.inputs: tuple[str, ...] = _names(said["inputs"])
        self.outputs: tuple[str, ...] = _names(said["outputs"])
        self.columns: Mapping[str, Any] = said["columns"] or {}
        self.version: str = said["version"]
        self.words: Mapping[str, object] = {word.rstrip("_"): value for word, value in said["words"].items()}
        self.by: tuple[str, ...] = _names(said["by"])
        self.said_takes: str = said["takes"]
        self.origin: tuple[Path, bytes, Path] | None = None
        """The file, its content as it was loaded, and the project's folder: set by the loader."""
        self.place = Place(function.__code__.co_filename, _first_line(function))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function itself."""
        return self.function(*arguments, **named)

    def __repr__(self) -> str:
        return f"<tidemill job {self.name}: {', '.join(self.inputs)} -> {', '.join(self.outputs)}>"

    @property
    def takes(self) -> Takes:
        """What the function is given: as said, else by its annotations. Raises DefinitionError where neither tells.

        With `by` it is a table, of the rows of one key. A function that gives no result when it is called is refused too.
        """
        _refuse_deferred(self)
        if self.by:
            return _keyed_takes(self)
        return _said_takes(self) if self.said_takes else _annotated_takes(self)


class Declaration:
    """An asset as a Python file declares it."""

    def __init__(self, name: str, said: Mapping[str, Any], place: Place) -> None:
        self.name = name
        self.said = {word: value for word, value in said.items() if value is not None}
        self.place = place

    def __repr__(self) -> str:
        return f"<tidemill asset {self.name}>"


def job(
    bare: Function | None = None,
    /,
    *,
    inputs: Names = (),
    output: str = "",
    outputs: Names = (),
    takes: str = "",
    by: Names = (),
    name: str = "",
    columns: Mapping[str, Any] | None = None,
    version: str = "",
    **words: Unpack[JobWords],
) -> Callable[[Function], Definition]:
    """Define a job: when an input changes, the function computes the output (default: the function's name).

    `takes` is row, table, full or run; without it the annotations decide: `dict` is row, one `pa.Table` is table,
    several are full, `tm.Run` is run. `by` names columns of the input: the function is called for each of their values whose
    rows changed, with a `pa.Table` of all current rows of that value, and what it returns (a table, dicts, a dict or None)
    takes the place of what it returned for that value before. `columns` are the output's, as DuckDB type names. `version` is your own mark for
    what the function's source does not show, such as a model file. Raises DefinitionError without inputs.
    """
    if bare is not None or not _names(inputs):
        raise DefinitionError("@tm.job does not say what the job reads", mend='write @tm.job(inputs="ASSET")')

    def define(function: Function) -> Definition:
        written = _names(output) + _names(outputs) or (name or function.__name__,)
        said = {
            "name": name,
            "inputs": inputs,
            "outputs": written,
            "takes": takes,
            "by": by,
            "columns": columns,
            "version": version,
            "words": words,
        }
        return Definition(function, said)

    return define


def asset(
    name: str, kind: str, *, columns: Mapping[str, Any] | None = None, **words: Unpack[AssetWords]
) -> Declaration:
    """Declare an asset in a Python file; keep the result under a name, the loader looks there."""
    return Declaration(name, {"kind": kind, "columns": columns, **words}, _caller())


def topic(name: str, *, columns: Mapping[str, Any] | None = None, **words: Unpack[AssetWords]) -> Declaration:
    """Declare a topic in a Python file; keep the result under a name, the loader looks there."""
    return Declaration(name, {"kind": "topic", "columns": columns, **words}, _caller())


def _caller() -> Place:
    frame = sys._getframe(2)
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _names(value: Names) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else tuple(value)


def _first_line(function: Function) -> int:
    """The line of `def`, below the decorators."""
    first: int = function.__code__.co_firstlineno
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return first
    return next(
        (start + index for index, line in enumerate(lines) if line.lstrip().startswith(("def ", "async "))), first
    )


def _refuse_deferred(definition: Definition) -> None:
    """Calling one of these runs nothing: it gives a coroutine or a generator."""
    function, name = definition.function, definition.name
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        message = f"job {name} is an async function, and a job's function is called and its result taken"
        mend = f"write def {function.__name__}(...), and inside it asyncio.run(...) for what is async"
    elif inspect.isgeneratorfunction(function):
        message = f"job {name} yields its rows, and a job's function returns them"
        mend = "collect them in a list and return it"
    else:
        return
    raise DefinitionError(message, place=str(definition.place), mend=mend)


def _said_takes(definition: Definition) -> Takes:
    said = definition.said_takes
    if said not in [str(takes) for takes in _TAKES]:
        raise _wrong_takes(definition, f"takes={said!r} is not one of row, table, full, run")
    return Takes(said)


def _keyed_takes(definition: Definition) -> Takes:
    """A function by key takes a table; whatever else is said of it contradicts that."""
    by = ", ".join(definition.by)
    mend = (
        f"give the function one argument, rows: pa.Table (all rows of one {by}), and leave takes out; or leave by out"
    )
    if len(set(definition.by)) != len(definition.by):
        raise DefinitionError(f"by names a column twice: {by}", place=str(definition.place), mend="name each once")
    if definition.said_takes and _said_takes(definition) is not Takes.TABLE:
        message = (
            f"by={by!r} and takes={definition.said_takes!r} contradict each other: by key a function takes a table"
        )
        raise DefinitionError(message, place=str(definition.place), mend=mend)
    parameters = list(inspect.signature(definition.function).parameters.values())
    kinds = [_kind_of(parameter.annotation) for parameter in parameters]
    if len(kinds) != 1 or kinds[0] not in (None, Takes.TABLE):
        message = f"{definition.name} is called by {by}, so it takes one table, and its arguments say otherwise"
        raise DefinitionError(message, place=str(definition.place), mend=mend)
    return Takes.TABLE


def _annotated_takes(definition: Definition) -> Takes:
    parameters = list(inspect.signature(definition.function).parameters.values())
    if not parameters:
        raise _wrong_takes(definition, f"{definition.name} takes no argument")
    kinds = [_kind_of(parameter.annotation) for parameter in parameters]
    if len(kinds) == 1 and kinds[0] is not None:
        return kinds[0]
    if len(kinds) > 1 and set(kinds) == {Takes.TABLE}:
        return Takes.FULL
    raise _wrong_takes(definition, f"the annotations of {definition.name} do not tell what it takes")


def _wrong_takes(definition: Definition, message: str) -> DefinitionError:
    return DefinitionError(
        message,
        place=str(definition.place),
        mend="annotate the argument (dict, pa.Table or tm.Run), or say takes='row', 'table', 'full' or 'run'",
    )


def _kind_of(annotation: object) -> Takes | None:
    """What one annotation says; it may be a type, a generic, or their text."""
    name = annotation if isinstance(annotation, str) else _type_name(annotation)
    name = name.partition("[")[0].strip()
    if name in _RUN_TYPES or name.endswith(".Run"):
        return Takes.RUN
    if name in _TABLE_TYPES or name.endswith((".Table", ".RecordBatch")):
        return Takes.TABLE
    return Takes.ROW if name.rpartition(".")[2] in _ROW_TYPES else None


def _type_name(annotation: object) -> str:
    origin = getattr(annotation, "__origin__", annotation)
    return f"{getattr(origin, '__module__', '')}.{getattr(origin, '__qualname__', '')}"
