"""Every name in a query is made to mean exactly one thing: a column of one relation of one input.

Rules of this file:
  * input tables become placeholders `"@input:<asset>"` under the name the query knows them by, so that no CTE can
    capture them and the store can put in whatever relation a run reads;
  * names do not depend on case; stars are expanded from the schemas; hidden columns do not exist for users;
  * an unknown or ambiguous name is an error with file, line and the nearest known name.

Theory: sqlglot's `qualify` does the work on placeholders with a schema made for this query. What it cannot decide
(an input whose columns nobody knows yet) leaves the query as written, only normalised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.qualify_columns import quote_identifiers
from sqlglot.schema import MappingSchema

from tidemill.core.errors import DefinitionError
from tidemill.sql.parse import VIEW, line_of
from tidemill.sql.scope import binding
from tidemill.sql.using import mark_using, settle_using

__all__ = ["HIDDEN", "INPUT", "Schemas", "data_type", "is_hidden", "name_inputs", "resolve"]

Schemas = Mapping[str, Mapping[str, str] | None]

INPUT = "@input:"
HIDDEN = ("_rid", "_parent", "_ordinal", "_from", "_until", "_offset")


def is_hidden(column: str) -> bool:
    """Whether a column name belongs to tidemill: users neither see nor make such columns."""
    return column.lower().startswith(HIDDEN)


def name_inputs(tree: exp.Query, names: Iterable[str], place: str, line: int = 1) -> tuple[str, ...]:
    """Turn every input table into its placeholder; the inputs in order of first appearance, as the catalogue spells
    them. Raises for a name that nothing answers to."""
    catalogue = {name.lower(): name for name in names}
    found: dict[str, int] = {}
    for table in list(tree.find_all(exp.Table)):
        if not isinstance(table.this, exp.Identifier) or binding(table) is not None:
            continue
        asset = catalogue.get(table.name.lower())
        if asset is None:
            raise _unknown_table(table, catalogue, place, line)
        start = int(table.this.meta.get("start", 0))
        found[asset] = min(start, found.get(asset, start))
        _placeholder(table, asset)
    return tuple(sorted(found, key=found.__getitem__))


def _placeholder(table: exp.Table, asset: str) -> None:
    if table.args.get("alias") is None:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))
    elif not table.alias:
        table.args["alias"].set("this", exp.to_identifier(table.name, quoted=True))
    identifier = exp.to_identifier(INPUT + asset.lower(), quoted=True)
    identifier.meta.update(table.this.meta)
    table.set("this", identifier)


def _unknown_table(table: exp.Table, catalogue: Mapping[str, str], place: str, line: int) -> DefinitionError:
    nearest = get_close_matches(table.name.lower(), catalogue, n=1, cutoff=0.5)
    return DefinitionError(
        f"the query reads {table.name!r}, and no asset has that name",
        place=f"{place}:{line_of(table, line)}",
        mend=f"did you mean {catalogue[nearest[0]]!r}?"
        if nearest
        else "declare the asset, or write the job that makes it",
    )


def resolve(tree: exp.Query, schemas: Schemas, place: str, line: int = 1) -> tuple[exp.Query, MappingSchema | None]:
    """The query with every column qualified, and the schema of its inputs; None when an input's columns are not known
    yet, and names stay as written. `tree` holds placeholders and is used up."""
    columns = {asset.lower(): schemas[asset] for asset in schemas}
    used = {table.name for table in tree.find_all(exp.Table) if table.name.startswith(INPUT)}
    known = {name: columns[name.removeprefix(INPUT)] for name in used}
    if any(not schema for schema in known.values()):
        return _normalised(tree), None
    schema = _schema(known)
    mark_using(tree, place, line)
    try:
        tree = qualify(tree, dialect="duckdb", schema=schema)
    except OptimizeError as error:
        raise _failure(error, tree, known, place, line) from error
    shown = {name: [*_visible(columns)] for name, columns in known.items()}
    return settle_using(tree, shown, place, line), schema


def _normalised(tree: exp.Query) -> exp.Query:
    normalize_identifiers(tree, dialect="duckdb")
    return quote_identifiers(tree, dialect="duckdb", identify=True)


def _schema(known: Mapping[str, Mapping[str, str] | None]) -> MappingSchema:
    mapping = {name: _visible(schema) for name, schema in known.items()}
    return MappingSchema(mapping, dialect="duckdb", normalize=False)  # type: ignore[arg-type]


def _visible(schema: Mapping[str, str] | None) -> dict[str, exp.DataType]:
    return {column.lower(): data_type(kind) for column, kind in (schema or {}).items() if not is_hidden(column)}


@lru_cache(maxsize=4096)
def data_type(text: str) -> exp.DataType:
    """A DuckDB type as sqlglot has it; a type it cannot read is an unknown one."""
    try:
        return exp.DataType.build(text, dialect="duckdb")
    except SqlglotError:
        return exp.DataType.build("unknown")


_UNRESOLVED = re.compile(r"Column '(.+?)' could not be resolved(?: for table: '(.+?)')?")
_UNKNOWN = re.compile(r"Unknown (column|table): (.+)")
_AMBIGUOUS = re.compile(r"mbiguous column '?(.+?)'?(?:\s|$)")

Known = Mapping[str, Mapping[str, str] | None]


def _failure(error: OptimizeError, tree: exp.Query, known: Known, place: str, line: int) -> DefinitionError:
    """sqlglot's complaint as an error of ours: which name, where, and what is near."""
    text = str(error)
    unresolved, unknown, ambiguous = _UNRESOLVED.search(text), _UNKNOWN.search(text), _AMBIGUOUS.search(text)
    if unresolved and unresolved[2]:
        return _unknown_relation(unresolved[2], tree, place, line)
    if unknown and unknown[1] == "table":
        return _unknown_relation(unknown[2], tree, place, line)
    name = next((match[group] for match, group in ((unresolved, 1), (unknown, 2), (ambiguous, 1)) if match), "")
    where = f"{place}:{_line_of_name(tree, name, line)}"
    if not name:
        return DefinitionError(f"the query does not resolve: {text}", place=where, mend="name the columns it needs")
    owners = [alias for alias, columns in _relations(tree, known) if name in columns]
    if not unknown and len(owners) > 1:
        return DefinitionError(
            f"column {name!r} is ambiguous: it is in {' and in '.join(owners)}",
            place=where,
            mend=f"say which is meant, such as {owners[0]}.{name}",
        )
    choices = {column for _, columns in _relations(tree, known) for column in columns} - {name}
    return DefinitionError(f"unknown column {name!r}{_in_view(tree, name)}", place=where, mend=_nearest(name, choices))


def _unknown_relation(name: str, tree: exp.Query, place: str, line: int) -> DefinitionError:
    choices: dict[str, str] = {}
    for relation in tree.find_all(exp.Table, exp.Subquery, exp.Unnest):
        alias = relation.alias_or_name
        choices |= {alias: alias, relation.name.removeprefix(INPUT): alias}
    choices = {key: alias for key, alias in choices.items() if key and alias and alias != name}
    nearest = get_close_matches(name, sorted(choices), n=1, cutoff=0.5)
    return DefinitionError(
        f"a column is asked of {name!r}, which FROM does not name",
        place=f"{place}:{_line_of_name(tree, name, line)}",
        mend=f"did you mean {choices[nearest[0]]!r}?" if nearest else f"there are: {', '.join(sorted(choices))}",
    )


def _relations(tree: exp.Query, known: Known) -> list[tuple[str, list[str]]]:
    """The relations that the query names, each with the columns that are known of it."""
    found: list[tuple[str, list[str]]] = []
    for relation in tree.find_all(exp.Table, exp.Subquery, exp.CTE):
        if isinstance(relation, exp.Table):
            names = [column.lower() for column in known.get(relation.name) or {} if not is_hidden(column)]
        else:
            names = [name.lower() for name in relation.this.named_selects]
        if names and relation.alias_or_name:
            found.append((relation.alias_or_name, names))
    return found


def _line_of_name(tree: exp.Query, name: str, line: int) -> int:
    for column in tree.find_all(exp.Column):
        if name.lower() in (column.name.lower(), column.table.lower()):
            return line_of(column, line)
    return line_of(tree, line)


def _in_view(tree: exp.Query, name: str) -> str:
    """Says which view a name stands in, where it stands in one."""
    named = [column for column in tree.find_all(exp.Column) if column.name.lower() == name.lower()]
    views = {column.this.meta.get(VIEW) for column in named}
    return f" in view {views.pop()}" if len(views) == 1 and views != {None} else ""


def _nearest(name: str, choices: set[str]) -> str:
    nearest = get_close_matches(name, sorted(choices), n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(sorted(choices))}"
