"""One receipt for what many senders sent together, shared out to each of them.

Rules of this file:
  * an event is exactly one of accepted, duplicate and parked, so the places of the last two tell all of the first;
  * accepted events got their offsets in the order they were sent, without gaps, and the last of them is the head.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from tidemill.core.ports import Receipt, Refusal

__all__ = ["shares"]

T = TypeVar("T")
_LINE = re.compile(r"^line \d+: ")


def shares(whole: Receipt, counts: Sequence[int]) -> list[Receipt]:
    """The receipts of those who sent so many events each, one after the other."""
    if len(counts) == 1:
        return [whole]
    head = whole.head - whole.accepted
    if not (whole.refusals or whole.duplicates):
        ends = list(accumulate(counts, initial=head))[1:]
        return [Receipt(count, head=end) for count, end in zip(counts, ends, strict=True)]
    found = []
    start = 0
    refusals, duplicates = deque(whole.refusals), deque(sorted(whole.duplicates))
    for count in counts:
        end = start + count
        refused = _before(end, refusals, lambda each: each.index)
        repeated = _before(end, duplicates, lambda each: each[0])
        accepted = count - len(refused) - len(repeated)
        head += accepted
        found.append(
            Receipt(
                accepted,
                len(repeated),
                len(refused),
                head,
                tuple(_moved(each, start) for each in refused),
                tuple((place - start, offset) for place, offset in repeated),
            )
        )
        start = end
    return found


def _moved(refusal: Refusal, start: int) -> Refusal:
    """The refusal as its sender counts: the line it names is one of the sender's own."""
    index = refusal.index - start
    return replace(refusal, index=index, reason=_LINE.sub(f"line {index + 1}: ", refusal.reason))


def _before(end: int, waiting: deque[T], place_of: Callable[[T], int]) -> list[T]:
    """Take off what stands before a place."""
    taken = []
    while waiting and place_of(waiting[0]) < end:
        taken.append(waiting.popleft())
    return taken
