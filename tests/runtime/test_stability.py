"""When a file counts as landed: by looks that are far enough apart, never by two quick ones."""

from __future__ import annotations

from tidemill.core.ports import SourceFile
from tidemill.runtime.stability import Stability


def file_of(path: str, size: int = 1, stamp: str = "1") -> SourceFile:
    return SourceFile(path, size, stamp)


def test_a_file_is_stable_when_looks_half_a_second_apart_show_the_same() -> None:
    stability = Stability()
    assert stability.stable([file_of("a")], 0.0) == []
    assert stability.stable([file_of("a")], 0.4) == []
    assert stability.stable([file_of("a")], 0.5) == [file_of("a")]


def test_a_file_that_changes_waits_anew() -> None:
    stability = Stability()
    stability.stable([file_of("a")], 0.0)
    assert stability.stable([file_of("a", 2)], 5.0) == []
    assert stability.stable([file_of("a", 2, "2")], 5.5) == []
    assert stability.stable([file_of("a", 2, "2")], 6.0) == [file_of("a", 2, "2")]


def test_a_file_that_went_and_came_back_waits_anew() -> None:
    stability = Stability()
    stability.stable([file_of("a")], 0.0)
    stability.stable([], 0.2)
    assert stability.stable([file_of("a")], 5.0) == []


def test_a_time_that_jumps_back_only_costs_another_look() -> None:
    stability = Stability()
    stability.stable([file_of("a")], 100.0)
    assert stability.stable([file_of("a")], 10.0) == []
    assert stability.stable([file_of("a")], 10.5) == [file_of("a")]


def test_without_a_delay_the_second_look_is_enough() -> None:
    stability = Stability(0.0)
    assert stability.stable([file_of("a")], 1.0) == []
    assert stability.stable([file_of("a")], 1.0) == [file_of("a")]
