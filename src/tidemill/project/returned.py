"""What a function's text shows that it returns, where it writes several assets and must name each.

Rules of this file:
  * only what is sure to fail is told: a dict whose keys stand there and are no outputs, and a list;
  * what cannot be foreseen is left to the run, which names the row.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["misnamed"]

_LISTS = (ast.List, ast.ListComp, ast.Tuple)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def misnamed(function: Callable[..., Any], outputs: Sequence[str]) -> Iterator[tuple[int, str]]:
    """What the function returns without naming the output it is for: the line in its file, and what it is in words."""
    if len(outputs) < 2 or hasattr(function, "__wrapped__"):  # a wrapper may name what it is given
        return
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    for found in _returns(tree.body[0]):
        what = _wrong(found.value, outputs)
        if what:
            yield first + found.lineno - 1, what


def _returns(scope: ast.AST) -> Iterator[ast.Return]:
    """The returns of a function, and of no other within it."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, _SCOPES):
            yield from _returns(node)


def _wrong(value: ast.expr | None, outputs: Sequence[str]) -> str:
    if isinstance(value, _LISTS):
        return "a list"
    if not isinstance(value, ast.Dict):
        return ""
    keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
    others = [str(key) for key in keys if key not in outputs]
    return f"a dict with {', '.join(others)}" if others else ""
