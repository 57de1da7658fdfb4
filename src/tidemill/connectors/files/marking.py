"""Marks that say a file is complete: a marker beside it, or a manifest that lists it.

Rules of this file:
  * a marker is a file in the same folder: one for all (`_SUCCESS`), or one for each, where `{file}` stands for the
    file's name and `*` for its name with or without its ending (`{file}.done`, `*.done`);
  * a manifest is a file in the same folder with a file name a line; empty lines and those that begin with # count for
    nothing; what it lists is complete once all of it is there, so that a delivery never lands in parts;
  * what is marked is known from the listing, and for manifests from their text: nothing else is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

__all__ = ["is_marked", "listed"]


def is_marked(path: str, there: Container[str], marker: str) -> bool:
    """Whether the marker of a file is there."""
    place = PurePosixPath(path)
    if "{file}" in marker:
        names = [marker.replace("{file}", place.name)]
    elif "*" in marker:
        names = [marker.replace("*", place.name), marker.replace("*", place.stem)]
    else:
        names = [marker] if place.name != marker else []
    return any(_beside(path, name) in there for name in names)


def listed(there: Iterable[str], manifest: str, text_of: Callable[[str], str]) -> set[str]:
    """The files that manifests of this name list, of those manifests whose files are all there."""
    paths = set(there)
    found: set[str] = set()
    for path in paths:
        if fnmatchcase(path.rpartition("/")[2], manifest):
            names = {line.strip() for line in text_of(path).splitlines()}
            files = {_beside(path, name) for name in names if name and not name.startswith("#")}
            found |= files if files <= paths else set()
    return found


def _beside(path: str, name: str) -> str:
    folder = path.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name
