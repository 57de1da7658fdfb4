"""Python jobs: the files of `jobs/`, run once each to see which definitions they leave behind.

Rules of this file:
  * a file is loaded from its path under a private module name that holds its content's hash: two versions of a file
    can live side by side, and nothing can import one by accident;
  * what counts are the definitions among the file's names; those it imported from elsewhere count once;
  * a file that raises is one problem with its file and line; the other files still load;
  * the project's folder is on the import path, so that jobs may share code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Job, Place
from tidemill.engines.python import Declaration, Definition, aside
from tidemill.project.assets import columns_of
from tidemill.project.identity import Draft, own_source
from tidemill.project.returned import misnamed
from tidemill.project.words import fields

__all__ = ["PythonFile", "built", "read_all", "read_file"]


@dataclass(frozen=True, slots=True)
class PythonFile:
    """What a Python file leaves behind."""

    file: str
    jobs: tuple[Definition, ...]
    assets: tuple[Declaration, ...]


def read_all(folder: Path, problems: list[DefinitionError]) -> Iterator[PythonFile]:
    """Every Python file below `jobs/` (names that begin with `_` are only for importing)."""
    seen: set[int] = set()
    for path in sorted((folder / "jobs").rglob("*.py")):
        if not path.name.startswith("_"):
            try:
                found = read_file(path, folder)
            except DefinitionError as error:
                problems.append(error)
                continue
            yield replace(found, jobs=tuple(job for job in found.jobs if id(job) not in seen))
            seen |= {id(job) for job in found.jobs}


def read_file(path: Path, folder: Path) -> PythonFile:
    """Load one file. Raises DefinitionError naming file and line where it raises anything."""
    file = path.relative_to(folder).as_posix()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    content = path.read_bytes()
    module = _loaded(path, content, file)
    _refuse_dropped(content, file)
    values = list({id(value): value for value in vars(module).values()}.values())
    jobs = tuple(value for value in values if isinstance(value, Definition))
    for job in jobs:
        job.origin = job.origin or (path, content, folder)
    return PythonFile(
        file,
        jobs,
        tuple(value for value in values if isinstance(value, Declaration)),
    )


def _loaded(path: Path, content: bytes, file: str) -> ModuleType:
    name = f"_tidemill_{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DefinitionError("this is not a Python file", place=file, mend="give it a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with aside():  # stdout is the answer's alone
            exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own file
    except DefinitionError as error:
        del sys.modules[name]
        place = error.place or str(Place(file, _line(error, path)))
        raise DefinitionError(error.message, place=place, mend=error.mend) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _raised(error, path, file) from error
    return module


def _raised(error: BaseException, path: Path, file: str) -> DefinitionError:
    """The problem that an exception of a file is: at the deepest line of that file."""
    message = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    return DefinitionError(
        message, place=str(Place(file, _line(error, path))), mend="mend the file; the other files are loaded"
    )


def _line(error: BaseException, path: Path) -> int:
    """The deepest line of the file that an exception came by; 0 where it did not."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else 0
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno or line
    return line or 0


def _refuse_dropped(content: bytes, file: str) -> None:
    """A declaration that no name keeps would be lost without a word."""
    for node in ast.parse(content).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if word in ("asset", "topic"):
                raise DefinitionError(
                    f"{word}(...) declares an asset that no name keeps",
                    place=str(Place(file, node.lineno)),
                    mend=f"give it a name: orders = tm.{word}(...)",
                )


def built(
    definition: Definition,
    file: str,
    folder: Path,
    overrides: Mapping[str, object],
    override_place: Callable[[str], Place],
) -> tuple[Draft | None, list[DefinitionError]]:
    """The job of a definition under the overrides of tidemill.toml, and what is wrong with it."""
    place = _in_project(definition.place, folder)
    problems: list[DefinitionError] = []

    def wrong(message: str, mend: str, word: str = "") -> None:
        where = override_place(word) if word in overrides else place
        problems.append(DefinitionError(f"job {definition.name}: {message}", place=str(where), mend=mend))

    try:
        takes = definition.takes
    except DefinitionError as error:
        return None, [DefinitionError(error.message, place=str(place), mend=error.mend)]
    for line, what in () if takes.is_outside else misnamed(definition.function, definition.outputs):
        listed = ", ".join(definition.outputs)
        message = f"job {definition.name} writes {listed}, and this returns {what}"
        named = ", ".join(f"'{name}': ..." for name in definition.outputs)
        mend = f"return {{{named}}}: for each output its rows"
        problems.append(DefinitionError(message, place=str(replace(place, line=line)), mend=mend))
    found, misread = fields({**definition.words, **overrides}, is_outside=takes.is_outside)
    for one in misread:
        wrong(one.message, one.mend, one.word)
    try:
        columns = columns_of(definition.columns)
    except ValueError as error:
        wrong(f"columns: {error}", "mend columns")
        columns = ()
    if problems:
        return None, problems
    job = Job(
        name=definition.name,
        inputs=definition.inputs,
        outputs=definition.outputs,
        takes=takes,
        transform=f"{file}:{definition.function.__qualname__}",
        version="",
        by=definition.by,
        columns=columns,
        place=place,
        **found,
    )
    return Draft(job, own_source(definition.function), definition.version, definition), []


def _in_project(place: Place, folder: Path) -> Place:
    path = Path(place.file)
    return Place(path.relative_to(folder).as_posix(), place.line) if path.is_relative_to(folder) else place
