"""Cases of the fuzzer: a seed says the schema, the queries and the history; what fails is made as small as it gets.

Rules of this file:
  * a query that DuckDB itself does not take is the grammar's fault and counts as invalid; one that tidemill refuses with
    a reason counts as refused; both shares are bounded by the tests; everything else that goes wrong is a failure;
  * shrinking tries one thing at a time and keeps what still fails: one query alone, one lane, fewer change sets, fewer
    rows, fewer clauses.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import duckdb
import pyarrow as pa

from tests.incremental.bench import MEMORY, Bench
from tests.incremental.fuzz.grammar import Grammar
from tests.incremental.fuzz.schema import random_bases, rows_of
from tests.incremental.fuzz.tree import Tree, smaller
from tests.incremental.history import LATE, MICROBATCH, REALTIME, SWITCHING, BenchType, History, Report
from tests.incremental.queries import Query
from tests.incremental.reference import Reference
from tests.incremental.tables import Base, ChangeSet, Edit
from tidemill.core.errors import DefinitionError

QUERIES_EACH = 4
STEPS = 7
ROWS_MIN, REDRAWS = 3, 4
CHAINED = 0.5
"""Share of the queries whose tables the queries after them may read."""
SHRINK_SECONDS = 60.0

DEFECTS: Mapping[str, re.Pattern[str]] = {}
"""What the product is known to get wrong: a query of a set that shows it, and what such queries look like. They are
counted and not played; strike one out with the `defect` of its query."""

_OF_DUCKDB = re.compile(r"\w+ Error:")
"""How a message begins that is no reason for a refusal: DuckDB did not take the statement that was made of the text."""


@dataclass
class Recorded:
    """A history that is played again: its change sets as they are."""

    bases: Mapping[str, Base]
    first: ChangeSet
    later: Sequence[ChangeSet]
    _next: Iterator[ChangeSet] = field(init=False)

    def load(self, names: Iterable[str]) -> ChangeSet:
        """The first rows of these."""
        self._next = iter(self.later)
        return {name: self.first[name] for name in names if name in self.first}

    def change_set(self, names: Sequence[str]) -> ChangeSet:
        """The next change set, as far as it is about these."""
        return {name: edit for name, edit in next(self._next, {}).items() if name in names}


@dataclass(frozen=True)
class Case:
    """Queries over a history, and how they are run; `chance` seeds what happens besides."""

    source: Recorded
    trees: tuple[Tree, ...]
    paces: tuple[str, ...]
    chance: int

    def play(self, bench_type: BenchType = Bench) -> list[Report]:
        """Play it; what happened to each table. Raises what goes wrong."""
        queries = [query_of(f"q{place}", tree) for place, tree in enumerate(self.trees)]
        steps = len(self.source.later) + 1
        history = History(self.source, queries, random.Random(self.chance), steps, self.paces, MEMORY, bench_type)
        return list(history.play().values())


@dataclass
class Tally:
    """What a campaign came to. `rich` counts the queries whose tables had some rows and changed more than once."""

    cases: int = 0
    queries: int = 0
    rich: int = 0
    comparisons: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        reasons = "".join(f"\n  refused {count}x: {reason}" for reason, count in self.refused.most_common(8) if count)
        invalid = "".join(f"\n  invalid {count}x: {reason}" for reason, count in self.invalid.most_common(3) if count)
        known = "".join(f"\n  not played {count}x: {name}" for name, count in self.known.items())
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        counts = f"{self.cases} cases, {self.queries} queries ({self.rich} rich; {kinds})"
        return f"{counts}, {self.comparisons} comparisons{reasons}{invalid}{known}"

    def add(self, reports: Iterable[Report]) -> None:
        """Count what happened to tables."""
        for report in reports:
            self.rich += report.rows_max >= 3 and report.changed_runs > 1
            self.comparisons += report.comparisons
            self.kinds.update(report.kinds)


class Found(AssertionError):
    """A case that fails, as small as it got."""

    def __init__(self, seed: int, case: Case, error: Exception) -> None:
        self.seed, self.case, self.error = seed, case, error
        super().__init__(
            f"python -m tests.incremental.fuzz --seed {seed}\n\n{type(error).__name__}: {error}\n\n{told(case)}"
        )


def query_of(name: str, tree: Tree) -> Query:
    """A tree as a query that histories know."""
    close = {item.name: item.tolerance for item in tree.items if item.tolerance}
    return Query(name, str(tree), rows_min=0, close=close)


def case_of(seed: int, tally: Tally) -> Case:
    """The case of a seed: queries that DuckDB takes, over a schema and a history of their own."""
    choose = random.Random(seed)
    bases = random_bases(choose)
    rows = rows_of(bases, random.Random(seed + 1))
    names = list(bases)
    first = rows.load(names)
    later = [rows.change_set(names) for _ in range(STEPS - 1)]
    paces = choose.choice([(REALTIME,), (REALTIME,), (REALTIME, MICROBATCH), (REALTIME, LATE), (REALTIME, SWITCHING)])
    trees = _trees(bases, first, choose, tally)
    return Case(Recorded(bases, first, later), tuple(trees), paces, seed)


def _trees(bases: Mapping[str, Base], first: ChangeSet, choose: random.Random, tally: Tally) -> list[Tree]:
    """Queries that DuckDB answers and tidemill does not refuse; most of them have some rows from the beginning."""
    grammar, reference = Grammar(bases, choose), Reference(bases.values())
    trees = []
    try:
        reference.write(first)
        for _ in range(QUERIES_EACH):
            tree, rows, reason = _drawn(grammar, reference)
            for _ in range(REDRAWS if choose.random() < 0.9 else 0):
                if reason or rows >= ROWS_MIN:
                    break
                tree, rows, reason = _drawn(grammar, reference)
            tally.queries += 1
            tally.invalid[reason] += bool(reason)
            known = [name for name, pattern in DEFECTS.items() if pattern.search(str(tree))]
            tally.known.update(known)
            if not reason and not known and not _is_refused(bases, [*trees, tree], tally):
                reference.name(f"q{len(trees)}", str(tree))
                if choose.random() < CHAINED:
                    grammar.name(f"q{len(trees)}", tree)
                trees.append(tree)
    finally:
        reference.close()
    return trees


def _drawn(grammar: Grammar, reference: Reference) -> tuple[Tree, int, str]:
    """A query, how many rows its answer has, and why it has none."""
    tree = grammar.query()
    try:
        return tree, len(reference.connection.execute(str(tree)).fetchall()), ""
    except duckdb.Error as error:
        return tree, 0, str(error).split("\n")[0]


def _is_refused(bases: Mapping[str, Base], trees: Sequence[Tree], tally: Tally) -> bool:
    """Whether tidemill refuses the last of these queries with a reason. Whatever else it does is seen when the case is
    played."""
    bench = Bench(bases.values())
    try:
        for place, tree in enumerate(trees):
            bench.define(f"q{place}", str(tree))
    except DefinitionError as error:
        is_reason = not _OF_DUCKDB.match(error.message)
        tally.refused[error.message] += is_reason
        return is_reason
    except Exception:  # noqa: BLE001 - whatever it is, playing the case shows it again
        return False
    finally:
        bench.close()
    return False


def run_seed(seed: int, tally: Tally, bench_type: BenchType = Bench, *, shrink_seconds: float = SHRINK_SECONDS) -> None:
    """Play the case of a seed. Raises Found."""
    case = case_of(seed, tally)
    tally.cases += 1
    if not case.trees:
        return
    try:
        tally.add(case.play(bench_type))
    except duckdb.Error as error:  # the reference itself: an overflow that only later rows brought about
        tally.invalid[str(error).split("\n")[0]] += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        small, why = shrunk(case, error, bench_type, shrink_seconds)
        raise Found(seed, small, why) from why


# Shrinking.


def shrunk(case: Case, error: Exception, bench_type: BenchType, seconds: float) -> tuple[Case, Exception]:
    """A smaller case that fails too, and how it fails."""
    end = time.monotonic() + seconds
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in candidates(case):
            if time.monotonic() > end:
                return case, error
            failed = failure(candidate, bench_type)
            if failed is not None and _kind(failed) == _kind(error):
                case, error, is_smaller = candidate, failed, True
                break
    return case, error


def _kind(error: Exception) -> tuple[type, ...]:
    """What a failure is: shrinking must not wander off to another one."""
    return type(error), type(error.__cause__)


def failure(case: Case, bench_type: BenchType) -> Exception | None:
    """What goes wrong in a case that DuckDB itself takes; None where nothing does."""
    try:
        case.play(bench_type)
    except duckdb.Error:
        return None
    except DefinitionError as error:
        return error if _OF_DUCKDB.match(error.message) else None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        return error
    return None


def candidates(case: Case) -> Iterator[Case]:
    """Cases that are smaller by one thing, the large things first."""
    if len(case.trees) > 1:
        yield from (replace(case, trees=(tree,)) for tree in case.trees)
    if case.paces != (REALTIME,):
        yield replace(case, paces=(REALTIME,))
    later = list(case.source.later)
    for place in reversed(range(len(later))):
        yield _with_history(case, case.source.first, [*later[:place], *later[place + 1 :]])
    if len(case.trees) == 1:
        yield from (replace(case, trees=(tree,)) for tree in smaller(case.trees[0]))
    for part in _fewer(case.source.first):
        yield _with_history(case, part, later)
    for place, changes in enumerate(later):
        for part in _fewer(changes):
            yield _with_history(case, case.source.first, [*later[:place], part, *later[place + 1 :]])


def _with_history(case: Case, first: ChangeSet, later: Sequence[ChangeSet]) -> Case:
    return replace(case, source=Recorded(case.source.bases, first, later))


def _fewer(changes: ChangeSet) -> Iterator[ChangeSet]:
    """The change set without one table, or without half or one of the rows of a table."""
    for name, edit in changes.items():
        if len(changes) > 1 and not edit.changed:
            yield {other: kept for other, kept in changes.items() if other != name}
        rows = edit.rows.num_rows
        pieces = [(0, rows // 2), (rows // 2, rows)] if rows > 4 else [(n, n + 1) for n in range(rows)]
        for begin, end in pieces:
            kept = [n for n in range(rows) if not begin <= n < end]
            yield {**changes, name: Edit(edit.rows.take(pa.array(kept, pa.int64())), edit.gone)}
        for place in range(len(edit.gone)):
            yield {**changes, name: Edit(edit.rows, (*edit.gone[:place], *edit.gone[place + 1 :]))}


def told(case: Case) -> str:
    """A case in words: its tables, its queries and its change sets."""
    lines = [f"paces {', '.join(case.paces)}"]
    for base in case.source.bases.values():
        columns = ", ".join(f"{name} {kind}" for name, kind in base.columns.items())
        lines.append(f"{base.kind} {base.name}({columns}) key {base.key}")
    lines += [f"\n{tree}\n" for tree in case.trees]
    for number, changes in enumerate([case.source.first, *case.source.later]):
        lines.append(f"change set {number}")
        for name, edit in changes.items():
            lines += [f"  {name} + {tuple(row.values())}" for row in edit.rows.to_pylist()]
            lines += [f"  {name} - {rid}" for rid in edit.gone]
    return "\n".join(lines)
