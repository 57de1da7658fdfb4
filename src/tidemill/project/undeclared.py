"""Fields that events carry and their topic does not declare: kept in the event, seen by no job, so a typo would pass.

Rules of this file:
  * nothing is refused or changed here; it is told once where it was sent, and in `status` while it is so;
  * every event is looked at; where none has such a field, which is nearly always, that costs a fraction of a microsecond;
  * what is kept of a topic is bounded: fields whose names are data (one for each customer) would never end;
  * a topic without columns takes anything, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

from tidemill.core.model import Asset
from tidemill.core.schema import Policy, policy_of

__all__ = ["FIELDS_MAX", "Undeclared", "told"]

FIELDS_MAX = 1_000
"""So many undeclared fields of a topic are kept, and told of one batch."""

SHAPES_KEPT = 1_024
"""So many topics are kept ready."""

TOPIC = "undeclared"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Notes(Protocol):
    """Where it is kept what was found."""

    def note(self, topic: str, name: str, value: Any) -> None: ...
    def notes(self, topic: str) -> dict[str, Any]: ...


class Undeclared:
    """The undeclared fields seen so far, by topic; kept in the ledger when a new one comes."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._seen: dict[str, set[str]] = {name: set(fields) for name, fields in notes.notes(TOPIC).items()}
        self._shapes: dict[int, _Shape] = {}

    def look(self, topic: Asset, events: bytes) -> list[str]:
        """The undeclared fields in these events (NDJSON)."""
        found = self.find(topic, events)
        if found:
            self.keep(topic.name, found)
        return found

    def find(self, topic: Asset, events: bytes) -> list[str]:
        """The undeclared fields in these events (NDJSON), of which nothing is kept yet."""
        return self._shape_of(topic).strangers(events)

    def _shape_of(self, topic: Asset) -> _Shape:
        """The shape of this very asset object; assets hold mappings, so they cannot be keys themselves."""
        found = self._shapes.get(id(topic))
        if found is None or found.topic is not topic:
            if len(self._shapes) >= SHAPES_KEPT:
                self._shapes = {}
            found = self._shapes[id(topic)] = _Shape(topic)
        return found

    def keep(self, topic: str, found: Sequence[str]) -> None:
        """Keep for `status` that a topic took events with these fields."""
        seen = self._seen.setdefault(topic, set())
        new = [name for name in found if name not in seen][: max(0, FIELDS_MAX - len(seen))]
        if new:
            seen.update(new)
            self._notes.note(TOPIC, topic, sorted(seen))

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


class _Shape:
    """The fields that the events of a topic may have without a word."""

    def __init__(self, topic: Asset) -> None:
        self.topic = topic
        columns = {column.name for column in topic.columns}
        self._is_open = not columns or policy_of(topic) is not Policy.IGNORE
        self._declared = (columns | {topic.id, topic.version, topic.event_time, "_deleted", *topic.key}) - {""}
        self._decoder = None if self._is_open else _decoder(self._declared)

    def strangers(self, events: bytes) -> list[str]:
        """The fields that are not declared, in the order that they come in."""
        if self._is_open or self._is_declared(events):
            return []
        found: dict[str, None] = {}
        for line in events.split(b"\n"):
            found.update((name, None) for name in _names(line) if name not in self._declared)
            if len(found) >= FIELDS_MAX:
                break
        return list(found)[:FIELDS_MAX]

    def _is_declared(self, events: bytes) -> bool:
        """Whether it is certain that every event has declared fields alone."""
        if self._decoder is None:
            return False
        try:
            self._decoder.decode_lines(events)
        except _BAD:
            return False
        return True


def _decoder(names: Iterable[str]) -> msgspec.json.Decoder[Any] | None:
    """What reads events with these fields and no others; None where a name cannot be a struct's field."""
    fields = {f"f{number}": name for number, name in enumerate(sorted(names))}
    if not all(name.isprintable() and not {'"', "\\"} & set(name) for name in fields.values()):
        return None
    types = [(field, msgspec.Raw, msgspec.Raw()) for field in fields]
    return msgspec.json.Decoder(msgspec.defstruct("Fields", types, rename=fields, gc=False, forbid_unknown_fields=True))


def _names(line: bytes) -> list[str]:
    try:
        return list(_fields(line)) if line.strip() else []
    except _BAD:
        return []  # the door says what is wrong with it
