"""Letting a live job go on with what was made beside it: rows, stages, parked rows and cursors (rules 28 and 30).

Rules of this file:
  * everything is written in the caller's one transaction, or nothing is;
  * rows that are the same already get no change, so that readers see the difference and no more;
  * what the live job knows of other things than its inputs stays: when it was served, which triggers it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from tidemill.core.change import RID, Replaced
from tidemill.core.model import Job
from tidemill.core.ports import Head, Plan, Progress
from tidemill.runtime.asserting import Asserted, Asserting
from tidemill.runtime.backfilled import label
from tidemill.runtime.hidden import Taking
from tidemill.runtime.parking import parked_asset
from tidemill.runtime.skipped import forget

__all__ = ["TakenOver", "is_taken_over", "settled_version", "take_over"]

_TAKEN = "taken over by "


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The live job's progress, how many changes its outputs got, what is asserted of them and only warns; once it is
    committed the heads of the outputs."""

    progress: Progress
    changes: int
    warned: tuple[Asserted, ...]
    heads: Mapping[str, Head] = field(default_factory=dict)


def take_over(transaction: Taking, live: Job, twin: Job, plan: Plan, run: str) -> TakenOver:
    """Give a job all that its twin, maintained by `plan`, has made.

    Both have read equally far. `live` is the job as it is from now on, whose assertions must hold: raises AssertionBroken.
    """
    before, mine = transaction.progress(live.name), transaction.progress(twin.name)
    assert before is not None, "the live job has run"
    assert mine is not None, "its twin has run"
    begun = {asset: transaction.head(asset).offset for asset in live.outputs}
    changes = sum(map(transaction.take_over, live.outputs, twin.outputs))
    for stage in plan.tables:
        transaction.take_over(live.name + stage.removeprefix(twin.name), stage)
    _take_parked(transaction, live, twin)
    columns = dict.fromkeys(live.outputs, plan.columns)
    warned = Asserting(live, run, transaction, transaction.evaluate, begun, columns).check()
    if live.gate is None and forget(transaction, live):
        label(transaction, live, begun)
    progress = replace(
        mine,
        job=live.name,
        cursors={**before.cursors, **mine.cursors},
        run=run,
        served_at=before.served_at,
        succeeded=mine.succeeded or before.succeeded,
    )
    transaction.settle(progress, before)
    transaction.settle(replace(mine, version=settled_version(run), run=run), mine)
    return TakenOver(progress, changes, warned)


def _take_parked(transaction: Taking, live: Job, twin: Job) -> None:
    parked = parked_asset(live.name)
    if transaction.head(parked_asset(twin.name)).offset:
        transaction.take_over(parked, parked_asset(twin.name))
    elif transaction.head(parked).rows:
        transaction.write(parked, Replaced(pa.table({RID: pa.array([], pa.string())}), None))


def settled_version(run: str) -> str:
    """The version of a twin whose take-over by this run was committed."""
    return f"{_TAKEN}{run}"


def is_taken_over(known: Progress | None) -> bool:
    """Whether a take-over of this twin was committed."""
    return known is not None and known.version.startswith(_TAKEN)
