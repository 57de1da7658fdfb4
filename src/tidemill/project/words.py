"""The words of a job: one table from a word to the field it sets, how it is read and what it may say.

Rules of this file:
  * a word is written once, here; SQL headers, `@tm.job(...)` and `[jobs.x]` in tidemill.toml are all read by it;
  * every parser takes what the three places can give (text from a header; numbers, lists and booleans from the other
    two), returns the value of the field, and raises ValueError with a sentence that says what is allowed;
  * words that belong together (`gate`, `deadline`, `on_missing`, `on_late`) are put together at the end, in `fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from typing import Any

from cronsim import CronSim, CronSimError

from tidemill.core import when as condition
from tidemill.core.errors import DefinitionError
from tidemill.core.model import (
    Gate,
    Isolation,
    Late,
    Materialized,
    Missing,
    Mode,
    OnBackfill,
    OnError,
    StartFrom,
)
from tidemill.project.asserting import ALLOWED, assertions

__all__ = [
    "WORDS",
    "Word",
    "clock_time",
    "duration",
    "fields",
    "names",
    "nearest",
    "schedule",
    "tolerance",
    "when",
    "when_names",
    "whole",
]

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_TOLERANCE = re.compile(r"tolerance\s+(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")
_CLOCK_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that this one most likely meant, or ""."""
    candidates = sorted(set(known))
    exact = next((known_name for known_name in candidates if known_name.lower() == name.lower()), "")
    return exact or next(iter(get_close_matches(name, candidates, n=1, cutoff=0.5)), "")


def duration(value: object) -> float:
    """Seconds of "250ms", "90s", "5m", "3h", "1d" or a sum of such, "1h30m"."""
    text = value.strip() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(
            f"{_shown(value)} is not a duration; write a number and a unit, such as 250ms, 90s, 5m, 3h or 1d"
        )
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def positive_duration(value: object) -> float:
    """A duration above zero."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError(f"{_shown(value)} is no time at all; write a duration above zero, such as 5m")
    return seconds


def clock_time(value: object) -> str:
    """A time of day, "06:00"."""
    match = _CLOCK_TIME.fullmatch(value.strip(" \"'")) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_shown(value)} is not a time of day; write hours and minutes, such as 06:00")
    return f"{int(match[1]):02d}:{match[2]}"


def schedule(value: object) -> str:
    """A five-field cron line; a time of day becomes one."""
    text = " ".join(value.strip(" \"'").split()) if isinstance(value, str) else ""  # as the mend writes it, quoted
    if match := _CLOCK_TIME.fullmatch(text):
        return f"{int(match[2])} {int(match[1])} * * *"
    try:
        if len(text.split()) != 5:
            raise CronSimError("five fields")
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise ValueError(
            f'{_shown(value)} is not a schedule; write a time such as "02:00" or a five-field cron line such as '
            f'"0 2 * * 1-5"'
        ) from None
    return text


def names(value: object) -> tuple[str, ...]:
    """Names in a list, or in text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{_shown(value)} is not a list of names; write one, two or [one, two]")
    found = tuple(part.strip() for part in parts if part.strip())
    if len(set(found)) != len(found):
        raise ValueError(f"{_shown(value)} names something twice")
    return found


def text(value: object) -> str:
    """Text as it stands."""
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not text")
    return value.strip()


def whole(value: object, least: int = 0) -> int:
    """A whole number, not below `least`."""
    digits = str(value).strip().replace("_", "").replace(",", "")
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+", digits) or int(digits) < least:
        raise ValueError(f"{_shown(value)} is not a whole number of {least} or more")
    return int(digits)


def tolerance(value: object) -> float:
    """The number of "tolerance 1e-9"."""
    match = _TOLERANCE.fullmatch(value.strip()) if isinstance(value, str) else None
    number = float(match[1]) if match else -1.0
    if not 0 < number < 1:
        raise ValueError(f"{_shown(value)} is no tolerance; write tolerance and a number below 1, such as 1e-9")
    return number


def choice(words: type[StrEnum], value: object) -> StrEnum:
    """One of a fixed set of words."""
    said = value.strip().lower() if isinstance(value, str) else value
    allowed = [word.value for word in words]
    if said not in allowed:
        hint = nearest(str(said), allowed)
        meant = f" (did you mean {hint}?)" if hint else ""
        raise ValueError(f"{_shown(value)} is not one of {', '.join(allowed)}{meant}")
    return words(said)


def when(value: object) -> str:
    """`any`, `all`, `each`, or an expression over inputs with `&`, `|` and parentheses."""
    said = " ".join(value.split()) if isinstance(value, str) else ""
    when_names(said)
    return said


def when_names(said: str) -> tuple[str, ...]:
    """The inputs that a condition names, in order; raises ValueError where it cannot be read."""
    if said in condition.WORDS:
        return ()
    try:
        return tuple(dict.fromkeys(condition.names(condition.parse(said))))
    except DefinitionError:
        raise ValueError(
            f"{_shown(said)} is not a condition; write any, all, each, or inputs joined with & and |, "
            "such as orders & (stock | prices)"
        ) from None


@dataclass(frozen=True, slots=True)
class Word:
    """A word: the field of a job that it sets, how its value is read, and what it may say (for the docs)."""

    field: str
    parse: Callable[[Any], Any]
    allowed: str


WORDS: Mapping[str, Word] = {
    "mode": Word("mode", partial(choice, Mode), "realtime | microbatch | batch"),
    "materialized": Word("materialized", partial(choice, Materialized), "table | view | extract"),
    "key": Word("key", names, "columns"),
    "when": Word("when", when, "any | all | each | an expression over inputs"),
    "schedule": Word("schedule", schedule, '"02:00" or a five-field cron line'),
    "every": Word("every_seconds", positive_duration, "a duration"),
    "on": Word("on", text, "an asset"),
    "after": Word("after_seconds", duration, "a duration"),
    "gate": Word("gate", text, "a partition column"),
    "deadline": Word("deadline", clock_time, "a time of day"),
    "on_missing": Word("on_missing", partial(choice, Missing), "wait | run | fail"),
    "on_late": Word("on_late", partial(choice, Late), "correct | next | hold"),
    "on_error": Word("on_error", partial(choice, OnError), "park | stop"),
    "retries": Word("retries", whole, "a whole number"),
    "timeout": Word("timeout_seconds", positive_duration, "a duration"),
    "isolation": Word("isolation", partial(choice, Isolation), "thread | process"),
    "max_changes": Word("max_changes", partial(whole, least=1), "a whole number"),
    "priority": Word("priority", partial(whole, least=-1_000), "a whole number"),
    "freshness": Word("freshness_seconds", positive_duration, "a duration"),
    "start_from": Word("start_from", partial(choice, StartFrom), "now | beginning"),
    "on_backfill": Word("on_backfill", partial(choice, OnBackfill), "follow | coalesce"),
    "hold_above": Word("hold_above", whole, "a whole number"),
    "reconcile": Word("reconcile", schedule, '"03:00" or a five-field cron line'),
    "compare": Word("tolerance", tolerance, "tolerance NUMBER"),
    "assert": Word("asserts", assertions, ALLOWED),
    "description": Word("description", text, "text"),
    "owner": Word("owner", text, "text"),
    "tags": Word("tags", names, "names"),
}
"""Every word that any job may say, whatever its kind."""

_OF_THE_GATE = ("deadline", "on_missing", "on_late")


@dataclass(frozen=True, slots=True)
class Wrong:
    """A word that could not be read: which one, what is wrong and how to mend it."""

    word: str
    message: str
    mend: str


def fields(
    said: Mapping[str, object], also: Iterable[str] = (), is_outside: bool = False
) -> tuple[dict[str, Any], list[Wrong]]:
    """The fields of a job from its words, and what is wrong with them; `also` are words the caller reads itself."""
    known = {*WORDS, *also}
    found: dict[str, Any] = {}
    wrong = [_unknown(word, known) for word in said if word not in known]
    for word, value in said.items():
        if word not in WORDS or value is None:
            continue
        try:
            found[WORDS[word].field] = WORDS[word].parse(value)
        except ValueError as error:
            wrong.append(Wrong(word, f"{word}: {error}", f"{word}: {WORDS[word].allowed}"))
    wrong += _gather_gate(found, is_outside)
    return found, wrong


def _unknown(word: str, known: set[str]) -> Wrong:
    hint = nearest(word, known)
    mend = f"write {hint}" if hint else f"the words are {', '.join(sorted(known))}"
    return Wrong(word, f"unknown word {word}", mend)


def _gather_gate(found: dict[str, Any], is_outside: bool) -> list[Wrong]:
    """Put the four words of a gate together; a word of a gate without a gate is wrong."""
    parts = {word: found.pop(word) for word in _OF_THE_GATE if word in found}
    column = found.pop("gate", "")
    if column:
        if is_outside:
            parts.setdefault("on_late", Late.HOLD)
        found["gate"] = Gate(column, **parts)
        return []
    return [Wrong(word, f"{word} says nothing without a gate", "add gate: COLUMN") for word in parts]


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
