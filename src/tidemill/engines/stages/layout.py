"""What the engine knows of a staged job: where each stage lies, and the types of its columns.

Rules of this file:
  * the output stage is the job's output; every other one is an internal asset `JOB@stage:<name>:<mark>`;
  * the mark is made of the text of all stages, so that another query, or another version of the planner, never reads
    what this one has kept;
  * types are DuckDB's own (`describe`), asked for in the order of the stages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidemill.core.model import Asset, Column, Job
from tidemill.core.ports import Table
from tidemill.engines.stages.texts import whole_untyped
from tidemill.sql.spelling import is_spelled_deep_inside
from tidemill.sql.stages import NEW, OUTPUT, Stage, Staged, leaf_name

__all__ = ["Layout", "lay_out", "unfit_key"]

Describe = Callable[[str, Mapping[str, tuple[Column, ...]]], tuple[Column, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The stages of one job, with the asset of each (by stage name), its column types, and those of the inputs."""

    stages: tuple[Stage, ...]
    assets: Mapping[str, str]
    types: Mapping[str, Mapping[str, str]]
    tables: Mapping[str, Table]
    inputs: Mapping[str, Mapping[str, str]]
    mark: str = ""
    """Another one where the text of any stage is."""

    def asset_of(self, relation: str) -> str:
        """The asset behind a leaf."""
        return self.assets[relation[1:]] if relation.startswith("@") else relation

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "staged": Staged(self.stages).to_dict(),
            "assets": dict(self.assets),
            "types": {stage: dict(types) for stage, types in self.types.items()},
            "inputs": {asset: dict(types) for asset, types in self.inputs.items()},
            "mark": self.mark,
            "tables": [[name, [asdict(column) for column in table.columns]] for name, table in self.tables.items()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layout:
        """What `to_dict` gave."""
        tables = {name: Table(name, tuple(Column(**column) for column in columns)) for name, columns in data["tables"]}
        stages = Staged.from_dict(data["staged"]).stages
        return cls(stages, data["assets"], data["types"], tables, data["inputs"], data["mark"])


def lay_out(
    job: Job, staged: Staged, columns: tuple[Column, ...], inputs: Mapping[str, Asset], describe: Describe
) -> Layout:
    """Give every stage its place and its types. `columns` are those of the output."""
    mark = hashlib.sha256(json.dumps(staged.to_dict(), sort_keys=True).encode()).hexdigest()[:8]
    known = {name: asset.columns for name, asset in inputs.items()}
    assets: dict[str, str] = {}
    types: dict[str, dict[str, str]] = {}
    tables: dict[str, Table] = {}
    for stage in staged.stages:
        if stage.name == OUTPUT:
            assets[OUTPUT] = job.outputs[0]
            types[OUTPUT] = {column.name: column.type for column in columns}
            continue
        shape = {leaf_name(NEW, number): known[leaf] for number, leaf in enumerate(stage.region.leaves)}
        found = {column.name: column for column in describe(whole_untyped(stage), shape)}
        asset = f"{job.name}@stage:{stage.name}:{mark}"
        mine = tuple(found[name] for name in stage.columns)
        assets[stage.name], known[f"@{stage.name}"] = asset, mine
        types[stage.name] = {column.name: column.type for column in mine}
        tables[asset] = Table(asset, mine)
    shapes = {name: {column.name: column.type for column in asset.columns} for name, asset in inputs.items()}
    return Layout(staged.stages, assets, types, tables, shapes, mark)


def unfit_key(layout: Layout) -> str:
    """A key of a group whose equal values have several texts, in words; '' where every key has an identity."""
    for stage in layout.stages:
        is_group = stage.rule == "group" or bool(stage.accumulators)
        for _, column in stage.keys if is_group else ():
            kind = layout.types[stage.name][column]
            if is_spelled_deep_inside(kind):
                return f"a value of type {kind}"
    return ""
