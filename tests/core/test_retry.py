"""What follows a failure: a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.errors import (
    BrokenJob,
    Conflict,
    DefinitionError,
    Fenced,
    InvariantError,
    NotFound,
    PoisonRecord,
    StateCorrupt,
    StorageFull,
    TooManyParked,
)
from tidemill.core.retry import (
    BACKOFF_BASE_SECONDS,
    BACKOFF_CAP_SECONDS,
    PARKED_MAX,
    PARKED_WINDOW,
    Failure,
    Reaction,
    after_failure,
    backoff_seconds,
    failure_of,
    stop_before,
)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("x"), Failure.TRANSIENT),
        (OSError("x"), Failure.TRANSIENT),
        (PoisonRecord("x"), Failure.TRANSIENT),
        (StorageFull("x"), Failure.STORAGE),
        (Conflict("x"), Failure.CONFLICT),
        (Fenced("x"), Failure.FENCED),
        (BrokenJob("x"), Failure.FINAL),
        (TooManyParked("x"), Failure.FINAL),
        (StateCorrupt("x"), Failure.FINAL),
        (DefinitionError("x"), Failure.FINAL),
        (NotFound("x"), Failure.FINAL),
        (InvariantError("x"), Failure.FINAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_class_of_an_error_says_what_kind_of_failure_it_is(error: Exception, failure: Failure) -> None:
    assert failure_of(error) is failure


@pytest.mark.parametrize(
    ("failure", "attempt", "retries", "reaction"),
    [
        (Failure.TRANSIENT, 1, 3, Reaction.RETRY),
        (Failure.TRANSIENT, 3, 3, Reaction.RETRY),
        (Failure.TRANSIENT, 4, 3, Reaction.HOLD),
        (Failure.TRANSIENT, 1, 0, Reaction.HOLD),
        (Failure.FINAL, 1, 3, Reaction.HOLD),
        (Failure.WAITS, 1, 3, Reaction.HOLD),
        (Failure.CONFLICT, 1, 0, Reaction.AGAIN),
        (Failure.CONFLICT, 99, 3, Reaction.AGAIN),
        (Failure.STORAGE, 1, 0, Reaction.RETRY),
        (Failure.STORAGE, 10_000, 3, Reaction.RETRY),
        (Failure.FENCED, 1, 3, Reaction.STOP),
    ],
)
def test_a_failure_is_followed_by(failure: Failure, attempt: int, retries: int, reaction: Reaction) -> None:
    assert after_failure(failure, attempt, retries, 0.5).reaction is reaction


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_its_bound_nor_the_cap(attempt: int, jitter: float) -> None:
    bound = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(attempt - 1, 60))
    assert 0 <= backoff_seconds(attempt, jitter) <= bound


def test_waits_double_up_to_the_cap() -> None:
    waits = [backoff_seconds(attempt, 1.0) for attempt in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_full_storage_is_tried_again_after_a_second_at_least(attempt: int, jitter: float) -> None:
    assert after_failure(Failure.STORAGE, attempt, 3, jitter).wait_seconds >= 1.0


def naive_stop_before(recent: list[bool], fresh: list[bool]) -> int | None:
    for index in range(len(fresh)):
        last = (recent + fresh[: index + 1])[-PARKED_WINDOW:]
        if fresh[index] and last.count(True) > PARKED_MAX:
            return index
    return None


parkings = st.lists(st.sampled_from([True, False, False]), max_size=260)


@given(parkings, parkings)
def test_the_run_stops_before_the_row_that_is_one_parked_too_many(recent: list[bool], fresh: list[bool]) -> None:
    assert stop_before(recent, fresh) == naive_stop_before(recent, fresh)


@pytest.mark.parametrize(
    ("recent", "fresh", "stop"),
    [
        ([], [True] * 20, None),
        ([], [True] * 21, 20),
        ([True] * 20, [True], 0),
        ([True] * 20, [False] * 300, None),
        ([True] * 20 + [False] * 80, [True], None),
        ([False] + [True] * 20 + [False] * 78, [True], 0),
        ([], [], None),
    ],
    ids=["20 may park", "21 may not", "the last run counts", "good rows", "old ones leave", "window", "none"],
)
def test_more_than_20_of_the_last_100_stop_a_job(recent: list[bool], fresh: list[bool], stop: int | None) -> None:
    assert stop_before(recent, fresh) == stop
