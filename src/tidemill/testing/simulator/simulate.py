"""Playing seeds, and making what fails small."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace

from tidemill.testing.simulator.generate import SIZE, history_of
from tidemill.testing.simulator.machine import Machine
from tidemill.testing.simulator.oracle import check_moment, judge
from tidemill.testing.simulator.player import MachineFactory, Player
from tidemill.testing.simulator.words import History

__all__ = ["Broken", "play", "shrunk", "simulate", "sweep"]


class Broken(AssertionError):
    """A history broke a promise: which, the smallest history that still does, and the command that shows it again."""


def play(history: History, factory: MachineFactory = Machine) -> str:
    """What is wrong at the end of a history; "" where all is well."""
    try:
        player = Player(history, factory, check_moment)
        player.play()
        judge(player)
    except Exception as error:  # noqa: BLE001 - whatever went wrong is what the history found
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, AssertionError) else f" at {place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
        return f"{type(error).__name__}: {error}{where}"
    return ""


def shrunk(history: History, factory: MachineFactory = Machine) -> History:
    """A part of the history that is wrong in the same way, from which nothing more can be dropped."""
    kind = _kind(play(history, factory))

    def is_wrong(less: History) -> bool:
        return _kind(play(less, factory)) == kind

    history = _without_actions(history, is_wrong)
    return _without_actions(_without_jobs(history, is_wrong), is_wrong)


def _kind(wrong: str) -> str:
    return wrong.partition(":")[0]


def _without_actions(history: History, is_wrong: Callable[[History], bool]) -> History:
    width = max(1, len(history.actions) // 2)
    while width:
        at = 0
        while at < len(history.actions):
            less = replace(history, actions=history.actions[:at] + history.actions[at + width :])
            if is_wrong(less):
                history = less
            else:
                at += width
        width //= 2
    return history


def _without_jobs(history: History, is_wrong: Callable[[History], bool]) -> History:
    for spec in reversed(history.jobs):
        less = replace(history, jobs=tuple(each for each in history.jobs if each != spec))
        is_read = any(spec.output in each.inputs for each in less.jobs)
        if not is_read and is_wrong(less):
            history = less
    return history


def simulate(seed: int, size: int = SIZE, factory: MachineFactory = Machine) -> None:
    """Play the history of a seed; raises Broken with the smallest part of it that is wrong too."""
    history = history_of(seed, size)
    wrong = play(history, factory)
    if wrong:
        small = shrunk(history, factory)
        command = f"python -m tidemill.testing.simulator --seed {seed}" + (f" --size {size}" if size != SIZE else "")
        raise Broken(f"seed {seed}: {play(small, factory)}\n(at first: {wrong})\n\n{small}\n\nagain: {command}")


def sweep(seeds: Iterable[int], size: int = SIZE, factory: MachineFactory = Machine) -> int | None:
    """The first of the seeds that breaks a promise; None where all keep them."""
    return next((seed for seed in seeds if play(history_of(seed, size), factory)), None)
