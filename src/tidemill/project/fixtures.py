"""Fixtures: what is given, what is expected, and whether a project makes the one of the other in all three modes.

Rules of this file:
  * a fixture is `fixtures/NAME.toml`; it never sees the project's state: each is run in a copy without it;
  * a mode decides how the given rows arrive: realtime one by one with a run after each, microbatch in two halves, batch
    all at once. The result must be the same, so a fixture says nothing of modes;
  * only the columns that an expected row names are compared; rows are compared as a multiset.

    [given.departures]                         a topic: rows, or file = "departures.ndjson" (beside the fixture)
    rows = [{ flight_id = "UA1", carrier = "UA", delay = 4 }]
    [[given.weather]]                          files: each lands `to` that place, from `file` or from `text`
    to = "landing/weather/EWR/2013-01-01.csv"
    text = "hour,temp\\n1,39.0\\n"
    [given.end_of_day]                         an external asset: it changed
    version = "2013-01-01"
    [expect.delay_by_carrier]
    rows = [{ carrier = "UA", flights = 1 }]
"""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from tidemill.core.errors import DefinitionError, NotFound, TidemillError
from tidemill.core.model import Mode
from tidemill.project.mill import open_mill
from tidemill.project.operations import Operations

__all__ = ["FOLDER", "Difference", "Fixture", "Verdict", "read_fixtures", "verdicts"]

FOLDER = "fixtures"
_NOT_COPIED = (".tidemill", ".git", ".venv", "__pycache__", FOLDER)
_WORDS = {"rows", "file", "text", "to", "version"}


@dataclass(frozen=True, slots=True)
class Fixture:
    """What is given, in its order, and what is expected."""

    name: str
    given: tuple[tuple[str, Mapping[str, Any]], ...]
    expected: Mapping[str, tuple[Mapping[str, Any], ...]]
    folder: Path


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows that were expected and not there, and rows that were there and not expected."""

    asset: str
    missing: list[Any]
    extra: list[Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one fixture in one mode."""

    fixture: str
    mode: str
    differences: list[Difference] = field(default_factory=list)
    error: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether all was as expected."""
        return not self.differences and not self.error


# ---------------------------------------------------------------------------------------------- reading


def read_fixtures(project: Path, names: Sequence[str] = ()) -> list[Fixture]:
    """The fixtures of a project, or those named. Raises NotFound where there are none."""
    folder = project / FOLDER
    found = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    for name in names:
        if name not in found:
            known = ", ".join(found) or "none"
            raise NotFound(f"there is no fixture {name}", place=FOLDER, mend=f"the fixtures are: {known}")
    if not found:
        raise NotFound(
            "there are no fixtures", place=FOLDER, mend=f"write {FOLDER}/NAME.toml: see tidemill test --help"
        )
    return [_read(path) for name, path in found.items() if not names or name in names]


def _read(path: Path) -> Fixture:
    place = f"{FOLDER}/{path.name}"
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(f"this is not TOML: {error}", place=place) from error
    unknown = sorted(said.keys() - {"given", "expect", "description"})
    if unknown:
        raise DefinitionError(f"unknown table {unknown[0]}", place=place, mend="write [given.ASSET] or [expect.ASSET]")
    given = tuple((asset, _checked(asset, step, place)) for asset, step in _steps(said.get("given", {})))
    expected = {asset: _expected(asset, wanted, place) for asset, wanted in said.get("expect", {}).items()}
    if not expected:
        raise DefinitionError("it expects nothing", place=place, mend="write [expect.ASSET] rows = [{...}]")
    return Fixture(path.stem, given, expected, path.parent)


def _steps(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for asset, said in given.items():
        yield from ((asset, step) for step in (said if isinstance(said, list) else [said]))


def _checked(asset: str, step: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(step, dict) or not step or step.keys() - _WORDS:
        mend = f"the words are {', '.join(sorted(_WORDS))}"
        raise DefinitionError(f"given.{asset} is not understood", place=place, mend=mend)
    if not isinstance(step.get("rows", []), list):
        raise DefinitionError(f"given.{asset}: rows is not a list", place=place, mend="write rows = [{...}]")
    return step


def _expected(asset: str, wanted: Any, place: str) -> tuple[Mapping[str, Any], ...]:
    rows = wanted.get("rows") if isinstance(wanted, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DefinitionError(f"expect.{asset} has no rows", place=place, mend="write rows = [{...}], or rows = []")
    return tuple(rows)


# ---------------------------------------------------------------------------------------------- running


def verdicts(project: Path, fixtures: Sequence[Fixture], env: str = "") -> Iterator[Verdict]:
    """Run each fixture in each mode."""
    for fixture in fixtures:
        for mode in Mode:
            yield _verdict(project, fixture, mode, env)


def _verdict(project: Path, fixture: Fixture, mode: Mode, env: str) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="tidemill-test-") as held:
        copy = Path(held) / project.resolve().name
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        (copy / ".tidemill").mkdir()
        try:
            with open_mill(copy, env, mode="run") as mill:
                failed = _perform(fixture, mode, mill, copy)
                differences = list(_differences(fixture, mill))
        except TidemillError as error:
            return Verdict(fixture.name, mode, error=str(error))
    return Verdict(fixture.name, mode, differences, failed)


def _perform(fixture: Fixture, mode: Mode, mill: Operations, copy: Path) -> str:
    """Give what is given, as the mode has it; returns why a run failed, or ""."""
    for job in mill.map():
        mill.mode(job["job"], mode)
    failed = 0
    for asset, step in fixture.given:
        for part in _parts(step, mode, fixture.folder):
            _give(mill, asset, part, copy)
            if mode is not Mode.BATCH:
                failed += mill.run()["failed"]
    failed += mill.run()["failed"]
    failed += _run_scheduled(fixture, mill)
    errors = [f"{run['job']}: {run['error']}" for run in mill.runs(state="failed", limit=3)] if failed else []
    return "; ".join(errors)


def _run_scheduled(fixture: Fixture, mill: Operations) -> int:
    """Run the jobs that made nothing yet because their hour has not come: a fixture does not wait for clocks."""
    heads = {asset["asset"]: asset["head"] for asset in mill.status()["assets"]}
    waiting = [job["job"] for job in mill.map() if not any(heads.get(name) for name in job["outputs"])]
    return sum(int(mill.run([job], force=True)["failed"]) for job in waiting) if fixture.expected else 0


def _parts(step: Mapping[str, Any], mode: Mode, folder: Path) -> Iterator[Mapping[str, Any]]:
    """The pieces in which a step arrives."""
    rows = step.get("rows")
    if rows is None and "to" not in step and "file" in step:
        rows = [
            json.loads(line) for line in _beside(folder, step["file"]).read_text("utf-8").splitlines() if line.strip()
        ]
    if rows is None:
        text = _beside(folder, step["file"]).read_bytes() if "file" in step else str(step.get("text", "")).encode()
        yield {**step, "bytes": text}
        return
    size = {Mode.REALTIME: 1, Mode.MICROBATCH: -(-len(rows) // 2)}.get(mode, len(rows)) or 1
    yield from ({**step, "rows": rows[begin : begin + size]} for begin in range(0, len(rows), size))


def _beside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise NotFound(f"there is no file {name}", place=FOLDER, mend="name a file beside the fixture")
    return path


def _give(mill: Operations, asset: str, part: Mapping[str, Any], copy: Path) -> None:
    if "rows" in part:
        lines = (json.dumps({name: _plain(value) for name, value in row.items()}) for row in part["rows"])
        mill.emit(asset, "".join(f"{line}\n" for line in lines).encode())
    elif "to" in part:
        target = (copy / part["to"]).resolve()
        if not target.is_relative_to(copy.resolve()):
            raise DefinitionError(f"given.{asset}: {part['to']} is outside the project", mend="write a path inside it")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(part["bytes"])
    else:
        mill.touch(asset, str(part.get("version", "")))


# -------------------------------------------------------------------------------------------- comparing


def _differences(fixture: Fixture, mill: Operations) -> Iterator[Difference]:
    for asset, expected in fixture.expected.items():
        columns = list(dict.fromkeys(name for row in expected for name in row))
        quoted = '"' + asset.replace('"', '""') + '"'
        actual = [{name: row.get(name) for name in columns or row} for row in mill.query(f"select * from {quoted}")]
        wanted = [{name: _plain(row.get(name)) for name in columns} for row in expected]
        missing, extra = _only(wanted, actual), _only(actual, wanted)
        if missing or extra:
            yield Difference(asset, missing, extra)


def _only(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows that the others lack, as often as they do."""
    left = Counter(_canonical(row) for row in others)
    found = []
    for row in rows:
        text = _canonical(row)
        if left[text]:
            left[text] -= 1
        else:
            found.append(dict(row))
    return found


def _canonical(row: Mapping[str, Any]) -> str:
    """A row such that values that mean the same are the same: 1, 1.0 and "1.00"; a time with a T or a blank."""
    return json.dumps({name: _meaning(value) for name, value in row.items()}, sort_keys=True, default=str)


def _meaning(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True, default=str)
    text = str(value)
    try:
        return f"number {Decimal(text).normalize():f}"
    except InvalidOperation:
        pass
    try:
        return f"time {datetime.fromisoformat(text).isoformat()}"
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return {name: _plain(inner) for name, inner in value.items()} if isinstance(value, dict) else value
