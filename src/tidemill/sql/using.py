"""JOIN ... USING: what a merged column is, the way DuckDB has it.

Rules of this file:
  * joins are taken from the left: what a USING compares is the merged column of all that stands left of it, and not the
    column of the first table; a comma begins anew, for it binds weaker than JOIN;
  * the merged column is the left side's after an INNER or LEFT JOIN, the right side's after a RIGHT JOIN, and after a FULL
    JOIN whatever there is of all tables; a SEMI or ANTI JOIN compares and merges nothing;
  * parentheses around the first joins say nothing, and go; what cannot be told for sure is an error, never a guess.

Theory: sqlglot's `qualify` turns USING into ON and merged columns into COALESCE over all tables, whatever the joins are.
So it is told before what a person wrote (`mark_using`), and put right afterwards, when every column has its table
(`settle_using`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.parse import line_of
from tidemill.sql.scope import binding

__all__ = ["mark_using", "settle_using"]

_USING, _OWN, _STAR = "tidemill_using", "tidemill_own", "tidemill_star"

Columns = Mapping[str, list[str]]
"""The columns of the inputs, by the name of their placeholder."""


def mark_using(tree: exp.Query, place: str, line: int = 1) -> None:
    """Remember which joins have a USING, and which COALESCE a person wrote. To be asked before names are resolved.

    Raises DefinitionError for what cannot be merged. Changes `tree`: first joins lose their parentheses.
    """
    for select in tree.find_all(exp.Select):
        _flatten(select)
    joins = [join for join in tree.find_all(exp.Join) if join.args.get("using")]
    for join in joins:
        names = [identifier.name.lower() for identifier in join.args["using"]]
        join.meta[_USING] = list(dict.fromkeys(names))
        _check(join, place, line)
    if joins:
        for coalesce in tree.find_all(exp.Coalesce):
            coalesce.meta[_OWN] = True


def _flatten(select: exp.Select) -> None:
    """The first relation of FROM without parentheses around it, and its joins among those of the SELECT."""
    from_ = select.args.get("from_")
    while from_ is not None:
        source = from_.this
        inner = source.this if isinstance(source, exp.Subquery) else None
        is_wrapped = isinstance(inner, exp.Table) and set(_given(source)) == {"this"} and not _has_comma(inner)
        if is_wrapped:
            from_.set("this", inner)
        elif isinstance(source, exp.Table | exp.Subquery) and source.args.get("joins"):
            select.set("joins", [*source.args["joins"], *(select.args.get("joins") or [])])
            source.set("joins", None)
        else:
            return


def _given(node: exp.Expr) -> Iterator[str]:
    return (name for name, value in node.args.items() if value)


def _has_comma(table: exp.Expr) -> bool:
    return any(_is_comma(join) for join in table.args.get("joins") or [])


def _is_comma(join: exp.Join) -> bool:
    return not any(join.args.get(word) for word in ("kind", "side", "method", "on", "using"))


def _check(join: exp.Join, place: str, line: int) -> None:
    select = join.parent
    joins = select.args.get("joins") or [] if isinstance(select, exp.Select) else []
    if not joins or any(other.this.args.get("joins") or _is_nested(other.this) for other in joins):
        raise _error(
            "a join in parentheses and USING do not go together here",
            "write the conditions with ON, or make what is in parentheses a subquery: (select ... from ...) as name",
            join,
            place,
            line,
        )
    assert isinstance(select, exp.Select)
    select.meta[_STAR] = any(isinstance(part, exp.Star) for part in select.expressions)
    for part in select.expressions:
        star = part.this if isinstance(part, exp.Column) else part
        if part.find(exp.Columns) or (isinstance(star, exp.Star) and any(_given(star)) and _rewrites(star)):
            raise _error(
                "columns that are chosen by a pattern, REPLACE or RENAME and USING do not go together",
                "write the columns out, or write the conditions with ON",
                join,
                place,
                line,
            )


def _is_nested(source: exp.Expr) -> bool:
    return isinstance(source, exp.Subquery) and not isinstance(source.this, exp.Query)


def _rewrites(star: exp.Expr) -> bool:
    return any(star.args.get(word) for word in ("replace", "rename"))


def _error(message: str, mend: str, node: exp.Expr, place: str, line: int) -> DefinitionError:
    return DefinitionError(message, place=f"{place}:{line_of(node, line)}", mend=mend)


@dataclass(frozen=True, slots=True)
class _Merged:
    """A merged column: the tables that have it, and the one whose value it is, '' for the first that has one."""

    tables: tuple[str, ...]
    primary: str

    def value(self, name: str) -> exp.Expr:
        """The merged column as an expression."""
        columns = [exp.column(name, table=table, quoted=True) for table in self.tables]
        if self.primary:
            return exp.column(name, table=self.primary, quoted=True)
        return exp.Coalesce(this=columns[0], expressions=columns[1:])


def settle_using(tree: exp.Query, columns: Columns, place: str, line: int = 1) -> exp.Query:
    """The resolved query with each merged column what it is in DuckDB. Changes and returns `tree`.

    Raises DefinitionError where a column to merge is in several tables or in none.
    """
    for select in reversed(list(tree.find_all(exp.Select))):
        if any(_USING in join.meta for join in select.args.get("joins") or []):
            _Merging(select, columns, place, line).settle()
    return tree


class _Merging:
    """The joins of one SELECT, from the left."""

    def __init__(self, select: exp.Select, columns: Columns, place: str, line: int) -> None:
        self._select = select
        self._columns = columns
        self._place = place
        self._line = line
        self._seen: dict[str, list[str]] = {}
        """The tables since the last comma, with their columns."""
        self._before: set[str] = set()
        """The columns of the tables before it."""
        self._all: dict[str, list[str]] = {}
        self._merged: dict[str, _Merged] = {}

    def settle(self) -> None:
        """Put conditions and merged columns right."""
        self._see(self._select.args["from_"].this)
        for join in self._select.args["joins"]:
            if _is_comma(join):
                self._begin_anew()
            self._join(join)
        for part in list(self._select.iter_expressions()):
            if not isinstance(part, exp.Join | exp.From):
                self._replace_in(part)
            if isinstance(part, exp.Having | exp.Qualify):
                self._put_merged(part)
        if self._select.meta.get(_STAR):
            self._check_star()

    def _check_star(self) -> None:
        """A star shows a merged column once, and the same name of another table beside it; the resolver loses that."""
        for name, merged in self._merged.items():
            others = [table for table, names in self._all.items() if name in names and table not in merged.tables]
            if others:
                raise self._error(
                    f"select * with USING ({name}): {others[0]!r} has a column {name!r} too",
                    "write the columns out",
                    self._select,
                )

    def _see(self, source: exp.Expr) -> None:
        self._seen[source.alias_or_name] = self._all[source.alias_or_name] = self._columns_of(source)

    def _columns_of(self, source: exp.Expr) -> list[str]:
        alias = source.args.get("alias")
        if isinstance(alias, exp.TableAlias) and alias.args.get("columns"):
            return [column.name.lower() for column in alias.columns]
        query: exp.Expr | None = source.this if isinstance(source, exp.Subquery) else None
        if isinstance(source, exp.Table):
            if source.name in self._columns:
                return self._columns[source.name]
            cte = binding(source)
            query = cte.this if cte is not None else None
        return [name.lower() for name in query.named_selects] if isinstance(query, exp.Query) else []

    def _begin_anew(self) -> None:
        for names in self._seen.values():
            self._before.update(names)
        self._seen = {}

    def _join(self, join: exp.Join) -> None:
        names: list[str] = join.meta.get(_USING, [])
        right = join.this.alias_or_name
        found = {name: self._side(name, join) for name in names}
        of_right = self._columns_of(join.this)
        for name in names:
            if name not in of_right:
                raise self._error(f"USING ({name}): {right!r} has no such column", "write the condition with ON", join)
        if names:
            equal = [
                exp.EQ(this=found[name].value(name), expression=exp.column(name, table=right, quoted=True))
                for name in names
            ]
            join.set("on", exp.and_(*equal, copy=False))
        elif join.args.get("on") is not None:
            self._replace_in(join.args["on"], join)
        if join.is_semi_or_anti_join:
            return
        self._see(join.this)
        side = str(join.side or "").upper()
        for name, left in found.items():
            primary = {"RIGHT": right, "FULL": ""}.get(side, left.primary)
            self._merged[name] = _Merged((*left.tables, right), primary)

    def _side(self, name: str, node: exp.Expr) -> _Merged:
        """The column on the left side of a join."""
        if name in self._before:
            raise self._error(
                f"USING ({name}) after a comma: {name!r} is in a table before the comma too",
                "write the condition with ON and say which is meant",
                node,
            )
        if name in self._merged:
            return self._merged[name]
        owners = [table for table, names in self._seen.items() if name in names]
        if len(owners) != 1:
            what = f"it is in {' and in '.join(map(repr, owners))}" if owners else "no table before it has it"
            raise self._error(f"USING ({name}): {what}", "write the condition with ON and say which is meant", node)
        return _Merged((owners[0],), owners[0])

    def _replace_in(self, node: exp.Expr, join: exp.Join | None = None) -> None:
        """What the resolver made of merged columns, as they are here: in the condition of a join as far as that."""
        joins = self._select.args["joins"]
        tables = {source.alias_or_name for source in (self._select.args["from_"].this, *(one.this for one in joins))}
        for made in [one for one in node.find_all(exp.Coalesce) if _OWN not in one.meta]:
            parts = [made.this, *made.expressions]
            names = {part.name for part in parts if isinstance(part, exp.Column)}
            if len(names) != 1 or not {part.table for part in parts} <= tables:
                continue
            name = names.pop()
            left = self._merged.get(name) or self._side(name, join or made)
            made.replace(left.value(name))

    def _put_merged(self, part: exp.Expr) -> None:
        """In HAVING and QUALIFY the resolver leaves names without a table as they are: an output's, or a merged column's.
        Where an output has the name too, the column is meant, as DuckDB has it; but under GROUP BY ALL the output."""
        group = self._select.args.get("group")
        of_outputs = self._select.named_selects if group is not None and group.args.get("all") else []
        for column in list(part.find_all(exp.Column)):
            name = column.name.lower()
            if column.table or name not in self._merged or column.find_ancestor(exp.Query) is not self._select:
                continue
            merged = self._merged[name].value(name)
            shown = [one.unalias() for one in self._select.expressions if one.alias_or_name == name]
            if name not in of_outputs or merged in shown:
                column.replace(merged)

    def _error(self, message: str, mend: str, node: exp.Expr) -> DefinitionError:
        return _error(message, mend, node, self._place, self._line)
