"""What a gated job must have released and read: the oracle's view of gates (rule 21).

Rules of this file:
  * which values are released is judged from the files that landed, not from what the gate says of itself;
  * where late rows are corrections, a released value shows the final rows; elsewhere the rows as they were released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tidemill.core.gate import expected_values
from tidemill.testing.simulator.words import GateSpec, SourceSpec

__all__ = ["Row", "check_values", "released_rows"]

Row = tuple[str, int, str]
"""k, v and the day (empty where there is none)."""
Arrivals = Mapping[str, set[tuple[str, str]]]
"""(day, store) of the files that have landed, by asset."""


def check_values(gate: GateSpec, released: set[str], sources: Sequence[SourceSpec], arrivals: Arrivals) -> str:
    """What is wrong with the values that are released; "" where nothing is."""
    seen = {day for source in sources for day, _ in arrivals[source.name]}
    complete = {day for day in seen if all(_is_complete(source, day, arrivals) for source in sources)}
    if gate.deadline and gate.on_missing == "run":
        complete = set(expected_values(seen))
    may_have_been = set(expected_values(seen | released)) if any(source.retracts for source in sources) else complete
    lacking, early = complete - released, released - may_have_been
    return f"not released {sorted(lacking)}, released without reason {sorted(early)}" if lacking or early else ""


def _is_complete(source: SourceSpec, day: str, arrivals: Arrivals) -> bool:
    return all((day, member) in arrivals[source.name] for member in source.members)


def released_rows(
    positions: Mapping[str, int], truth: Iterable[Row] | None, as_it_was: Callable[[int], list[Row]]
) -> list[Row]:
    """The rows of one input that are released, at `positions` by value; with `truth` given as they are in the end."""
    if truth is not None:
        return [row for row in truth if row[2] in positions]
    return [row for value, position in positions.items() for row in as_it_was(position) if row[2] == value]
