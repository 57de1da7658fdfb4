"""Path patterns: `landing/weather/{origin}/{date}.csv` says which files belong and what their names tell.

Rules of this file:
  * a name in braces matches one or more characters of one path part and becomes a partition column; the same name
    twice must match the same text; `*` and `?` stay within a part, `**` crosses parts;
  * hidden and half-written names never belong: a part that begins with `.`, the marks that Spark leaves, and names that end in `.tmp`,
    `.part`, `.partial`, `.crdownload`, `.filepart`, `.swp` or `~`, unless the pattern itself spells them;
  * matching is text against text: nothing here looks at a disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Pattern", "is_temporary"]

_TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}|(\*\*/?)|(\*)|(\?)|([^{}*?]+|[{}])")
_MARKS = ("_SUCCESS", "_temporary", "_started", "_committed")
_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")


def is_temporary(path: str) -> bool:
    """Whether a path (below the pattern's prefix) is hidden, or still being written, by its name."""
    parts = path.split("/")
    return any(part.startswith(".") or part in _MARKS for part in parts) or parts[-1].lower().endswith(_TEMPORARY)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path pattern: the folder all matches are below, and what a match tells."""

    text: str
    prefix: str
    names: tuple[str, ...]
    regex: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Read a pattern."""
        names: dict[str, None] = {}
        pieces = [_piece(match, names) for match in _TOKEN.finditer(text)]
        return cls(text, _prefix(text), tuple(names), re.compile("".join(pieces)))

    def match(self, path: str) -> Mapping[str, str] | None:
        """What the path tells by its names, or None where it does not belong."""
        found = self.regex.fullmatch(path)
        if found is None:
            return None
        below = path[len(self.prefix) :].lstrip("/")
        spelled = self.text[len(self.prefix) :].lstrip("/")
        if is_temporary(below) and not is_temporary(spelled):
            return None
        return found.groupdict()


def _piece(match: re.Match[str], names: dict[str, None]) -> str:
    name, deep, star, mark, plain = match.groups()
    if name:
        if name in names:
            return f"(?P={name})"
        names[name] = None
        return f"(?P<{name}>[^/]+)"
    if deep:
        return "(?:[^/]+/)*" if deep.endswith("/") else ".*"
    if star:
        return "[^/]*"
    return "[^/]" if mark else re.escape(plain)


def _prefix(text: str) -> str:
    """The whole parts before the first part that can vary; of a path that cannot, the path itself."""
    fixed = re.split(r"[{*?]", text, maxsplit=1)[0]
    return text if fixed == text else fixed.rpartition("/")[0]
