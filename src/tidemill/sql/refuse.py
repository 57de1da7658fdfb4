"""What a SQL job must not say, because its answer would depend on something other than its inputs.

Rules of this file:
  * a refusal names the thing, the reason and the mend; it never guesses a meaning and goes on;
  * time comes from the event, or from a clock asset that ticks: a query that asks the wall clock has another answer
    in a nightly run than in a realtime run, so nothing could ever reconcile it;
  * order comes from ORDER BY: rows of a table have none, so `first(x)` or LIMIT alone pick by accident;
  * a collation makes different texts equal, and clings to what is made of its value: of a group of such texts the one
    that came first would stand for all. It orders, and compares with what is written in the query, and nothing else;
  * each check looks at one node and needs no schema: the walk that finds the inputs runs them on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.functions import INEXACT_MACROS, ORDER_BOUND, VOLATILE, name_of, told_name
from tidemill.sql.parse import line_of

__all__ = ["Refusal", "refusal_of"]

_CLOCK = (
    "use a time column of the input, or a clock asset, whose ticks are changes: declare [assets.clock] with "
    'kind = "clock", every = "1h", and read its row: '
    "select ... from orders, clock where ordered_at > clock.now - interval 7 days"
)
_MENDS = {
    "time": (
        "the result would depend on when the job runs",
        _CLOCK,
    ),
    "chance": (
        "the result would differ each time the same rows are computed",
        "derive it from the row, such as md5(key) or hash(key)",
    ),
    "sequence": (
        "the result would depend on how often the job ran",
        "number rows with row_number() over (order by ...), or use the key",
    ),
    "session": ("the result would depend on the session it runs in", "write the value itself"),
}

# Window functions that get the whole row as their order where the query gives none.
_BY_PLACE = frozenset("first_value last_value nth_value".split())

# Functions that put a list in order: below them, the order in which it was gathered cannot be seen.
_SORTERS = frozenset("list_sort array_sort list_reverse_sort array_reverse_sort sort_array len array_length".split())

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a query cannot be a job: `message` says it, `mend` says what to write instead, `line` where it stands."""

    message: str
    mend: str
    line: int

    def error(self, place: str) -> DefinitionError:
        """The refusal as the error that stops the definition from loading."""
        return DefinitionError(self.message, place=f"{place}:{self.line}", mend=self.mend)


def refusal_of(node: exp.Expr, line: int = 1) -> Refusal | None:
    """The refusal that this one node deserves, or None. `line` is the file's line on which the text starts."""
    if isinstance(node, exp.Collate):
        found = _collation(node)
    elif isinstance(node, exp.Func):
        found = _function(node)
    elif isinstance(node, exp.Query):
        found = _query(node)
    elif isinstance(node, exp.TableSample):
        found = ("SAMPLE takes other rows each time", "filter on a hash of the key: hash(key) % 10 = 0")
    elif isinstance(node, exp.Join):
        found = _join(node)
    else:
        found = None
    return Refusal(*found, line_of(node if node.parent is None else _located(node), line)) if found else None


def _located(node: exp.Expr) -> exp.Expr:
    """The node itself if an identifier below it knows its line, else the nearest one above that does."""
    here: exp.Expr | None = node
    while here is not None:
        if any("line" in part.meta for part in here.walk()):
            return here
        here = here.parent
    return node


def _function(node: exp.Func) -> tuple[str, str] | None:
    name = name_of(node)
    kind = VOLATILE.get(name)
    if kind is not None:
        reason, mend = _MENDS[kind]
        return f"{name}() is refused: {reason}", mend
    if name in INEXACT_MACROS:
        return f"{name}() adds in floating point in an order that changes", f"write {INEXACT_MACROS[name]}"
    if name in ORDER_BOUND and not _is_ordered(node):
        told = told_name(node)
        return (
            f"{told}() without an ORDER BY inside depends on the order in which rows arrive",
            f"write {told}({_argument(node)} order by ...), or use min, max or arg_max",
        )
    if isinstance(node, exp.Array) and _is_unordered_query(node.expressions):
        return "array(select ...) without ORDER BY has no defined order", "add an ORDER BY inside, or sort the list"
    return None


def _argument(node: exp.Expr) -> str:
    inner = node.this if isinstance(node.this, exp.Expr) else None
    return inner.sql(dialect="duckdb") if isinstance(inner, exp.Column) else "..."


def _is_ordered(node: exp.Expr) -> bool:
    """Whether an order-bound aggregate has its order: inside, as WITHIN GROUP, from a window, or sorted afterwards."""
    if node.find(exp.Order):
        return True
    parent = node.parent
    while isinstance(parent, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        parent = parent.parent
    if isinstance(parent, exp.Window):
        return bool(parent.args.get("order") or parent.args.get("alias")) or name_of(node) in _BY_PLACE
    if isinstance(parent, exp.WithinGroup):
        return True
    return isinstance(parent, exp.Func) and name_of(parent) in _SORTERS


def _is_unordered_query(parts: list[exp.Expr]) -> bool:
    return len(parts) == 1 and isinstance(parts[0], exp.Query) and not parts[0].args.get("order")


def _query(node: exp.Query) -> tuple[str, str] | None:
    arguments = node.args
    if (arguments.get("limit") or arguments.get("offset")) and not arguments.get("order"):
        return "LIMIT without ORDER BY picks rows by accident", "add the ORDER BY that says which rows are meant"
    distinct = arguments.get("distinct")
    if isinstance(distinct, exp.Distinct) and distinct.args.get("on") and not arguments.get("order"):
        return "DISTINCT ON without ORDER BY picks rows by accident", "add an ORDER BY that says which row is kept"
    return None


def _collation(node: exp.Collate) -> tuple[str, str] | None:
    """Fine as a key of ORDER BY, and beside constants in a comparison: neither shows the collated value."""
    value: exp.Expr = node
    while isinstance(value.parent, exp.Paren):
        value = value.parent
    around = value.parent
    if isinstance(around, exp.Ordered):
        return None
    if isinstance(around, _COMPARISONS):
        others = [part for part in around.iter_expressions() if part is not value]
        if not any(part.find(exp.Column, exp.Query) for part in others):
            return None
    return (
        "COLLATE outside of ORDER BY makes different texts equal, and the order of the rows would say which one is shown",
        f"make the texts equal yourself: lower({_argument(node)}) for NOCASE, strip_accents(...) for NOACCENT",
    )


def _join(node: exp.Join) -> tuple[str, str] | None:
    method = str(node.args.get("method") or "").upper()
    if method == "POSITIONAL":
        return "POSITIONAL JOIN pairs rows by their order, and rows of a table have none", "join on a column"
    if method == "NATURAL":
        return (
            "NATURAL JOIN changes its meaning when an input gets a column",
            "name the columns: join ... using (column)",
        )
    return None
