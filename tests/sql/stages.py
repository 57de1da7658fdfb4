"""Queries and the stages they are cut into, as pairs of files: `NAME.sql`, and `NAME.txt` as text that people review.

Rules of this file:
  * a query begins with `--` lines: words about it, and `-- word: value` where needed: `show` (statements), `retracts`
    (the inputs whose rows may go, or nothing; without it all), `key`;
  * `python -m tests.sql.stages` writes all expectations anew: for a change that is meant, and reviewed as a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.sql.data import FIXTURES, SCHEMAS
from tidemill.core.model import Asset, AssetKind, Column, Job, Takes
from tidemill.engines.stages import Layout, lay_out, statements
from tidemill.sql import SqlPlan, plan
from tidemill.sql.pretty import pretty
from tidemill.sql.stages import Stage
from tidemill.stores.duckdb import DuckDBStore

FOLDER = FIXTURES / "stages"
_WORD = re.compile(r"--\s*(show|retracts|key):\s*(.*)$")


@dataclass(frozen=True)
class Case:
    """One query, and where what is expected of it stands."""

    path: Path
    sql: str
    words: dict[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> Path:
        """The file with the stages."""
        return self.path.with_suffix(".txt")

    def plan(self) -> SqlPlan:
        """The query's plan."""
        known = [name for name, columns in SCHEMAS.items() if columns is not None]
        said = self.words.get("retracts")
        retracting = known if said is None else _names(said.replace("nothing", ""))
        key = tuple(_names(self.words["key"])) if "key" in self.words else None
        return plan(self.sql, SCHEMAS, self.path.name, retracting=retracting, key=key)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def cases() -> Iterator[Case]:
    """All pairs, by name."""
    for path in sorted(FOLDER.glob("*.sql")):
        lines = path.read_text(encoding="utf-8").splitlines()
        words = dict(found.groups() for line in lines if (found := _WORD.match(line)))
        yield Case(path, "\n".join(line for line in lines if not line.startswith("--")).strip(), words)


def shown(case: Case, store: DuckDBStore) -> str:
    """The stages of a query as text."""
    made = case.plan()
    if made.staged is None:
        return f"{made.kind}: {made.reason}\n"
    layout = laid_out(made, store)
    parts = [_stage(stage, layout) for stage in made.staged.stages]
    if case.words.get("show") == "statements":
        for texts in statements(layout):
            told = {rule: text for rule, text in texts.items() if rule != "stage"}
            parts += [f"-- {texts['stage']}: {rule}\n{pretty(text)}" for rule, text in told.items()]
    return "\n\n".join(parts) + "\n"


def laid_out(made: SqlPlan, store: DuckDBStore) -> Layout:
    """The stages with DuckDB's own types, which every one of its statements therefore has."""
    assert made.staged is not None
    inputs = {name: _asset(name) for name in made.inputs}
    columns = store.describe(made.canonical, {name: asset.columns for name, asset in inputs.items()})
    job = Job("job", tuple(made.inputs), ("job",), Takes.SQL, "", "1")
    return lay_out(job, made.staged, columns, inputs, store.describe)


def _asset(name: str) -> Asset:
    columns = SCHEMAS[name]
    assert columns is not None
    return Asset(name, AssetKind.TABLE, tuple(Column(column, kind) for column, kind in columns.items()))


def _stage(stage: Stage, layout: Layout) -> str:
    types = layout.types[stage.name]
    lines = [
        f"{f'stage {stage.name}' if stage.name else 'output'}: {stage.rule}",
        f"  reads    {', '.join(stage.region.leaves)}{'' if stage.region.retracts else '  (rows only come)'}",
        f"  columns  {', '.join(f'{name} {types[name]}' for name in stage.columns)}",
    ]
    if stage.keys:
        lines.append(f"  keys     {', '.join(f'{key} as {column}' for key, column in stage.keys)}")
    lines += [f"  keeps    {one.column} = {one.whole}  [{one.merge or 'whole'}]" for one in stage.accumulators]
    if stage.block and not stage.accumulators:
        lines.append(f"  block    {stage.block}")
    if stage.reason:
        lines.append(f"  why      {stage.reason}")
    return "\n".join(lines)


def write() -> None:
    """Write what is expected of every query, as it is now."""
    store = DuckDBStore(":memory:")
    found = list(cases())
    for case in found:
        case.expected.write_text(shown(case, store), encoding="utf-8")
    for path in set(FOLDER.glob("*.txt")) - {case.expected for case in found}:
        path.unlink()
    store.close()


if __name__ == "__main__":
    write()
