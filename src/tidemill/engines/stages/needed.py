"""Which inputs a staged plan needs whole: all their rows must still be there, however old.

Rules of this file:
  * what can be maintained from change sets alone needs nothing of an input but what is new;
  * a stage that may have to look at rows again needs all of them, whether it ever does or not;
  * earlier stages are tables of their own, which keep their rows: only inputs count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidemill.engines.stages.choose import called
from tidemill.sql.stages import NEW, OLD, Stage

__all__ = ["needed", "needed_by"]

_STATE = re.compile(rf'"@input:[{NEW}{OLD}](\d+)"')


def needed(stages: Iterable[Stage]) -> dict[str, str]:
    """The inputs that are needed whole, each with the reason."""
    found: dict[str, str] = {}
    for stage in stages:
        for leaf, reason in needed_by(stage).items():
            found.setdefault(leaf, f"{called(stage.name)}: {reason}")
    return found


def needed_by(stage: Stage) -> dict[str, str]:
    """The inputs that one stage needs whole, each with the reason."""
    inputs = [leaf for leaf in stage.region.leaves if not leaf.startswith("@")]
    if stage.rule not in ("linear", "group"):
        how = "the rows of a key are looked at together" if stage.rule == "keyed" else "it is computed over all rows"
        return dict.fromkeys(inputs, how)
    if any(one.gone for one in stage.accumulators if one.merge in ("min", "max")):
        return dict.fromkeys(inputs, "where the least or greatest value goes, the next one is looked for")
    looked_at = {int(number) for term in stage.region.terms for number in _STATE.findall(term)}
    places = {number: leaf for number, leaf in enumerate(stage.region.leaves) if number in looked_at}
    return {leaf: "it is joined with what may change" for leaf in places.values() if leaf in inputs}
