"""Fields that events carry and their topic does not declare: kept in the event, seen by no job, so a typo would pass.

Rules of this file:
  * nothing is refused or changed here; it is told once where it was sent, and in `status` while it is so;
  * of a batch the first `LINES_MAX` events are looked at, so that a door at full speed pays nothing it could measure;
  * a topic without columns takes anything, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

from tidemill.core.model import Asset
from tidemill.core.schema import Policy, policy_of

__all__ = ["LINES_MAX", "Undeclared", "told"]

LINES_MAX = 100
"""So many of the first events of a batch are looked at."""

TOPIC = "undeclared"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Notes(Protocol):
    """Where it is kept what was found."""

    def note(self, topic: str, name: str, value: Any) -> None: ...
    def notes(self, topic: str) -> dict[str, Any]: ...


class Undeclared:
    """The undeclared fields seen so far, by topic; kept in the ledger when a new one comes."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._seen: dict[str, set[str]] = {name: set(fields) for name, fields in notes.notes(TOPIC).items()}

    def look(self, topic: Asset, events: bytes, lines_max: int = LINES_MAX) -> list[str]:
        """The undeclared fields in the first of these events (NDJSON)."""
        declared = {column.name for column in topic.columns}
        if not declared or policy_of(topic) is not Policy.IGNORE:
            return []
        declared |= {topic.id, topic.version, topic.event_time, "_deleted", *topic.key}
        found = dict.fromkeys(
            name for line in _first(events, lines_max) for name in _names(line) if name not in declared
        )
        if not found.keys() <= self._seen.get(topic.name, set()):
            self._seen.setdefault(topic.name, set()).update(found)
            self._notes.note(TOPIC, topic.name, sorted(self._seen[topic.name]))
        return list(found)

    def standing(self, topics: Mapping[str, Asset]) -> Iterator[tuple[str, str]]:
        """Each topic with what to say of it, whose events carried fields that it still does not declare."""
        for name, fields in self._seen.items():
            topic = topics.get(name)
            declared = {column.name for column in topic.columns} if topic is not None else set()
            leaves_out = topic is not None and policy_of(topic) is Policy.IGNORE
            left = [each for each in sorted(fields) if leaves_out and declared and each not in declared]
            if topic is not None and left:
                yield name, told(topic, left)


def told(topic: Asset, fields: list[str]) -> str:
    """One sentence about undeclared fields, with the column that may have been meant."""
    declared = [column.name for column in topic.columns]
    near = {each: get_close_matches(each, declared, 1, 0.7) for each in fields}
    listed = ", ".join(f"{each} (did you mean {near[each][0]}?)" if near[each] else each for each in fields[:10])
    more = f" and {len(fields) - 10} more" if len(fields) > 10 else ""
    return f"events of {topic.name} carry what it does not declare: {listed}{more}; it stays in the event, and no job sees it"


def _first(events: bytes, lines_max: int) -> list[bytes]:
    return events.split(b"\n", lines_max)[:lines_max]


def _names(line: bytes) -> list[str]:
    try:
        return list(_fields(line)) if line.strip() else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []  # the door says what is wrong with it
