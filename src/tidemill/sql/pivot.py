"""PIVOT as what it stands for: a group with one FILTER for each value.

Rules of this file:
  * the values are in the text: columns that follow from the rows could not be a table's, and are refused with the mend;
  * the columns have DuckDB's names: the value, and the aggregate's alias where it has one;
  * a value is compared as a text, as DuckDB does: the number 1 is in `in ('1')`, and 1.00 of a decimal is not in `in (1)`;
  * `FROM t PIVOT (...)` without GROUP BY is left to the resolver, which knows the columns of `t`.

Theory: `PIVOT t ON k IN ('a', 'b') USING sum(x) AS s GROUP BY g` is
`SELECT g, sum(x) FILTER (WHERE k::varchar = 'a') AS a_s, ... GROUP BY g`: groups without any of the values are there in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.keys import is_aggregate
from tidemill.sql.parse import line_of
from tidemill.sql.resolve import INPUT, Schemas, is_hidden

__all__ = ["write_pivots"]

_MEND = "write it as a group: select key, sum(x) filter (where kind = 'a') as a from ... group by key"


def write_pivots(tree: exp.Query, schemas: Schemas, place: str, line: int = 1) -> exp.Query:
    """The query with its PIVOTs written as groups. Changes and returns `tree`. Raises DefinitionError where the columns
    depend on the rows or have no names."""
    for pivot in reversed(list(tree.find_all(exp.Pivot))):
        if not isinstance(pivot.parent, exp.Table | exp.Subquery | exp.CTE):
            continue
        writer = _Writer(pivot, schemas, place, line)
        if pivot.arg_key == "this":
            pivot.replace(writer.statement())
        elif pivot.args.get("group") is not None and len(pivot.parent.args["pivots"]) == 1:
            writer.replace_source()
    return tree


class _Writer:
    """Writes one PIVOT as a group."""

    def __init__(self, pivot: exp.Pivot, schemas: Schemas, place: str, line: int) -> None:
        self._pivot = pivot
        self._schemas = {name.lower(): columns for name, columns in schemas.items()}
        self._place = place
        self._line = line

    def statement(self) -> exp.Select:
        """What a PIVOT in parentheses stands for."""
        pivot = self._pivot
        if pivot.args.get("unpivot"):
            raise self._refused(
                "an UNPIVOT in parentheses is not taken", "write: from t unpivot (value for name in (a, b))"
            )
        source: exp.Expr = pivot.this
        aggregates = list(pivot.args.get("using") or [exp.Count(this=exp.Star(), big_int=True)])
        group = pivot.args.get("group")
        keys = list(group.expressions) if group is not None else self._rest(source, pivot.expressions, aggregates)
        return self._select(source, pivot.expressions, aggregates, keys)

    def replace_source(self) -> None:
        """Put the group in the place of `t PIVOT (... GROUP BY ...)`."""
        pivot, source = self._pivot, self._pivot.parent
        assert source is not None
        alias = pivot.args.get("alias")
        inner = source.copy()
        inner.set("pivots", None)
        made = self._select(inner, pivot.args["fields"], pivot.expressions, pivot.args["group"].expressions)
        source.replace(exp.Subquery(this=made, alias=alias))

    def _select(
        self, source: exp.Expr, fields: list[exp.Expr], aggregates: list[exp.Expr], keys: list[exp.Expr]
    ) -> exp.Select:
        if len(fields) != 1 or not isinstance(fields[0], exp.In) or not fields[0].expressions:
            raise self._refused(
                "the columns of this PIVOT follow from the rows, or from several columns at once", _MEND
            )
        on = fields[0].this
        shown: list[exp.Expr] = [key.copy() for key in keys]
        taken = {key.alias_or_name.lower() for key in keys}
        for name, value in self._values(fields[0].expressions):
            for aggregate in aggregates:
                made = self._filtered(aggregate.unalias().copy(), _is_of(on, value))
                column = _free(self._name(name, aggregate, len(aggregates)), taken)
                shown.append(exp.alias_(made, column, quoted=True))
        select = exp.Select(expressions=shown, from_=exp.From(this=source.copy()))
        if keys:
            select.set("group", exp.Group(expressions=[key.copy() for key in keys]))
        return select

    def _values(self, values: list[exp.Expr]) -> Iterator[tuple[str, exp.Expr]]:
        """The values with the names of their columns."""
        seen: set[exp.Expr] = set()
        for value in values:
            bare = value.this if isinstance(value, exp.PivotAlias | exp.Alias) else value
            has_exponent = isinstance(bare, exp.Literal) and not bare.is_string and "e" in bare.name.lower()
            if not isinstance(bare, exp.Literal | exp.Boolean) or has_exponent:
                raise self._refused("the values of this PIVOT are no plain texts or numbers", _MEND)
            own = bare.sql().lower() if isinstance(bare, exp.Boolean) else bare.name
            if bare in seen:
                raise self._refused(f"the value {own!r} stands twice in this PIVOT", "write it once")
            seen.add(bare)
            yield (value.args["alias"].name if bare is not value else own) or "''", bare

    def _filtered(self, aggregate: exp.Expr, condition: exp.Expr) -> exp.Expr:
        """The aggregate over the rows of one value."""
        holder = exp.Paren(this=aggregate)
        found = [node for node in holder.walk() if is_aggregate(node)]
        if len(found) != 1 or isinstance(found[0].parent, exp.Filter | exp.WithinGroup):
            raise self._refused("a PIVOT takes exactly one plain aggregate for each name", _MEND)
        found[0].replace(exp.Filter(this=found[0].copy(), expression=exp.Where(this=condition)))
        made: exp.Expr = holder.this
        return made

    def _name(self, value: str, aggregate: exp.Expr, aggregates: int) -> str:
        if isinstance(aggregate, exp.Alias):
            return f"{value}_{aggregate.alias}"
        if aggregates > 1:
            text = aggregate.sql(dialect="duckdb")
            raise self._refused("an aggregate of a PIVOT has no name", f"give it one: {text} as name")
        return value

    def _rest(self, source: exp.Expr, fields: list[exp.Expr], aggregates: list[exp.Expr]) -> list[exp.Expr]:
        """Without GROUP BY: all columns that the PIVOT does not use."""
        used = {column.name.lower() for part in (*fields, *aggregates) for column in part.find_all(exp.Column)}
        return [exp.column(name, quoted=True) for name in self._columns(source) if name.lower() not in used]

    def _columns(self, source: exp.Expr) -> list[str]:
        query = source.this if isinstance(source, exp.Subquery) else None
        names = list(query.named_selects) if isinstance(query, exp.Query) else []
        if isinstance(source, exp.Table) and source.name.startswith(INPUT):
            known = self._schemas.get(source.name.removeprefix(INPUT)) or {}
            names = [name for name in known if not is_hidden(name)]
        if not names or not all(names) or "*" in names:
            raise self._refused(
                "a PIVOT of columns that are not known here", "add its GROUP BY: ... using ... group by key"
            )
        return names

    def _refused(self, message: str, mend: str) -> DefinitionError:
        return DefinitionError(message, place=f"{self._place}:{line_of(self._pivot, self._line)}", mend=mend)


def _free(name: str, taken: set[str]) -> str:
    """A name of a column, with the number that DuckDB gives it where another one has it."""
    found = next(one for one in chain([name], (f"{name}_{n}" for n in count(1))) if one.lower() not in taken)
    taken.add(found.lower())
    return found


def _is_of(on: exp.Expr, value: exp.Expr) -> exp.Expr:
    """Whether a row is one of a value."""
    text: exp.Expr = value.copy() if value.is_string else _as_text(value)
    return exp.EQ(this=_as_text(on), expression=text)


def _as_text(value: exp.Expr) -> exp.Expr:
    return exp.cast(value.copy(), "varchar", dialect="duckdb")
