"""tidemill.toml as text: its tables, merged with an environment's overlay, and the line each key stands on.

Rules of this file:
  * nothing here knows what a key means; it reads, merges and remembers places;
  * every error names file and line. `tomllib` tells no lines, so a small scan of the text finds them: it follows table
    headers and the first line of each key, and steps over multi-line strings and arrays.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Place
from tidemill.project.words import nearest

__all__ = ["FILE", "Document", "parse", "read"]

FILE = "tidemill.toml"
_HEADER = re.compile(r"^\s*\[{1,2}\s*(.+?)\s*\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)$"""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_TEXT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'")
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")

Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The merged tables of a project file and where each key stands."""

    tables: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Path_, int] = field(default_factory=dict)
    file: str = FILE

    def place(self, *path: str) -> Place:
        """Where the key stands, or the nearest table around it that has a line."""
        for length in range(len(path), 0, -1):
            if line := self.lines.get(path[:length], 0):
                return Place(self.file, line)
        return Place(self.file)

    def table(self, name: str) -> Mapping[str, Any]:
        """A table at the top, empty where there is none; raises DefinitionError where it is something else."""
        found = self.tables.get(name, {})
        if not isinstance(found, Mapping):
            raise DefinitionError(f"{name} is not a table", place=str(self.place(name)), mend=f"write [{name}]")
        return found


def read(folder: Path, env: str | None = None) -> Document:
    """The project file of a folder (an empty document where there is none)."""
    path = folder / FILE
    if not path.exists():
        return parse("", env)
    try:
        return parse(path.read_text(encoding="utf-8-sig"), env)
    except UnicodeDecodeError as error:
        raise DefinitionError(f"byte {error.start} is not UTF-8", place=FILE, mend="save the file as UTF-8") from None


def parse(text: str, env: str | None = None) -> Document:
    """Read the text and lay the overlay of one environment over it."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(str(error)) from None
    lines = _lines(text)
    overlays = tables.pop("env", {})
    if env:
        overlay = _overlay(overlays, env)
        tables = _merged(tables, overlay)
        lines |= {path[2:]: line for path, line in lines.items() if path[:2] == ("env", env) and len(path) > 2}
    return Document(tables, lines)


def _unreadable(message: str) -> DefinitionError:
    at = _AT_LINE.search(message)
    place = str(Place(FILE, int(at[1]))) if at else FILE
    sentence = _AT_LINE.sub("", message)
    mend = "see https://toml.io for the format"
    if "declare" in sentence or "overwrite" in sentence:
        mend = "a table or key may stand only once: merge the two"
    return DefinitionError(sentence[:1].lower() + sentence[1:], place=place, mend=mend)


def _overlay(overlays: object, env: str) -> Mapping[str, Any]:
    if isinstance(overlays, Mapping) and isinstance(overlays.get(env), Mapping):
        found: Mapping[str, Any] = overlays[env]
        return found
    known = sorted(overlays) if isinstance(overlays, Mapping) else []
    hint = nearest(env, known)
    mend = (
        f"choose {hint}" if hint else f"add [env.{env}.connections...] or choose one of: {', '.join(known) or 'none'}"
    )
    raise DefinitionError(f"there is no environment {env}", place=FILE, mend=mend)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, at any depth; everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _lines(text: str) -> dict[Path_, int]:
    """Every key and table with its line; of a table that others are in, the first of them where it has none itself."""
    found: dict[Path_, int] = {}
    table: Path_ = ()
    lines = enumerate(text.splitlines(), start=1)
    for number, line in lines:
        if header := _HEADER.match(line):
            table = _path(header[1])
            found[table] = number
            path = table
        elif key := _KEY.match(line):
            path = (*table, *_path(key[1]))
            _step_over(key[2], lines)
        else:
            continue
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return found


def _path(dotted: str) -> Path_:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _step_over(value: str, lines: Iterator[tuple[int, str]]) -> None:
    """Consume the lines that a multi-line string or array goes on for."""
    for quotes in ('"""', "'''"):
        if value.count(quotes) % 2:
            next((None for _, line in lines if quotes in line), None)
            return
    depth = _depth(value)
    while depth > 0:
        _, line = next(lines, (0, "]" * depth))
        depth += _depth(line)


def _depth(line: str) -> int:
    bare = _TEXT.sub("", line).partition("#")[0]
    return bare.count("[") - bare.count("]") + bare.count("{") - bare.count("}")
