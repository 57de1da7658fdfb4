"""Queries as data: statements in files, each under a few words about it.

A statement ends with `;` at the end of a line. Before it stand `-- word: value` lines:
  * `name`: what the query is called, unique within its set;
  * `rows`: how many rows its result must reach at least once in a history (default 5);
  * `close`: columns that may differ in their last bits (averages of decimals); `loose`: those that add up floating
    point numbers in an order that the text leaves open (see reference.py);
  * `answer`: `next` where the statement after this one is the answer to compare with: the same query with the total
    order that the product chooses where the text leaves ties open;
  * `key`: as in a job's header;
  * `defect`: what is wrong with the product today, so that the query is known to fail (and must be struck out, once
    it does not).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tidemill.sql import analyse

FOLDER = Path(__file__).parent / "queries"

CLOSE, LOOSE = 1e-12, 1e-9
_WORDS = frozenset("name rows close loose answer key defect".split())
_HEADER_LINE = re.compile(r"--\s*(\w+)\s*:\s*(.*)$")


@dataclass(frozen=True)
class Query:
    """One query of a set. `header` is what the product is told beside the text; `answer` the text to compare with."""

    name: str
    sql: str
    answer: str = ""
    rows_min: int = 5
    close: Mapping[str, float] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    defect: str = ""

    @property
    def text(self) -> str:
        """The file that a user would write."""
        lines = [f"-- {word}: {value}\n" for word, value in self.header.items()]
        return "".join(lines) + self.sql

    @property
    def expected(self) -> str:
        """The text whose answer is the right one."""
        return self.answer or self.sql

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names that it reads, in lower case."""
        return tuple(name.lower() for name in analyse(self.sql, self.name).inputs)


@cache
def queries(folder: str) -> Mapping[str, Query]:
    """The queries of a set, by name, in the order of the files."""
    found: dict[str, Query] = {}
    for path in sorted((FOLDER / folder).glob("*.sql")):
        for query in _read(path):
            assert query.name not in found, f"{path.name}: two queries are called {query.name}"
            found[query.name] = query
    return found


def _read(path: Path) -> Iterator[Query]:
    parts = [part.strip() for part in re.split(r";[ ]*(?:\n|\Z)", path.read_text(encoding="utf-8")) if part.strip()]
    statements = iter(parts)
    for statement in statements:
        words, sql = _split(statement)
        unknown = words.keys() - _WORDS
        assert not unknown, f"{path.name}: {unknown} before {sql[:40]}"
        answer = _split(next(statements))[1] if words.get("answer") == "next" else ""
        close = dict.fromkeys(_names(words.get("close")), CLOSE) | dict.fromkeys(_names(words.get("loose")), LOOSE)
        header = {"key": words["key"]} if "key" in words else {}
        rows_min = int(words.get("rows", 5))
        yield Query(words["name"], sql, answer, rows_min, close, header, words.get("defect", ""))


def _split(statement: str) -> tuple[dict[str, str], str]:
    words: dict[str, str] = {}
    lines = statement.split("\n")
    while lines and (not lines[0].strip() or lines[0].startswith("--")):
        if match := _HEADER_LINE.match(lines[0]):
            words[match[1]] = match[2].strip()
        lines.pop(0)
    return words, "\n".join(lines)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
