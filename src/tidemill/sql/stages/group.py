"""The state of a group: what is kept per key so that a change adds to it instead of a new look at all rows.

Rules of this file:
  * count, sum, min and max, and what follows from them (bool_or, count_if, FILTER), have accumulators; sums only of
    exact types: a sum in floating point has an order (determine.py) and is recomputed for its key;
  * where rows can go, the number of rows is kept too, and beside each sum the number of its values: a group without rows
    goes, and a sum over none is NULL;
  * one aggregate without an accumulator makes the whole group a keyed block.

Theory of operation. The inner SELECT is split once more: below it a linear SELECT computes keys and arguments under plain
names (`_k0`, `_x0`), and all that is left to say is which function folds which column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from tidemill.sql.functions import name_of, told_name
from tidemill.sql.stages.layers import aliased, ungrouped
from tidemill.sql.stages.model import KEY, WEIGHT, Accumulator
from tidemill.sql.stages.names import fresh_column

__all__ = ["COUNT_OF_ROWS", "Grouping", "State", "grouping_of"]

COUNT_OF_ROWS = "_n"
"""The accumulator that counts a key's rows: where rows can go, a key with none goes too."""
_PREFIXES = {"min": "_l", "max": "_h"}


@dataclass(frozen=True, slots=True)
class State:
    """The columns of a group's state, and what each column of the inner SELECT is in terms of it."""

    rule: str
    reason: str
    keys: tuple[str, ...]
    accumulators: tuple[Accumulator, ...]
    shown: Mapping[str, exp.Expr]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns: keys, then accumulators."""
        return (*self.keys, *(one.column for one in self.accumulators))


@dataclass(frozen=True, slots=True)
class _Call:
    """One aggregate: its kind (`rows`, count, sum, min, max, or '' for any other), argument and text."""

    name: str
    kind: str
    argument: str
    text: str
    function: str


@dataclass(slots=True)
class Grouping:
    """A grouping SELECT taken apart: the linear SELECT below it, its keys and its aggregates."""

    rows: exp.Select
    keys: list[str]
    calls: list[_Call] = field(default_factory=list)

    def state(self, *, retracts: bool) -> State:
        """The state for this grouping; `retracts` where rows below it can go."""
        keys = tuple(self.keys)
        others = [call for call in self.calls if not call.kind]
        builder = _Builder(retracts)
        for call in self.calls:
            builder.add(call)
        if retracts and not others:
            builder.rows()
        shown = {key: _column(key) for key in keys} | builder.shown
        reason = "; ".join(dict.fromkeys(_why_not(call) for call in others))
        rule = "keyed" if others else "group"
        return State(rule, reason, keys, tuple(builder.accumulators.values()), shown)


def _why_not(call: _Call) -> str:
    if call.function in ("sum", "avg", "mean"):
        return f"{call.function} in floating point adds its values in their order, so that it has one result"
    return f"{call.function} cannot be added up"


def grouping_of(inner: exp.Select) -> Grouping:
    """Take a grouping SELECT (made by `split_group`) apart."""
    group = inner.args.get("group")
    keys = [f"{KEY}{number}" for number in range(len(group.expressions) if group is not None else 0)]
    rows = ungrouped(inner)
    arguments: dict[exp.Expr, str] = {}
    calls = [_call(part.alias, part.unalias(), arguments) for part in inner.expressions[len(keys) :]]
    shown = [aliased(part.unalias().copy(), part.alias) for part in inner.expressions[: len(keys)]]
    shown += [aliased(argument.copy(), name) for argument, name in arguments.items()]
    rows.set("expressions", shown or [aliased(exp.Literal.number(1), "_one")])
    return Grouping(rows, keys, calls)


def _call(name: str, unit: exp.Expr, arguments: dict[exp.Expr, str]) -> _Call:
    condition, core = None, unit
    if isinstance(unit, exp.Filter):
        condition, core = unit.expression.this, unit.this
    kind, argument = _kind(core)
    if not kind:
        return _Call(name, "", "", _over_columns(unit, arguments), told_name(_innermost(unit)))
    if condition is not None:
        value = argument if argument is not None else exp.Literal.number(1)
        argument = exp.Case(ifs=[exp.If(this=condition.copy(), true=value.copy())])
        kind = "count" if kind == "rows" else kind
    column = "" if argument is None else arguments.setdefault(argument.copy(), f"_x{len(arguments)}")
    return _Call(name, kind, column, "", kind)


def _innermost(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        node = node.this
    return node


_KINDS = {
    "count": "count",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "bool_or": "max",
    "bool_and": "min",
    "logical_or": "max",
    "logical_and": "min",
}


def _kind(core: exp.Expr) -> tuple[str, exp.Expr | None]:
    """Which accumulator folds like this aggregate, and over what; '' for none."""
    name = name_of(core)
    if name in ("count", "count_star") and (core.this is None or isinstance(core.this, exp.Star)):
        return "rows", None
    if name in ("count_if", "countif"):
        one, zero = exp.Literal.number(1), exp.Literal.number(0)
        is_false = exp.Not(this=exp.Paren(this=core.this.copy()))
        return "sum", exp.Case(ifs=[exp.If(this=core.this.copy(), true=one), exp.If(this=is_false, true=zero)])
    parts = list(core.iter_expressions())
    if name not in _KINDS or len(parts) != 1 or isinstance(parts[0], exp.Order | exp.Distinct | exp.Star | exp.Having):
        return "", None
    return _KINDS[name], parts[0]


def _over_columns(unit: exp.Expr, arguments: dict[exp.Expr, str]) -> str:
    """The text of an aggregate over plain names."""
    made = unit.copy()
    for column in list(made.find_all(exp.Column)):
        name = arguments.setdefault(column.copy(), f"_x{len(arguments)}")
        column.replace(exp.column(name, quoted=True))
    return made.sql(dialect="duckdb", comments=False)


def _column(name: str) -> exp.Expr:
    return fresh_column(name, "_s")


class _Builder:
    """Collects accumulators; equal ones are kept once."""

    def __init__(self, retracts: bool) -> None:
        self._retracts = retracts
        self.accumulators: dict[str, Accumulator] = {}
        self.shown: dict[str, exp.Expr] = {}

    def add(self, call: _Call) -> None:
        """One aggregate."""
        if not call.kind:
            self.accumulators[call.name] = Accumulator(call.name, call.text)
            self.shown[call.name] = _column(call.name)
        elif call.kind == "rows":
            self.shown[call.name] = self.rows()
        elif call.kind == "count":
            self.shown[call.name] = self._count(call.argument)
        elif call.kind == "sum":
            self.shown[call.name] = self._sum(call.argument)
        else:
            self.shown[call.name] = self._extreme(call.kind, call.argument)

    def _keep(self, accumulator: Accumulator) -> exp.Expr:
        self.accumulators.setdefault(accumulator.column, accumulator)
        return _column(accumulator.column)

    def rows(self) -> exp.Expr:
        """The number of rows."""
        return self._keep(Accumulator(COUNT_OF_ROWS, "count(*)", f"sum({WEIGHT})", merge="add"))

    def _count(self, argument: str) -> exp.Expr:
        added = f"coalesce(sum({WEIGHT}) FILTER (WHERE {argument} IS NOT NULL), 0)"
        return self._keep(Accumulator(f"_c{argument[2:]}", f"count({argument})", added, merge="add"))

    def _sum(self, argument: str) -> exp.Expr:
        column, whole = f"_s{argument[2:]}", f"sum({argument})"
        if not self._retracts:
            return self._keep(Accumulator(column, whole, whole, merge="add"))
        self._count(argument)
        added, gone = (f"{whole} FILTER (WHERE {WEIGHT} {sign} 0)" for sign in "><")
        return self._keep(Accumulator(column, whole, added, gone, "add", f"_c{argument[2:]}"))

    def _extreme(self, kind: str, argument: str) -> exp.Expr:
        column, whole = f"{_PREFIXES[kind]}{argument[2:]}", f"{kind}({argument})"
        added, gone = (f"{whole} FILTER (WHERE {WEIGHT} {sign} 0)" for sign in "><")
        return self._keep(Accumulator(column, whole, added, gone if self._retracts else "", kind))
