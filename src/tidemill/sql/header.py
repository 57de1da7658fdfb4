"""The header of a SQL job: the leading block of `-- word: value` lines, read before anything is parsed.

Rules of this file:
  * only the leading block counts: it ends at the first line that is neither blank nor a `--` comment;
  * a header line is `-- word: value` with one identifier-like word; any other comment in the block is prose;
  * a word stands once, but for `assert`, whose values are kept together;
  * an unknown word is an error that names the line and the nearest known word, never ignored: a typo in
    `materialised:` must not silently build a table where a view was meant;
  * words are read here, not understood: what a value means is decided by whoever owns the word.

Theory: one pass over lines. The body keeps its text untouched and knows the line it starts on, so that every later
error can name a line of the file the user edits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from tidemill.core.errors import DefinitionError

__all__ = ["HEADER_WORDS", "REPEATED", "Header", "Word", "parse_header"]

HEADER_WORDS: frozenset[str] = frozenset(
    """output mode materialized key when schedule every on after gate deadline on_missing on_late on_error retries
    timeout isolation max_changes priority freshness start_from on_backfill hold_above description owner tags version takes
    assert reconcile compare""".split()
)
_MAY_REPEAT = frozenset({"assert"})
REPEATED = "\x1f"
"""Between the values of a word that may stand on several lines."""

# A value that starts with `//` is a web address and one that starts with `:` a cast: both are prose.
_HEADER_LINE = re.compile(r"\s*--+\s*([A-Za-z_][\w-]*)\s*:(?!//|:)\s*(.*)$")


@dataclass(frozen=True, slots=True)
class Word:
    """One header value and the line of the file it stands on."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Header:
    """The words of a SQL file, and the SQL below them (`body` starts on line `body_line` of the file)."""

    words: dict[str, Word]
    body: str
    body_line: int

    def get(self, word: str, default: str = "") -> str:
        """The value of a word, or the default when the header does not say it."""
        found = self.words.get(word)
        return found.value if found else default


def parse_header(text: str, place: str) -> Header:
    """Split a SQL file into header words and body. Raises DefinitionError for an unknown, doubled or empty word."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    end = _block_length(lines)
    words: dict[str, Word] = {}
    for name, word in _header_lines(lines[:end]):
        _admit(name, word, words, place)
        before = words.get(name)
        words[name] = word if before is None else Word(f"{before.value}{REPEATED}{word.value}", before.line)
    return Header(words, "\n".join(lines[end:]), end + 1)


def _block_length(lines: list[str]) -> int:
    """How many lines the leading block of blank lines and `--` comments has."""
    for index, line in enumerate(lines):
        stripped = line.strip()
        if stripped and not stripped.startswith("--"):
            return index
    return len(lines)


def _header_lines(lines: list[str]) -> Iterator[tuple[str, Word]]:
    for number, line in enumerate(lines, start=1):
        if match := _HEADER_LINE.match(line):
            yield match[1].lower(), Word(match[2].strip(), number)


def _admit(name: str, word: Word, words: dict[str, Word], place: str) -> None:
    """Raise unless this header line may stand: known, said once, and saying something."""
    where = f"{place}:{word.line}"
    if name not in HEADER_WORDS:
        nearest = get_close_matches(name.replace("-", "_"), sorted(HEADER_WORDS), n=1, cutoff=0.6)
        mend = f"write `-- {nearest[0]}: ...`" if nearest else f"the words are {', '.join(sorted(HEADER_WORDS))}"
        raise DefinitionError(
            f"unknown header word {name!r}", place=where, mend=f"{mend}; for a plain comment, leave out the colon"
        )
    if name in words and name not in _MAY_REPEAT:
        raise DefinitionError(
            f"header word {name!r} stands twice, first on line {words[name].line}", place=where, mend="keep one of them"
        )
    if not word.value:
        raise DefinitionError(f"header word {name!r} has no value", place=where, mend="give it one, or drop the line")
