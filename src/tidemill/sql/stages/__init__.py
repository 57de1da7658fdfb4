"""Incremental plans: a canonical query cut into stages that are maintained from change sets."""

from tidemill.sql.stages.cut import cut
from tidemill.sql.stages.flatten import Opaque
from tidemill.sql.stages.lists import lists_first
from tidemill.sql.stages.model import (
    DELTA,
    KEY,
    NEW,
    OLD,
    OUTPUT,
    ROWS,
    WEIGHT,
    Accumulator,
    Region,
    Stage,
    Staged,
    leaf_name,
)

__all__ = [
    "DELTA",
    "KEY",
    "NEW",
    "OLD",
    "OUTPUT",
    "ROWS",
    "WEIGHT",
    "Accumulator",
    "Opaque",
    "Region",
    "Stage",
    "Staged",
    "cut",
    "leaf_name",
    "lists_first",
]
