"""Comparing two sets of rows, row by row: what is missing, what is too much, what differs, with samples.

Rules of this file:
  * rows are bags: a row that is there twice and should be there once is one too many;
  * a pair of a missing and a surplus row with the same key is one *different* row; without a key there are no pairs;
  * values are compared as the store compares them: NULL is NULL, NaN is NaN, in the live table's own types.

Theory of operation. One statement: both sides with weights +1 and -1, summed over equal rows; what does not cancel is
grouped by key, whose text is made only for what is left. It needs no order and no identity of rows, so it also finds rows
that came by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.core.change import ORDINAL, PARENT, RID, WEIGHT, ArrowStream, Slice, Statement
from tidemill.core.model import Column
from tidemill.runtime.rows import dicts
from tidemill.sql.bind import quoted
from tidemill.sql.identity import key_identity

__all__ = ["SAMPLES", "Comparison", "Sides", "compare"]

SAMPLES = 5
"""So many rows of each kind are shown."""

LIVE, WANTED = "@live", "@wanted"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Counts of rows, and samples by kind: `missing` and `extra` are rows, `different` pairs `{expected, live}`."""

    missing: int = 0
    extra: int = 0
    different: int = 0
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether nothing was found."""
        return self.count == 0

    @property
    def count(self) -> int:
        """How many rows were found, of whatever kind."""
        return self.missing + self.extra + self.different


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: the rows that there are, the rows that there should be, and what pairs them.

    `key` names columns; `by_identity` pairs rows by `_rid` (the wanted rows bring it, or parent and ordinal); with
    neither only equal rows pair.
    With a `tolerance` two rows of a pair are equal whose floating-point numbers lie that close together (relative to the
    larger one above 1, absolute below); rows without a key then pair by all other columns.
    """

    columns: tuple[Column, ...]
    live: Slice | ArrowStream
    wanted: Statement | ArrowStream
    key: tuple[str, ...] | None = None
    by_identity: str = ""
    tolerance: float = 0.0


def compare(sides: Sides, evaluate: Callable[[Statement], ArrowStream], samples_max: int = SAMPLES) -> Comparison:
    """What is between the two sides, computed by the store; up to so many samples of each kind."""
    relations: dict[str, Slice | ArrowStream] = {LIVE: sides.live}
    if isinstance(sides.wanted, Statement):
        wanted = f"({sides.wanted.sql.strip().rstrip(';')}\n)"
        relations |= sides.wanted.relations
    else:
        wanted = quoted(f"@input:{WANTED}")
        relations[WANTED] = sides.wanted
    (row,) = dicts(evaluate(Statement(_text(sides, wanted, samples_max), relations)))
    samples = {kind: row[f"{kind}_rows"] or [] for kind in ("missing", "extra", "different")}
    return Comparison(row["missing"], row["extra"], row["different"], samples)


def given_identity(names: Sequence[str]) -> str:
    """The SQL of the identity that rows bring which belong to a row of an input, as the stores make it."""
    if RID in names or PARENT not in names:
        return RID
    if ORDINAL not in names:
        return PARENT
    is_plain = f"{ORDINAL} = 0 AND NOT contains({PARENT}, '/')"
    return f"CASE WHEN {is_plain} THEN {PARENT} ELSE {PARENT} || '/' || {ORDINAL} END"


def _text(sides: Sides, wanted: str, most: int) -> str:
    names = [quoted(column.name) for column in sides.columns]
    typed = ", ".join(f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}" for c in sides.columns)
    exact = [column.name for column in sides.columns if not (sides.tolerance and _is_float(column))]
    pair = key_identity(exact if sides.key is None else sides.key) if exact or sides.key else "''"
    live_own, wanted_own = (f", {RID} AS _pair", f", {sides.by_identity} AS _pair") if sides.by_identity else ("", "")
    pairing = "_pair" if sides.by_identity else f"{pair} AS _pair"
    shown = ", ".join(f"{name} := {name}" for name in names) or "nothing := NULL"
    sides_of = (
        f"SELECT {typed}{wanted_own}, 1 AS {WEIGHT} FROM {wanted} "
        f"UNION ALL SELECT {', '.join(names)}{live_own}, -1 FROM {quoted(f'@input:{LIVE}')}"
    )
    same = [*names, "_pair"] if sides.by_identity else names
    lines = f"SELECT {', '.join([*same, f'sum({WEIGHT}) AS {WEIGHT}'])} FROM ({sides_of}) GROUP BY ALL"
    pairs = (
        f"SELECT _pair, coalesce(sum({WEIGHT}) FILTER ({WEIGHT} > 0), 0)::BIGINT AS _more, "
        f"coalesce(-sum({WEIGHT}) FILTER ({WEIGHT} < 0), 0)::BIGINT AS _less, "
        f"any_value(_row) FILTER ({WEIGHT} > 0) AS expected, any_value(_row) FILTER ({WEIGHT} < 0) AS live "
        f"FROM (SELECT {pairing}, {WEIGHT}, struct_pack({shown}) AS _row FROM ({lines}) WHERE {WEIGHT} <> 0) GROUP BY _pair"
    )
    return (
        f"WITH _pairs AS MATERIALIZED (SELECT * FROM ({pairs}){_apart(sides)}) SELECT "
        "coalesce(sum(greatest(_more - _less, 0)), 0)::BIGINT AS missing, "
        "coalesce(sum(greatest(_less - _more, 0)), 0)::BIGINT AS extra, "
        "coalesce(sum(least(_more, _less)), 0)::BIGINT AS different, "
        f"{_sample('expected', '_more > _less', most)} AS missing_rows, "
        f"{_sample('live', '_less > _more', most)} AS extra_rows, "
        f"{_sample('struct_pack(expected := expected, live := live)', '_more > 0 AND _less > 0', most)} AS different_rows "
        "FROM _pairs"
    )


def _is_float(column: Column) -> bool:
    return column.type.lower() in ("float", "double", "real")


def _apart(sides: Sides) -> str:
    """The condition that a pair is more than the tolerance apart; nothing where none is declared."""
    floats = [quoted(column.name) for column in sides.columns if _is_float(column)]
    if not sides.tolerance or not floats:
        return ""
    same = [
        f"expected.{quoted(c.name)} IS NOT DISTINCT FROM live.{quoted(c.name)}"
        for c in sides.columns
        if not _is_float(c)
    ]
    close = [
        f"(expected.{name} IS NOT DISTINCT FROM live.{name} OR abs(expected.{name} - live.{name}) <= "
        f"{sides.tolerance!r} * greatest(1.0, abs(expected.{name}), abs(live.{name})))"
        for name in floats
    ]
    return f" WHERE NOT coalesce(_more = 1 AND _less = 1 AND {' AND '.join([*same, *close])}, false)"


def _sample(value: str, where: str, most: int) -> str:
    return f"(SELECT list(_s) FROM (SELECT {value} AS _s FROM _pairs WHERE {where} ORDER BY _pair LIMIT {most}))"
