"""What people are told of a staged plan: its stages, the rule of each, why, what it has cost, and its statements."""

from __future__ import annotations

from typing import Any

from tidemill.engines.stages import texts
from tidemill.engines.stages.choose import MERGE, Chooser, called, rules_of
from tidemill.engines.stages.layout import Layout
from tidemill.engines.stages.needed import needed_by
from tidemill.sql.stages import Stage

__all__ = ["described", "statements", "summary"]

_RULES = {
    "linear": "delta: only rows that come from changed rows are computed",
    "group": "merge: each change is added to its group",
    "keyed": "affected keys: the rows of changed keys are computed again",
    "full": "recomputed: this stage as a whole, and the difference is taken",
}


def described(layout: Layout, chooser: Chooser, job: str) -> list[dict[str, Any]]:
    """One entry a stage: `{stage, rule, how, reads, key, why, history, rules, costs, last}`.

    `why` says why no cheaper rule fits, `history` which inputs it needs all rows of and why, `rules` are those that the
    choice is between, `costs` what each has cost so far at which size, `last` the one of the last run.
    """
    return [_entry(chooser, job, layout.mark, stage) for stage in layout.stages]


def _entry(chooser: Chooser, job: str, mark: str, stage: Stage) -> dict[str, Any]:
    return {
        "stage": called(stage.name),
        "rule": stage.rule,
        "how": _how(stage),
        "reads": list(dict.fromkeys(_leaf(leaf) for leaf in stage.region.leaves)),
        "key": [column for _, column in stage.keys],
        "why": stage.reason,
        "history": needed_by(stage),
        "rules": list(rules_of(stage)),
        "costs": chooser.costs_of(job, mark, stage.name),
        "last": chooser.chosen.get((job, (mark, stage.name)), ""),
    }


def _leaf(leaf: str) -> str:
    return called(leaf.removeprefix("@")) if leaf.startswith("@") else leaf


def _how(stage: Stage) -> str:
    has_extremes = any(one.gone for one in stage.accumulators if one.merge in ("min", "max"))
    looks = "; a key whose least or greatest value may be gone is looked at anew" if has_extremes else ""
    return _RULES[stage.rule] + looks


def summary(layout: Layout) -> str:
    """The whole plan in a line."""
    words = {"linear": "delta", "group": "merge", "keyed": "affected keys", "full": "recomputed"}
    return "incremental: " + " > ".join(words[stage.rule] for stage in layout.stages)


def statements(layout: Layout) -> list[dict[str, str]]:
    """The statements of each stage, by rule, for people: every leaf counts as changed."""
    return [_statements(layout, stage) for stage in layout.stages]


def _statements(layout: Layout, stage: Stage) -> dict[str, str]:
    types = layout.types[stage.name]
    every = range(len(stage.region.terms))
    made = {"stage": called(stage.name), "whole": texts.whole(stage, types)}
    rules = rules_of(stage)
    if MERGE in rules:
        made["merge"] = texts.merged(stage, types, every, may_be_dirty=False)
    if stage.rule in ("group", "keyed"):
        made["affected keys"] = texts.keyed_changes(stage, types, has_null=False)
    if stage.rule == "linear":
        made["terms"] = texts.linear_changes(stage, types, every)
    return made
