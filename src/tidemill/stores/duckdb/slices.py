"""Slices as SQL: what part of an asset's log or state a run reads.

Rules of this file:
  * text only: nothing here runs a statement, so every slice of a run can become part of one statement;
  * a filter is emitted only where it can leave something out;
  * the columns of a slice are `_rid`, `_offset`, for `CHANGES` also `_weight`, then the asset's columns.

Theory of operation. A consolidated change set (a, b] needs, per row, the image that was current at a (the old one) and
the image that is current at b (the new one). Where no image of the asset ended after a, there is no old image, and the
change set is the images that came within (a, b] and are still there at b. Otherwise the images that came or went within
(a, b] are grouped by row: equal images cancel out, a row's offset is that of its last change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.core.change import FROM, OFFSET, RID, UNTIL, WEIGHT, Images, Slice
from tidemill.core.errors import InvariantError, StateCorrupt
from tidemill.core.retention import check_kept
from tidemill.stores.duckdb.database import literal, quoted
from tidemill.stores.duckdb.layout import Held, table_name

__all__ = ["Gated", "check", "gate_of", "has_old_images", "not_excluded", "relation", "relation_types", "touched"]

_BATCH_TRIMMED = "read the current state instead: a new reader begins at offset 0"


@dataclass(frozen=True, slots=True)
class Gated:
    """What a gate has released of an asset: the SELECT of (partition, value, position), and the partition columns."""

    released: str
    partitions: tuple[str, ...]


def gate_of(job: str) -> str:
    """The internal asset with what a job's gate has released."""
    return f"{job}@gate"


def relation(part: Slice, held: Held, gated: Gated | None = None) -> str:
    """The SELECT of a slice."""
    check(part, held)
    if part.images == Images.STATE:
        return _released(part, held, gated) if gated else _state(part, held)
    return _both(part, held) if has_old_images(part, held) else _only_new(part, held)


def check(part: Slice, held: Held) -> None:
    """Raise where a slice asks for what the log does not have, or no longer has."""
    if part.to > held.offset:
        raise StateCorrupt(
            f"{part.asset}: offset {part.to} is asked for, but the log ends at {held.offset}",
            mend="a store was restored from an older copy, or tampered with: rebuild the readers of this asset",
        )
    if part.released and part.images != Images.STATE:
        raise InvariantError(f"slice of {part.asset}: `released` is about the state, not about changes")
    check_kept(part, held.expired)  # before what says that it is trimmed, which is so of all that has expired
    starts_below = part.images != Images.STATE and 0 < part.from_ < held.floor and part.from_ not in held.kept
    if starts_below or (0 < part.to < held.floor and part.to not in held.kept):
        raise StateCorrupt(
            f"{part.asset}: ({part.from_}, {part.to}] is asked for, but history is trimmed up to {held.floor}",
            mend=_BATCH_TRIMMED,
        )


def touched(part: Slice) -> str:
    """What holds for the images that came or went within the slice."""
    a, b = part.from_, part.to
    return f"(({FROM} > {a} AND {FROM} <= {b}) OR ({UNTIL} > {a} AND {UNTIL} <= {b}))"


def has_old_images(part: Slice, held: Held) -> bool:
    """Whether a row may have changed or gone within the slice."""
    return part.images != Images.STATE and 0 < part.from_ < held.closed


def not_excluded(part: Slice) -> str:
    """What leaves the excluded rows out."""
    if not part.excluding:
        return ""
    return f" AND {RID} NOT IN ({', '.join(map(literal, part.excluding))})"


def _state(part: Slice, held: Held) -> str:
    names = ", ".join([RID, f"{FROM} AS {OFFSET}", *held.names])
    at = f"{FROM} <= {part.to} AND {UNTIL} > {part.to}"
    return f"SELECT {names} FROM {table_name(held.asset)} WHERE {at}{not_excluded(part)}"


def _released(part: Slice, held: Held, gated: Gated) -> str:
    """The state of each released partition value as it was when it was released."""
    match = " OR ".join(
        f"(g.partition = {literal(name)} AND g.value = t.{quoted(name)}::VARCHAR)" for name in gated.partitions
    )
    names = ", ".join([RID, f"{FROM} AS {OFFSET}", *(f"t.{name}" for name in held.names)])
    return (
        f"SELECT {names} FROM {table_name(held.asset)} t JOIN ({gated.released}) g ON {match} "
        f"WHERE {FROM} <= g.position AND {UNTIL} > g.position{not_excluded(part)}"
    )


def _only_new(part: Slice, held: Held) -> str:
    """A change set in which nothing was there before."""
    weight = [f"1::TINYINT AS {WEIGHT}"] if part.images == Images.CHANGES else []
    return (
        f"SELECT {', '.join([RID, f'{FROM} AS {OFFSET}', *weight, *held.names])} FROM {table_name(held.asset)} "
        f"WHERE {FROM} > {part.from_} AND {FROM} <= {part.to} AND {UNTIL} > {part.to}{not_excluded(part)}"
    )


def _both(part: Slice, held: Held) -> str:
    """A change set in which rows have changed or gone."""
    a, b = part.from_, part.to
    image = "{" + ", ".join(f"{literal(f'c{n}')}: {name}" for n, name in enumerate(held.names)) + "}"
    pairs = (
        f"SELECT {RID}, max(CASE WHEN {UNTIL} <= {b} THEN {UNTIL} ELSE {FROM} END) AS {OFFSET}, "
        f"any_value({image}) FILTER ({FROM} <= {a}) AS o, any_value({image}) FILTER ({UNTIL} > {b}) AS n "
        f"FROM {table_name(held.asset)} "
        f"WHERE {touched(part)}{not_excluded(part)} "
        f"GROUP BY {RID} HAVING o IS DISTINCT FROM n"
    )
    names = [f"i.c{n} AS {name}" for n, name in enumerate(held.names)]
    if part.images == Images.ADDED:
        return f"SELECT {', '.join([RID, OFFSET, *names])} FROM (SELECT *, n AS i FROM ({pairs})) WHERE i IS NOT NULL"
    lines = f"SELECT {RID}, {OFFSET}, unnest([-1, 1])::TINYINT AS {WEIGHT}, unnest([o, n]) AS i FROM ({pairs})"
    return f"SELECT {', '.join([RID, OFFSET, WEIGHT, *names])} FROM ({lines}) WHERE i IS NOT NULL"


def relation_types(columns: Mapping[str, str]) -> str:
    """An empty relation of this shape: names to types."""
    shaped = ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in columns.items())
    return f"SELECT {shaped} WHERE false"
