"""What the cutter hands to an engine: stages, each one relation that is maintained from change sets.

Rules of this file:
  * a staged plan is plain frozen data that survives JSON: texts and names, no trees;
  * a stage's rows are `block` over the rows of its region; where `block` is '' they are the region's rows;
  * every text reads relations `"@input:<role><leaf>"`: role `n` is the state after the change set, `o` the state
    before it, `d` the change set itself with its weights; `"@input:rows"` in a block is the region.

Theory of operation. A *region* is a linear part of a query (filters, projections, inner, cross and left joins, unnest,
UNION ALL) over *leaves*, which are assets or earlier stages. Its change set is the sum of one term a changed leaf: the
leaves before it in their new state, those after it in their old one. What is not linear is a *block* over one region:
it is recomputed for the keys that the region's change set touches, merged, or recomputed whole. The rules:

  linear   the terms, consolidated, are the change set;
  group    accumulators (count, sum, min, max) per key: merged with what the terms add, or recomputed for the keys;
  keyed    any block in which the rows of a key depend only on input rows of that key: recomputed for the keys;
  full     everything else: recomputed whole, the store makes the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "DELTA",
    "KEY",
    "NEW",
    "OLD",
    "OUTPUT",
    "ROWS",
    "WEIGHT",
    "Accumulator",
    "Region",
    "Stage",
    "Staged",
    "leaf_name",
]

NEW, OLD, DELTA = "n", "o", "d"
ROWS = "rows"
"""The relation of a block: the rows of its region."""
OUTPUT = ""
"""The name of the stage that is the job's output itself."""
KEY = "_k"
"""Columns of a key are called `_k0`, `_k1` ... in a region, and in a stage that does not show them otherwise."""
WEIGHT = "_weight"


def leaf_name(role: str, number: int) -> str:
    """The relation of a leaf in a text, without the prefix of inputs."""
    return f"{role}{number}"


@dataclass(frozen=True, slots=True)
class Region:
    """A linear part of a query.

    `leaves` are asset names, or `@<stage>`; `rows` is the text of all its rows in the new state; `terms` the text of the
    change set that each leaf causes, by place. `has_identity`: the rows have `_rid`. `retracts`: the change set may
    remove rows. An opaque region (no terms) is only ever recomputed.
    """

    leaves: tuple[str, ...]
    rows: str
    terms: tuple[str, ...]
    has_identity: bool
    retracts: bool


@dataclass(frozen=True, slots=True)
class Accumulator:
    """One column of a group's state.

    `whole` computes it over the region's rows of a key. `added` and `gone` compute it over the additions and removals of
    the region's change set; `merge` says how these come together with what is kept: `add`, `min`, `max`, or '' where it
    can only be recomputed. `counted` names the accumulator that counts the values: none left means NULL.
    """

    column: str
    whole: str
    added: str = ""
    gone: str = ""
    merge: str = ""
    counted: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One maintained relation.

    `name` is `OUTPUT` for the one that is the job's output. `columns` are its columns; `keys` maps the region's key
    columns to the stage's. `reason` says in words why it is not maintained by a cheaper rule.
    """

    name: str
    rule: str
    region: Region
    columns: tuple[str, ...]
    keys: tuple[tuple[str, str], ...] = ()
    accumulators: tuple[Accumulator, ...] = ()
    block: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Staged:
    """All stages of one job, in the order in which they are maintained; the last one is the output."""

    stages: tuple[Stage, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Staged:
        """What `to_dict` gave."""
        return cls(tuple(_stage(stage) for stage in data["stages"]))


def _stage(data: Mapping[str, Any]) -> Stage:
    region = data["region"]
    return Stage(
        **{
            **data,
            "region": Region(**{**region, "leaves": tuple(region["leaves"]), "terms": tuple(region["terms"])}),
            "columns": tuple(data["columns"]),
            "keys": tuple((one, other) for one, other in data["keys"]),
            "accumulators": tuple(Accumulator(**one) for one in data["accumulators"]),
        }
    )
