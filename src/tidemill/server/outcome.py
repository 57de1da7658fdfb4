"""What became of the events of one request: counts, and a list of those that were not accepted.

Rules of this file:
  * a warning (fields that nobody declared) is of all events of the request, and only there where there is one;
  * counts are of everything; the list ends at `results_max`, and then says how many it leaves out;
  * an index is the place of an event in the request, from 0, whatever the request was cut into.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill.core.model import Asset
from tidemill.core.ports import Receipt, Refusal
from tidemill.project.undeclared import FIELDS_MAX, told
from tidemill.server.chunks import Chunk

__all__ = ["Outcome"]


@dataclass(slots=True)
class Outcome:
    """The sum of the receipts of a request; with `keeps_offsets` also where its events are (repeated ones too).

    `topic` is the topic they go to, where fields that it does not declare are to be told.
    """

    results_max: int
    topic: Asset | None = None
    accepted: int = 0
    duplicate: int = 0
    parked: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0
    keeps_offsets: bool = False
    offsets: list[int] = field(default_factory=list)
    undeclared: dict[str, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many events were decided about."""
        return self.accepted + self.duplicate + self.parked

    def add(self, receipt: Receipt, chunk: Chunk) -> None:
        """Add what became of the next events."""
        if receipt.refusals or receipt.duplicates or chunk.refused:
            self._list(receipt, chunk, "parked")
        self.accepted += receipt.accepted
        self.duplicate += receipt.duplicate
        self.parked += receipt.parked + len(chunk.refused)
        if receipt.undeclared:
            self.undeclared |= dict.fromkeys(receipt.undeclared)
        if self.keeps_offsets:
            self.offsets += range(receipt.head - receipt.accepted + 1, receipt.head + 1) if receipt.accepted else ()
            self.offsets += [offset for _, offset in receipt.duplicates if offset]

    def refuse(self, receipt: Receipt, chunk: Chunk) -> None:
        """List why nothing was taken."""
        self._list(receipt, chunk, "refused")

    def after(self, receipt: Receipt, chunk: Chunk) -> Outcome:
        """What this will be once that is added."""
        found = replace(self, results=list(self.results), undeclared=dict(self.undeclared))
        found.add(receipt, chunk)
        return found

    def restore(self, answer: dict[str, Any] | None) -> None:
        """Begin with what an earlier part of the same request came to."""
        if answer:
            self.accepted, self.duplicate = answer["accepted"], answer["duplicate"]
            self.parked, self.results = answer["parked"], list(answer["results"])
            self.left_out = answer.get("results_left_out", 0)
            self.undeclared = dict.fromkeys(answer.get("undeclared", ()))

    def _list(self, receipt: Receipt, chunk: Chunk, status: str) -> None:
        start, places = self.count, chunk.places
        found = [_result(_place(each.index, start, places), each, status) for each in receipt.refusals]
        found += [_result(start + each.index, each, status) for each in chunk.refused]
        found += [
            {"index": _place(index, start, places), "status": "duplicate", "reason": _repeats(offset), "column": ""}
            for index, offset in receipt.duplicates
        ]
        found.sort(key=lambda result: int(result["index"]))
        room = max(0, self.results_max - len(self.results))
        self.results += found[:room]
        self.left_out += len(found[room:])

    def value(self) -> dict[str, Any]:
        """The answer."""
        counts = {"accepted": self.accepted, "duplicate": self.duplicate, "parked": self.parked}
        more = {"results_left_out": self.left_out} if self.left_out else {}
        return {**counts, "results": self.results, **more, **self._warning()}

    def _warning(self) -> dict[str, Any]:
        if self.topic is None or not self.undeclared:
            return {}
        fields = list(self.undeclared)[:FIELDS_MAX]
        return {"warning": told(self.topic, fields), "undeclared": fields}


def _place(index: int, start: int, places: Sequence[int] | None) -> int:
    return start + (index if places is None else places[index])


def _result(place: int, refusal: Refusal, status: str) -> dict[str, Any]:
    return {"index": place, "status": status, "reason": refusal.reason, "column": refusal.column}


def _repeats(offset: int) -> str:
    return f"the same event is at offset {offset}" if offset else "a newer version is known"
