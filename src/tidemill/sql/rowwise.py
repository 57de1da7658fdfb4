"""The row-wise delta rule: which queries treat every input row by itself, and how such a query runs over changes.

Rules of this file:
  * row-wise is a filter, projection or unnest over ONE input: each output row belongs to one input row;
  * the reason why a query is not row-wise is a sentence a person understands: `plan` shows it;
  * an output row's identity is _parent, the input row; where a row can have several outputs (unnest) with _ordinal, its
    position among them, ordered by content, so that it does not depend on how the engine happened to run.

Theory: a row-wise query distributes over union of its input, so running it over the removed rows gives exactly the
removed outputs, over the added rows the added ones. To know whose they are, `_rid` is handed up the chain of SELECTs.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.functions import LISTS, told_name, written_name
from tidemill.sql.keys import is_aggregate
from tidemill.sql.resolve import INPUT
from tidemill.sql.scope import binding

__all__ = ["ORDINAL", "PARENT", "RID", "reason_not_rowwise", "unnest_reason", "with_lineage"]

RID, PARENT, ORDINAL = "_rid", "_parent", "_ordinal"

_CLAUSES = {
    "distinct": "it removes duplicates (DISTINCT), which compares rows",
    "group": "it groups rows (GROUP BY)",
    "having": "it aggregates rows (HAVING)",
    "qualify": "it filters on a window function (QUALIFY)",
    "limit": "it takes a number of rows (LIMIT)",
    "offset": "it skips a number of rows (OFFSET)",
    "laterals": "it joins a lateral subquery",
    "connect": "it is recursive",
}


def reason_not_rowwise(tree: exp.Query, resolved: bool) -> str:
    """Why the query has to be recomputed, or '' when it treats every row by itself."""
    inputs = [table for table in tree.find_all(exp.Table) if table.name.startswith(INPUT)]
    if len(inputs) != 1:
        return "it reads no input" if not inputs else "it combines more than one input"
    for node in tree.walk():
        reason = _reason(node, resolved)
        if reason:
            return reason
    if _chain(tree) is None:
        return "its rows do not come straight from its input"
    return ""


def _reason(node: exp.Expr, resolved: bool) -> str:
    if isinstance(node, exp.SetOperation):
        return f"it combines queries ({node.key.upper()})"
    if isinstance(node, exp.Window):
        return "it uses a window function, which looks at other rows"
    if isinstance(node, exp.Func) and is_aggregate(node):
        return f"it aggregates rows ({told_name(node)})"
    clause = _clause(node) if isinstance(node, exp.Select | exp.Subquery) else ""
    if clause or isinstance(node, exp.Select):
        return clause
    if isinstance(node, exp.Join):
        return "" if _is_plain_unnest(node) else "it joins"
    if isinstance(node, exp.Pivot):
        return "it pivots"
    if isinstance(node, exp.Query) and not isinstance(node.parent, exp.From | exp.CTE | exp.Subquery) and node.parent:
        return "it has a subquery in an expression"
    if isinstance(node, exp.Exists) or (isinstance(node, exp.In) and node.args.get("query")):
        return "it has a subquery in an expression"
    if isinstance(node, exp.Star | exp.Columns) and not isinstance(node.parent, exp.Count):
        return "its columns are not known yet" if not resolved else "its columns are chosen by a pattern"
    if isinstance(node, exp.Explode | exp.Unnest):
        return unnest_reason(node)
    if isinstance(node, exp.Table) and not isinstance(node.this, exp.Identifier):
        return "it reads a table function"
    return ""


def _clause(node: exp.Expr) -> str:
    """What a SELECT does to more than one row at a time; a query in parentheses can have a LIMIT of its own."""
    return next((why for clause, why in _CLAUSES.items() if node.args.get(clause)), "")


def _is_plain_unnest(join: exp.Join) -> bool:
    return isinstance(join.this, exp.Unnest) and str(join.side or "").upper() in ("", "LEFT") and not join.method


def unnest_reason(node: exp.Expr) -> str:
    """Why an unnest does not simply make rows of one list, '' when it does."""
    arguments = [part for part in node.iter_expressions() if not isinstance(part, exp.TableAlias)]
    if len(arguments) != 1 or isinstance(arguments[0], exp.PropertyEQ | exp.Kwarg):
        return "it unnests with options, or several lists at once"
    if isinstance(node, exp.Explode) and not _is_list(arguments[0]):
        return "it unnests a value that is not known to be a list (a struct would become columns)"
    return ""


def _is_list(expression: exp.Expr) -> bool:
    if isinstance(expression, exp.Paren):
        return _is_list(expression.this)
    if isinstance(expression, exp.Array):
        return True
    kind = expression.type
    if kind is not None and kind.is_type(exp.DType.ARRAY, exp.DType.LIST):
        return True
    return isinstance(expression, exp.Func) and written_name(expression) in LISTS


def _chain(tree: exp.Expr) -> list[exp.Select] | None:
    """The SELECTs from the outermost to the one that reads the input, each the only source of the one before."""
    chain: list[exp.Select] = []
    while True:
        while isinstance(tree, exp.Subquery):
            tree = tree.this
        if not isinstance(tree, exp.Select) or tree.args.get("from_") is None:
            return None
        chain.append(tree)
        source = tree.args["from_"].this
        if isinstance(source, exp.Table):
            if source.name.startswith(INPUT):
                return chain
            cte = binding(source)
            if cte is None:
                return None
            tree = cte.this
        elif isinstance(source, exp.Subquery):
            tree = source.this
        else:
            return None


def with_lineage(tree: exp.Query) -> exp.Query:
    """The row-wise query that also gives `_parent` (the input row), and `_ordinal` where a row can have several outputs.

    A column that is the same in every row would cost each run the time to bind it: a third of a small statement's.
    """
    tree = tree.copy()
    chain = _chain(tree)
    assert chain is not None, "only row-wise queries have a lineage"
    for depth, select in reversed(list(enumerate(chain))):
        source = select.args["from_"].this.alias_or_name
        name = PARENT if depth == 0 else RID
        select.append("expressions", exp.alias_(exp.column(RID, table=source, quoted=True), name, quoted=True))
    return _numbered(tree) if tree.find(exp.Explode, exp.Unnest) else tree


def _numbered(tree: exp.Query) -> exp.Select:
    names = [name for name in tree.named_selects if name != PARENT]
    columns = [exp.column(name, table="_out", quoted=True) for name in names]
    order = exp.Order(expressions=[exp.Ordered(this=column.copy()) for column in columns])
    parent = exp.column(PARENT, table="_out", quoted=True)
    number = exp.Window(this=exp.RowNumber(), partition_by=[parent.copy()], order=order, over="OVER")
    ordinal = exp.alias_(exp.Sub(this=number, expression=exp.Literal.number(1)), ORDINAL, quoted=True)
    inner = exp.Subquery(this=tree, alias=exp.TableAlias(this=exp.to_identifier("_out", quoted=True)))
    return exp.Select(expressions=[*columns, parent, ordinal], from_=exp.From(this=inner))
