"""The `when` of a job: which of its inputs must have news.

Rules of this file:
  * a condition is `any`, `all`, `each`, or an expression over input names with `&`, `|` and parentheses;
  * `&` binds tighter than `|`; a name with other signs than letters, digits, `_`, `-`, `.` is not a name;
  * parsing knows nothing of jobs; `names` says which inputs an expression speaks of, so that the loader can check.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tidemill.core.errors import DefinitionError

__all__ = ["WORDS", "Condition", "holds", "names", "parse"]

WORDS = ("any", "all", "each")
_TOKEN = re.compile(r"\s*(?:([A-Za-z0-9_.\-]+)|([&|()]))")


@dataclass(frozen=True, slots=True)
class Condition:
    """A node: an input's name, or `&` / `|` over parts."""

    operator: str
    name: str = ""
    parts: tuple[Condition, ...] = ()


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text)
        tokens.append(match.group(1) or match.group(2))
        at = match.end()
    return tokens


def _wrong(text: str) -> DefinitionError:
    return DefinitionError(
        f"`when: {text}` is not a condition", mend="write any, all, each, or input names joined by & and |"
    )


def parse(text: str) -> Condition:
    """Parse an expression such as `orders & (stock | prices)`. Raises DefinitionError."""
    tokens = _tokens(text)
    condition, at = _either(tokens, 0, text)
    if at != len(tokens):
        raise _wrong(text)
    return condition


def _either(tokens: list[str], at: int, text: str) -> tuple[Condition, int]:
    return _chain(tokens, at, text, "|")


def _chain(tokens: list[str], at: int, text: str, operator: str) -> tuple[Condition, int]:
    parts = []
    while True:
        part, at = _chain(tokens, at, text, "&") if operator == "|" else _atom(tokens, at, text)
        parts.append(part)
        if at >= len(tokens) or tokens[at] != operator:
            return (parts[0] if len(parts) == 1 else Condition(operator, parts=tuple(parts))), at
        at += 1


def _atom(tokens: list[str], at: int, text: str) -> tuple[Condition, int]:
    if at >= len(tokens) or tokens[at] in ("&", "|", ")"):
        raise _wrong(text)
    if tokens[at] != "(":
        return Condition("", name=tokens[at]), at + 1
    inner, at = _either(tokens, at + 1, text)
    if at >= len(tokens) or tokens[at] != ")":
        raise _wrong(text)
    return inner, at + 1


def names(condition: Condition) -> tuple[str, ...]:
    """Every input name the expression speaks of, in order of appearance."""
    found = (condition.name,) if condition.name else ()
    return found + tuple(name for part in condition.parts for name in names(part))


def holds(condition: Condition, news: Collection[str]) -> bool:
    """Whether the expression is true when exactly these inputs have news."""
    if condition.name:
        return condition.name in news
    check = all if condition.operator == "&" else any
    return check(holds(part, news) for part in condition.parts)
