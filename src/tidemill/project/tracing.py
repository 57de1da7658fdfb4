"""Which traces (W3C Trace Context) runs and parked rows belong to: those that the senders of their events named.

Rules of this file:
  * the ledger knows the trace of an event by its offset; what is told of a run is looked up when it is asked for, so that
    no run pays for it;
  * a run that took events of several traces has all of them, as a span that links to several has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Ledger, Work

__all__ = ["of_row", "of_work", "with_traces"]


def with_traces(ledger: Ledger, assets: Mapping[str, Asset], runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run reports (JSON), each with the `traceparents` of the events that it read from topics, at most ten an input."""
    found: list[list[str]] = [[] for _ in runs]
    for name in dict.fromkeys(name for run in runs for name in run["inputs"]):
        if _is_topic(assets, name):
            ranges = [tuple(run["inputs"].get(name, (0, 0))) for run in runs]
            for place, traces in enumerate(ledger.traces(name, ranges)):
                found[place] += traces
    return [{**run, "traceparents": list(dict.fromkeys(mine))} for run, mine in zip(runs, found, strict=True)]


def of_work(ledger: Ledger, assets: Mapping[str, Asset], work: Work) -> tuple[str, ...]:
    """The traces of the events that a run takes from topics, the newest of each first."""
    topics = {name: part for name, part in work.ranges.items() if _is_topic(assets, name) and part[1] > part[0]}
    return tuple(dict.fromkeys(trace for name, part in topics.items() for trace in ledger.traces(name, [part])[0]))


def of_row(ledger: Ledger, assets: Mapping[str, Asset], asset: str, offset: int) -> str:
    """The trace of one row of a topic; "" where its sender named none, and for rows of anything else."""
    if not _is_topic(assets, asset):
        return ""
    return next(iter(ledger.traces(asset, [(offset - 1, offset)])[0]), "")


def _is_topic(assets: Mapping[str, Asset], name: str) -> bool:
    return name in assets and assets[name].kind is AssetKind.TOPIC
