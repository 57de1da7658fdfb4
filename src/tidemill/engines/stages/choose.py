"""Which rule maintains a stage in this run: decided by what it has cost before, and by its size until that is known.

Rules of this file:
  * the choice never affects a result, so every run is a free measurement;
  * before anything is measured: terms or merge where the stage can, for they cost what changed; else the affected keys,
    or the whole where more than `SHARE_MAX` of the rows changed;
  * what is measured is kept per text of all stages (their mark): nothing that another query has cost decides anything;
  * under it, it is kept per stage, rule and magnitude (of the changes; for recomputing whole, of the inputs' rows): a
    rule is compared only with what it cost at this magnitude, because a fixed cost hides what a row costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from tidemill.sql.stages import OUTPUT, Stage

__all__ = [
    "AFFECTED",
    "FILLING",
    "MERGE",
    "SHARE_MAX",
    "SMALL_CHANGES",
    "TERMS",
    "WHOLE",
    "Chooser",
    "Cost",
    "Situation",
    "called",
    "rules_of",
]

TERMS, MERGE, AFFECTED, WHOLE = "terms", "merge", "affected keys", "whole"
SHARE_MAX = 0.05
"""Share of the inputs' rows that may change before a stage that nobody has measured is recomputed whole."""
SMALL_CHANGES = 2_000
"""Changes up to which the lines of a change set are handed over in memory."""
FILLING = 3
"""How much more a difference costs than to fill an empty stage, until a difference has been measured."""
_WEIGHT_OF_NEWEST = 0.3


@dataclass(frozen=True, slots=True)
class Situation:
    """What a choice is about: the stage, how many changes its leaves had at most, and how many rows they have.

    `has_expired`: rows of a leaf have, so that only its change sets can be read. `mark` is that of the layout, which is
    another one when any stage's text is.
    """

    stage: Stage
    changes: int
    rows: int
    is_anew: bool = False
    has_expired: bool = False
    mark: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """What measurements of the stage are kept under, beside the job."""
        return self.mark, self.stage.name


@dataclass(slots=True)
class Cost:
    """The smoothed seconds of one rule at one magnitude."""

    seconds: float
    runs: int = 1

    def add(self, seconds: float) -> None:
        """One more measurement."""
        self.seconds += _WEIGHT_OF_NEWEST * (seconds - self.seconds)
        self.runs += 1


@dataclass(slots=True)
class Chooser:
    """Remembers what stages cost, and chooses. One for all jobs; any thread."""

    costs: dict[tuple[str, tuple[str, str], str, int], Cost] = field(default_factory=dict)
    """By job, mark and stage, rule and magnitude."""
    chosen: dict[tuple[str, tuple[str, str]], str] = field(default_factory=dict)
    _runs: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def timing(self, job: str, situation: Situation, run: str = "") -> Iterator[str]:
        """The rule for this run; what is done within counts as its cost."""
        rule = self.choose(job, situation)
        with self._lock:
            of, used = self._runs.get(job, ("", {}))
            self._runs[job] = (run, {**(used if of == run else {}), situation.stage.name: rule})
        started = time.perf_counter()
        yield rule
        seconds = time.perf_counter() - started
        self.note(job, situation, rule, seconds)

    def choose(self, job: str, situation: Situation) -> str:
        """The rule that costs least, as far as one knows."""
        possible = rules_of(situation.stage)
        if situation.is_anew or possible == (WHOLE,):
            return WHOLE
        first = possible[0]
        if situation.has_expired:
            return first
        with self._lock:
            expected = {
                rule: cost.seconds
                for rule in possible
                if (cost := self.costs.get((job, situation.name, rule, _magnitude(rule, situation)))) is not None
            }
        if first in expected and WHOLE in expected:
            return min(expected, key=lambda rule: expected[rule])
        is_large = situation.changes > max(SMALL_CHANGES, SHARE_MAX * situation.rows)
        return WHOLE if is_large and first == AFFECTED else first

    def note(self, job: str, situation: Situation, rule: str, seconds: float) -> None:
        """Remember what a rule has cost; to fill what was empty costs less than to make a difference."""
        name = (job, situation.name, rule, _magnitude(rule, situation))
        seconds *= FILLING if situation.is_anew else 1
        with self._lock:
            if (job, situation.name) not in self.chosen:
                self._forget(job, situation.mark)
            self.chosen[(job, situation.name)] = rule
            self._fresh.add(job)
            known = self.costs.get(name)
            if known is None:
                self.costs[name] = Cost(seconds)
            elif not situation.is_anew:
                known.add(seconds)

    def _forget(self, job: str, mark: str) -> None:
        """What a job's stages of another text have cost is of no use."""
        self.costs = {key: cost for key, cost in self.costs.items() if key[0] != job or key[1][0] == mark}
        self.chosen = {key: rule for key, rule in self.chosen.items() if key[0] != job or key[1][0] == mark}

    def rules_of_run(self, job: str, run: str) -> Mapping[str, str]:
        """Which rule maintained each stage in a job's newest run; nothing for a run before that."""
        with self._lock:
            of, used = self._runs.get(job, ("", {}))
            return {called(stage): rule for stage, rule in used.items()} if of == run else {}

    def costs_of(self, job: str, mark: str, stage: str) -> list[dict[str, Any]]:
        """What each rule of a stage has cost, by size: `{rule, seconds, runs, per, from, to}`, `per` changes or rows."""
        with self._lock:
            found = [
                (rule, magnitude, cost.seconds, cost.runs)
                for (of, name, rule, magnitude), cost in self.costs.items()
                if (of, name) == (job, (mark, stage))
            ]
        return [
            {
                "rule": rule,
                "seconds": round(seconds, 6),
                "runs": runs,
                "per": "rows" if rule == WHOLE else "changes",
                "from": 0 if magnitude == 1 else 10 ** (magnitude - 1),
                "to": 10**magnitude - 1,
            }
            for rule, magnitude, seconds, runs in sorted(found)
        ]

    def fresh(self) -> dict[str, list[list[Any]]]:
        """The costs of the jobs that were measured since this was last asked, as plain data that `recall` takes."""
        with self._lock:
            found: dict[str, list[list[Any]]] = {job: [] for job in self._fresh}
            for (job, name, rule, magnitude), cost in self.costs.items():
                if job in found:
                    is_last = self.chosen.get((job, name)) == rule
                    found[job].append([*name, rule, magnitude, cost.seconds, cost.runs, is_last])
            self._fresh.clear()
        return found

    def recall(self, kept: Mapping[str, Any]) -> None:
        """Take up what `fresh` gave, by job; what does not read is as good as never measured."""
        for job, lines in kept.items():
            for line in lines if isinstance(lines, list) else ():
                with suppress(TypeError, ValueError):
                    mark, stage, rule, magnitude, seconds, runs, is_last = line
                    self.costs[(job, (mark, stage), rule, int(magnitude))] = Cost(float(seconds), int(runs))
                    if is_last:
                        self.chosen[(job, (mark, stage))] = rule


def called(stage: str) -> str:
    """What people call a stage."""
    return "output" if stage == OUTPUT else f"stage {stage}"


def _magnitude(rule: str, situation: Situation) -> int:
    return len(str(situation.rows if rule == WHOLE else situation.changes))


def rules_of(stage: Stage) -> tuple[str, ...]:
    """The rules that can maintain a stage, the one to try first in front."""
    if stage.rule == "linear":
        return (TERMS, WHOLE)
    if stage.rule == "group":
        return (MERGE, AFFECTED, WHOLE)
    return (AFFECTED, WHOLE) if stage.rule == "keyed" else (WHOLE,)
