"""What must be true of what reached the outside: the oracle's view of effects (rules 10, 21, 26).

Rules of this file:
  * one key is one piece of work: whatever is delivered again under it is the same;
  * without a gate the ranges under the keys leave no gap and do not overlap; behind one, what was delivered adds up to
    the released rows, and no delivery shows rows of a value that it is not about;
  * what touches more rows than `hold_above` was let go by a person, each piece for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tidemill.core.ports import Progress
from tidemill.testing.simulator.gates import Row
from tidemill.testing.simulator.outside import Delivery
from tidemill.testing.simulator.words import GateSpec, JobSpec

__all__ = ["Misdelivered", "check_held", "check_ranges", "check_values_delivered", "distinct"]


class Misdelivered(AssertionError):
    """Something reached the outside that must not, or did not that must."""


def distinct(spec: JobSpec, deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The deliveries of a job, each piece of work once. Raises Misdelivered where one key names two."""
    by_key: dict[str, Delivery] = {}
    for delivery in deliveries:
        if delivery.job != spec.name:
            continue
        known = by_key.setdefault(delivery.key, delivery)
        if known != delivery:
            raise Misdelivered(f"{spec.name}: one key for two pieces of work, {known} and {delivery}")
    return list(by_key.values())


def check_held(spec: JobSpec, delivered: Iterable[Delivery], released: set[str]) -> None:
    """Raise where a run touched more rows outside than it may without a person."""
    for delivery in delivered:
        touched = len({(asset, rid) for asset, rid, *_ in delivery.rows})
        if touched > spec.hold_above and delivery.key not in released:
            raise Misdelivered(f"{spec.name}: {touched} rows were touched, and nobody let them go: {delivery}")


def check_ranges(
    spec: JobSpec, progress: Progress | None, delivered: Sequence[Delivery], inputs: Iterable[str]
) -> None:
    """Raise where the ranges of these inputs overlap, leave a gap, or do not end at the job's cursor."""
    cursors = progress.cursors if progress is not None else {}
    for asset in inputs:
        taken = sorted((f, t) for each in delivered for name, f, t in each.ranges if name == asset and t > f)
        reached = 0
        for from_, to in taken:
            if from_ != reached:
                raise Misdelivered(f"{spec.name}: {asset} was delivered as {taken}: a gap or an overlap at {reached}")
            reached = to
        if reached != cursors.get(asset, 0):
            raise Misdelivered(
                f"{spec.name}: {asset} was delivered to {reached}, its cursor is {cursors.get(asset, 0)}"
            )


def check_values_delivered(
    gate: GateSpec, delivered: Iterable[Delivery], gated: Sequence[str], released: Iterable[Row]
) -> None:
    """Raise where a delivery shows rows of another value, or what was delivered does not add up to what is released."""
    there: dict[tuple[str, str], Row] = {}
    for delivery in delivered:
        for asset, rid, weight, k, v, day in sorted(delivery.rows, key=lambda image: image[2]):
            if asset not in gated:
                continue
            if gate.on_late != "next" and day != delivery.value:
                raise Misdelivered(f"{delivery.job}: a run for {delivery.value!r} was shown {(k, v, day)}")
            if weight < 0 and there.pop((asset, rid), None) != (k, v, day):
                raise Misdelivered(f"{delivery.job}: {(k, v, day)} was taken back, and never given: {delivery}")
            if weight > 0:
                there[asset, rid] = (k, v, day)
        shown = Counter((k, v, day) for asset, _, _, k, v, day in delivery.state if asset in gated)
        if shown != Counter(there.values()):
            raise Misdelivered(f"{delivery.job}: for {delivery.value!r} it saw {dict(shown)}, and was given {there}")
    if Counter(there.values()) != Counter(released):
        lacks, exceeds = Counter(released) - Counter(there.values()), Counter(there.values()) - Counter(released)
        raise Misdelivered(f"released and not delivered {dict(lacks)}, delivered and not released {dict(exceeds)}")
