"""SQL jobs: one file a job, its name the file's name, its inputs read from the SQL itself.

Rules of this file:
  * a file is looked at once per content: what the look gave is kept in the project's state folder under the hash of
    the text, so a project of ten thousand jobs starts without parsing any;
  * losing or corrupting that cache only costs time: whatever cannot be read is looked at again;
  * views are put into their readers here, so a job's transform stands alone and its inputs are assets with a log;
  * a name in SQL finds its asset whatever its case, as in DuckDB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, AssetKind, Job, Materialized, Place, Takes
from tidemill.project.identity import Draft
from tidemill.project.system import quoting
from tidemill.project.words import WORDS, Wrong, fields
from tidemill.sql.analyse import ANALYSIS_VERSION, Query, analyse_tree
from tidemill.sql.header import parse_header
from tidemill.sql.keys import derive_key
from tidemill.sql.parse import compact, parse
from tidemill.sql.views import expand

__all__ = ["Cache", "Read", "SqlFile", "built", "expanded", "read_all", "written"]

CACHE_FORMAT = f"1/{ANALYSIS_VERSION}"
_WORTH_KEEPING = 100
"""Fewer looks than this are not worth a state folder where there is none yet."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one look at a SQL file gives, whatever the rest of the project says."""

    words: Mapping[str, str]
    lines: Mapping[str, int]
    query: Query
    key: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A SQL file, or a view of tidemill.toml, that has been read."""

    name: str
    file: str
    read: Read
    is_view: bool = False

    def place(self, word: str = "") -> Place:
        """Where a header word stands, or the file."""
        return Place(self.file, self.read.lines.get(word, 0))


class Cache:
    """Looks at SQL texts, kept by content between loads."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: dict[str, Any] = _stored(path)
        self._used: dict[str, Any] = {}

    def read(self, text: str, file: str) -> Read:
        """The look at this text: kept, or made now. Raises DefinitionError."""
        name = hashlib.sha256(text.encode()).hexdigest()
        kept = self._kept.get(name)
        found = _restored(kept) if kept else None
        if found is None:
            found = _look(text, file)
            kept = _plain(found)
        self._used[name] = kept
        return found

    def save(self) -> None:
        """Keep what this load used, if that differs from what is kept; a folder that cannot be written is fine."""
        if self._path is None or self._used.keys() == self._kept.keys():
            return
        if len(self._used) < _WORTH_KEEPING and not self._path.parent.is_dir():
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(".tmp")
            beside.write_bytes(msgspec.json.encode({"format": CACHE_FORMAT, "looks": self._used}))
            beside.replace(self._path)
        except OSError:
            return


def _stored(path: Path | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes()) if path else {}
        looks = found.get("looks", {}) if found.get("format") == CACHE_FORMAT else {}
    except (OSError, msgspec.DecodeError, AttributeError):
        return {}
    return looks if isinstance(looks, dict) else {}


def _look(text: str, file: str) -> Read:
    header = parse_header(text, file)
    tree, text, meaning = compact(quoting(header.body), file, header.body_line)
    query = analyse_tree(tree, file, header.body_line, text, meaning)
    return Read(
        {name: word.value for name, word in header.words.items()},
        {name: word.line for name, word in header.words.items()},
        query,
        derive_key(tree),
    )


def _plain(read: Read) -> dict[str, Any]:
    key = None if read.key is None else list(read.key)
    return {"words": read.words, "lines": read.lines, "query": read.query.to_dict(), "key": key}


def _restored(data: dict[str, Any]) -> Read | None:
    try:
        query = Query.from_dict(data["query"])
        key = None if data["key"] is None else tuple(data["key"])
        return Read(data["words"], data["lines"], query, key) if query else None
    except (KeyError, TypeError, AttributeError):
        return None


def read_all(
    folder: Path, cache: Cache, problems: list[DefinitionError], instead: Mapping[str, str] = {}
) -> Iterator[SqlFile]:
    """Every SQL file below `jobs/`; one that does not read becomes a problem and the others go on.

    `instead` gives texts by file that are read in place of what stands there.
    """
    for path in sorted((folder / "jobs").rglob("*.sql")):
        file = path.relative_to(folder).as_posix()
        try:
            text = instead[file] if file in instead else path.read_text(encoding="utf-8-sig")
            yield SqlFile(path.stem, file, cache.read(text, file))
        except DefinitionError as error:
            problems.append(error)
        except UnicodeDecodeError as error:
            problems.append(
                DefinitionError(f"byte {error.start} is not UTF-8", place=file, mend="save the file as UTF-8")
            )


def expanded(reader: SqlFile, views: Mapping[str, SqlFile]) -> SqlFile:
    """The same file with the views it reads put in; itself where it reads none. `views` are by lower-case name."""
    if not any(name.lower() in views for name in reader.read.query.inputs):
        return reader
    tree = expand(
        parse(reader.read.query.text, reader.file),
        {name: view.read.query.text for name, view in views.items()},
        reader.file,
    )
    text = tree.sql(dialect="duckdb")
    whole, text, meaning = compact(text, reader.file)
    query = analyse_tree(whole, reader.file, 1, text, meaning)
    refusals = reader.read.query.refusals or query.refusals
    return replace(reader, read=replace(reader.read, query=replace(query, refusals=refusals)))


def built(
    sql: SqlFile, overrides: Mapping[str, object], override_place: Callable[[str], Place], assets: Mapping[str, Asset]
) -> tuple[Draft | None, list[DefinitionError]]:
    """The job of a SQL file under the overrides of tidemill.toml, and what is wrong with it.

    `assets` finds the asset that a lower-case name means, for the spelling of inputs.
    """
    said: dict[str, object] = {**sql.read.words, **overrides}
    found, wrong = fields(said, also=("output",))
    problems = [_problem(sql, one, overrides, override_place) for one in wrong]
    problems += [refusal.error(sql.file) for refusal in sql.read.query.refusals]
    if problems:
        return None, problems
    output = str(said.get("output", sql.name)).strip()
    key = found.pop("key", None) or sql.read.key
    inputs = tuple(dict.fromkeys(_spelled(name, assets) for name in sql.read.query.inputs))
    job = Job(
        name=sql.name,
        inputs=inputs,
        outputs=(output,),
        takes=Takes.SQL,
        transform=sql.read.query.text,
        version="",
        key=key,
        place=Place(sql.file, 1),
        **found,
    )
    return Draft(job, sql.read.query.meaning, has_star="star" in sql.read.query.hints), []


def _problem(
    sql: SqlFile, wrong: Wrong, overrides: Mapping[str, object], override_place: Callable[[str], Place]
) -> DefinitionError:
    place = override_place(wrong.word) if wrong.word in overrides else sql.place(wrong.word)
    return DefinitionError(wrong.message, place=str(place), mend=wrong.mend)


def _spelled(name: str, assets: Mapping[str, Asset]) -> str:
    found = assets.get(name.lower())
    return found.name if found else name


def written(folder: Path, job: Job) -> tuple[str, int] | None:
    """The SQL of a job as it stands in its file now, and the line it starts on; None where it is not to be had."""
    if not job.place.file.endswith(".sql"):
        return None
    try:
        header = parse_header((folder / job.place.file).read_text(encoding="utf-8-sig"), job.place.file)
    except (OSError, UnicodeDecodeError, DefinitionError):
        return None
    return quoting(header.body), header.body_line


def is_view(sql: SqlFile, overrides: Mapping[str, object]) -> bool:
    """Whether the file says `materialized: view`."""
    said = overrides.get("materialized", sql.read.words.get("materialized", ""))
    return str(said).strip().lower() == Materialized.VIEW


def view_asset(sql: SqlFile) -> Asset:
    """The asset of a view."""
    said = sql.read.words
    return Asset(
        name=said.get("output", sql.name).strip(),
        kind=AssetKind.VIEW,
        sql=sql.read.query.text,
        description=said.get("description", ""),
        owner=said.get("owner", ""),
        tags=WORDS["tags"].parse(said.get("tags", "")),
        place=Place(sql.file, 1),
    )
