"""Sizes stay small, as a ratchet: what is listed may stay, nothing new may grow past the line.

A function's length is its code: its docstring, comments and blank lines are free, so nobody pays for explaining.
"""

from __future__ import annotations

import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import PACKAGE, Function, functions, name_of, python_files, tree_of

MEDIAN_MAX = 10
P95_MAX = 45
LONG = 60
LONG_SHARE_MAX = 0.02
FILE_LINES_MAX = 600

# name of the file -> why it may be longer. Empty is the aim.
LONG_FILES: dict[str, str] = {}

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines


def length(function: Function, lines: set[int]) -> int:
    """A function's lines of code, without its docstring."""
    own = set(range(function.lineno, (function.end_lineno or function.lineno) + 1)) & lines
    first = function.body[0]
    if _is_docstring(first):
        own -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(own)


def lengths() -> Iterator[tuple[int, str]]:
    """Every function of the product with its length."""
    for path in python_files(PACKAGE):
        lines = code_lines(path.read_text(encoding="utf-8"))
        for function in functions(tree_of(path)):
            yield length(function, lines), f"{name_of(path)}:{function.lineno} {function.name}"


def longest(count: int) -> str:
    """The functions to shorten first."""
    return "\n".join(f"{size:4d}  {name}" for size, name in sorted(lengths(), reverse=True)[:count])


def test_the_median_function_is_short() -> None:
    assert statistics.median(size for size, _ in lengths()) <= MEDIAN_MAX


def test_nearly_every_function_fits_on_a_screen() -> None:
    sizes = sorted(size for size, _ in lengths())
    assert sizes[int(len(sizes) * 0.95)] <= P95_MAX, longest(20)


def test_long_functions_are_rare() -> None:
    sizes = [size for size, _ in lengths()]
    long = sum(size > LONG for size in sizes)
    assert long <= len(sizes) * LONG_SHARE_MAX, longest(20)


def test_no_file_is_too_long() -> None:
    long = {name_of(path) for path in python_files(PACKAGE) if _line_count(path) > FILE_LINES_MAX}
    assert long - LONG_FILES.keys() == set()


def test_the_list_of_long_files_only_shrinks() -> None:
    """An exception that is no longer needed must be struck out."""
    long = {name_of(path) for path in python_files(PACKAGE) if _line_count(path) > FILE_LINES_MAX}
    assert LONG_FILES.keys() - long == set()


def test_the_measure_counts_code_only() -> None:
    source = 'def add(a, b):\n    """Add.\n\n    Twice.\n    """\n    # why\n\n    return (\n        a + b\n    )\n'
    function = functions(ast.parse(source))[0]
    assert length(function, code_lines(source)) == 4


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
