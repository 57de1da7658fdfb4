"""One look at a query: which inputs it reads, what it must not say, and what it is made of.

Rules of this file:
  * inputs are read from the SQL itself; that *is* the object mapping, nobody maintains it by hand;
  * inputs are listed in order of first appearance, spelled as in the query; matching them to assets (which does not
    depend on case) is the reader's business, for only it knows the assets;
  * what can be refused without knowing schemas is refused here, so that `check` says it before anything runs;
  * the result is small and plain, and survives JSON: a project of ten thousand jobs starts warm without parsing.

Theory: parse once, walk once. The walk dispatches on the node's class; every class that matters has one short handler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.functions import AGGREGATES, FREE_TABLE_FUNCTIONS, name_of
from tidemill.sql.parse import PARSER_VERSION, compact, line_of
from tidemill.sql.refuse import Refusal, refusal_of
from tidemill.sql.scope import binding

__all__ = ["ANALYSIS_VERSION", "Query", "analyse", "analyse_tree"]

# Changes when the meaning of a stored Query changes: a cache written by another version is parsed anew.
ANALYSIS_VERSION = f"4/{PARSER_VERSION}"

_FILE_LIKE = re.compile(r"[/\\*]|://|\.(csv|tsv|json|ndjson|jsonl|parquet|xlsx|arrow|db|duckdb|gz|zst)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Query:
    """What one look at a query shows.

    `inputs` maps to the line of first appearance; `hints` names what the query is made of (join, aggregate, window,
    distinct, limit, set_operation, subquery, unnest, pivot, star, cte); `text` is the SQL without comments and layout,
    `meaning` the same for texts that mean the same.
    """

    inputs: tuple[str, ...]
    lines: tuple[int, ...]
    hints: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    text: str
    meaning: str = ""

    def check(self, place: str) -> None:
        """Raise the first refusal, if there is one."""
        for refusal in self.refusals:
            raise refusal.error(place)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, with the version that a reader must compare."""
        return {
            "version": ANALYSIS_VERSION,
            "inputs": list(self.inputs),
            "lines": list(self.lines),
            "hints": list(self.hints),
            "refusals": [[refusal.message, refusal.mend, refusal.line] for refusal in self.refusals],
            "text": self.text,
            "meaning": self.meaning,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Query | None:
        """The stored query, or None when another version stored it."""
        if data.get("version") != ANALYSIS_VERSION:
            return None
        return cls(
            inputs=tuple(data["inputs"]),
            lines=tuple(data["lines"]),
            hints=tuple(data["hints"]),
            refusals=tuple(Refusal(*parts) for parts in data["refusals"]),
            text=data["text"],
            meaning=data["meaning"],
        )


@dataclass(slots=True)
class _Look:
    """What the walk has gathered so far."""

    place: str
    line: int
    tables: list[exp.Table] = field(default_factory=list)
    hints: set[str] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)


def analyse(sql: str, place: str, line: int = 1) -> Query:
    """Inputs, refusals and hints of the one query in `sql`, which starts on `line` of the file `place`."""
    tree, text, meaning = compact(sql, place, line)
    return analyse_tree(tree, place, line, text, meaning)


def analyse_tree(tree: exp.Query, place: str, line: int = 1, text: str = "", meaning: str = "") -> Query:
    """The same for a tree that is already parsed."""
    look = _Look(place, line)
    for node in tree.walk():
        _see(node, look)
    first: dict[str, exp.Table] = {}
    for table in _in_text_order(look.tables):
        if "cte" not in look.hints or binding(table) is None:
            first.setdefault(table.name.lower(), table)
    return Query(
        inputs=tuple(table.name for table in first.values()),
        lines=tuple(line_of(table, line) for table in first.values()),
        hints=tuple(sorted(look.hints)),
        refusals=tuple(look.refusals),
        text=text,
        meaning=meaning,
    )


def _in_text_order(tables: list[exp.Table]) -> list[exp.Table]:
    return sorted(tables, key=lambda table: table.this.meta.get("start", 0)) if len(tables) > 1 else tables


def _see(node: exp.Expr, look: _Look) -> None:
    kind = type(node)
    if kind is exp.Identifier or kind is exp.Column or kind is exp.Literal:
        return
    if kind is exp.Table:
        _see_table(node, look)
        return
    hint = _HINTS.get(kind)
    if hint is not None and not (kind is exp.Star and isinstance(node.parent, exp.Count)):
        look.hints.add(hint)
    if isinstance(node, exp.Func):
        _see_function(node, look)
    elif isinstance(node, exp.Query):
        look.hints.update(_query_hints(node))
    elif not isinstance(node, exp.TableSample | exp.Join):
        return
    if refusal := refusal_of(node, look.line):
        look.refusals.append(refusal)


_HINTS: dict[type[exp.Expr], str] = {
    exp.Join: "join",
    exp.Window: "window",
    exp.With: "cte",
    exp.Unnest: "unnest",
    exp.Explode: "unnest",
    exp.Pivot: "pivot",
    exp.Star: "star",
    exp.Union: "set_operation",
    exp.Except: "set_operation",
    exp.Intersect: "set_operation",
    exp.Subquery: "subquery",
    exp.Exists: "subquery",
    exp.Lateral: "lateral",
}

_QUERY_HINTS = {
    "distinct": "distinct",
    "limit": "limit",
    "offset": "limit",
    "group": "aggregate",
    "having": "aggregate",
    "qualify": "window",
}


def _query_hints(node: exp.Query) -> Iterator[str]:
    arguments = node.args
    if isinstance(node, exp.SetOperation):
        return
    for argument, hint in _QUERY_HINTS.items():
        if arguments.get(argument):
            yield hint


def _see_function(node: exp.Func, look: _Look) -> None:
    if isinstance(node, exp.AggFunc) or name_of(node) in AGGREGATES:
        look.hints.add("aggregate")


def _see_table(table: exp.Expr, look: _Look) -> None:
    """An input, a CTE (told apart later) or an error: something that reads past the assets."""
    source = table.this
    if not isinstance(source, exp.Identifier):
        _check_table_function(source, table, look)
        return
    if table.args.get("db"):
        raise DefinitionError(
            f"{table.sql(dialect='duckdb', comments=False)!r} is qualified with a schema or database; assets have one name",
            place=_place(table, look),
            mend=f"write the name alone: `from {table.name}`, and declare that asset if it is none yet",
        )
    if _FILE_LIKE.search(table.name):
        raise DefinitionError(
            f"the query reads the file {table.name!r} past the assets, so nobody would see it change",
            place=_place(table, look),
            mend='declare it in tidemill.toml as an asset with kind = "files" and its path, and read that by name',
        )
    look.tables.append(table)  # type: ignore[arg-type]


def _check_table_function(source: exp.Expr | None, table: exp.Expr, look: _Look) -> None:
    name = name_of(source) if isinstance(source, exp.Func) else ""
    if name in ("ref", "source", "var"):
        written = source.expressions[-1].name if source is not None and source.expressions else "orders"
        raise DefinitionError(
            f"{name}(...) is templating of another tool: inputs are read from the SQL itself",
            place=_place(table, look),
            mend=f"write the name: `from {written}`",
        )
    if name and name not in FREE_TABLE_FUNCTIONS:
        raise DefinitionError(
            f"the table function {name}() reads past the assets, so nobody would see its data change",
            place=_place(table, look),
            mend="declare what it reads as an asset in tidemill.toml, and read that by name",
        )


def _place(node: exp.Expr, look: _Look) -> str:
    here: exp.Expr | None = node
    while here is not None and not any("line" in part.meta for part in here.walk()):
        here = here.parent
    return f"{look.place}:{line_of(here or node, look.line)}"
