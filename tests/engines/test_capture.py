"""What functions print is their run's: never lost between runs, never in the answer, never more than there is room for."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidemill.engines.python.capture import LINE_CHARACTERS_MAX, aside, captured
from tidemill.project.runlogs import LOG_BYTES_MAX, LOGS_MAX, RunLogs


@pytest.fixture(autouse=True)
def _streams_are_put_back() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before


def said(*texts: str, to: str = "stdout") -> None:
    for text in texts:
        getattr(sys, to).write(text)


def test_both_streams_go_to_the_log_line_by_line_and_a_last_line_needs_no_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines: list[str] = []
    with captured(lines.append):
        said("one\ntw", "o\n")
        said("oops\n", to="stderr")
        said("rest")
    assert lines == ["one", "two", "oops", "rest"]
    assert capsys.readouterr() == ("", "")


def test_runs_at_the_same_time_do_not_mix() -> None:
    logs: dict[int, list[str]] = {number: [] for number in range(8)}
    together = threading.Barrier(8)

    def run(number: int) -> None:
        together.wait(10)
        with captured(logs[number].append):
            for step in range(200):
                said(f"{number}", f" {step}\n")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, logs))
    assert logs == {number: [f"{number} {step}" for step in range(200)] for number in range(8)}


def test_what_asyncio_runs_is_followed() -> None:
    lines: list[str] = []

    async def speak() -> None:
        await asyncio.to_thread(said, "from a thread of asyncio\n")

    with captured(lines.append):
        asyncio.run(speak())
    assert lines == ["from a thread of asyncio"]


def test_a_thread_that_a_function_starts_never_writes_into_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with captured(lines.append):
        thread = threading.Thread(target=said, args=("stray\n",))
        thread.start()
        thread.join()
    assert lines == []
    assert capsys.readouterr() == ("", "stray\n")


def test_logging_is_captured_also_by_a_handler_that_was_made_at_import(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    logger = logging.getLogger("tidemill of the test")
    with aside():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
    with captured(lines.append):
        logger.warning("inside")
    logger.warning("outside")
    assert lines == ["WARNING inside"]
    assert capsys.readouterr().err.endswith("WARNING outside\n")


def test_what_a_file_prints_when_it_is_loaded_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with aside():
        said("loading\n")
    assert capsys.readouterr() == ("", "loading\n")


def test_what_is_printed_after_the_run_is_over_is_dropped() -> None:
    lines: list[str] = []
    goes_on, is_over = threading.Event(), threading.Event()
    with captured(lines.append):
        context = contextvars.copy_context()

        def late() -> None:
            said("in time\n")
            goes_on.set()
            is_over.wait(10)
            said("too late\n")

        thread = threading.Thread(target=context.run, args=(late,))
        thread.start()
        goes_on.wait(10)
    is_over.set()
    thread.join()
    assert lines == ["in time"]


def test_a_traceback_begins_where_the_function_does() -> None:
    lines: list[str] = []

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), captured(lines.append):
        broken()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no"
    assert any("in broken" in line for line in lines)


def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    with captured(lines.append):
        said("x" * (2 * LINE_CHARACTERS_MAX + 1))
    assert [len(line) for line in lines] == [LINE_CHARACTERS_MAX, LINE_CHARACTERS_MAX, 1]


def test_a_stream_that_was_wrapped_and_left_wrapped_does_not_turn_in_a_circle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tee:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def write(self, text: str) -> int:
            return int(self.inner.write(text))  # type: ignore[attr-defined]

        closed = False

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with captured(lambda _: None):
        sys.stdout = Tee(sys.stdout)  # type: ignore[assignment]
    lines: list[str] = []
    with captured(lines.append):
        said("inside\n")
    said("outside\n")
    assert lines == ["inside"]


def test_a_log_is_bounded_over_all_attempts_and_says_where_it_ends(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path / "logs")
    for _ in range(3):
        with logs.opened("r1") as log:
            for _ in range(LOG_BYTES_MAX // 1_000):
                log("x" * 999)
    lines = logs.read("r1")
    assert lines[-1] == "... the log of this run is full (1,000,000 bytes): what came after is not kept"
    assert sum(len(line) + 1 for line in lines) <= LOG_BYTES_MAX + 100


def test_a_run_that_prints_nothing_has_no_log_and_a_full_disk_fails_no_run(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path / "logs")
    with logs.opened("r1"):
        pass
    assert not (tmp_path / "logs").exists()
    (tmp_path / "logs").write_text("in the way")
    with logs.opened("r1") as log:
        log("nobody hears it")


def test_only_the_logs_of_the_newest_runs_are_kept(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    for number in range(LOGS_MAX + 3):
        (tmp_path / f"{number:08}.log").touch()
    assert logs.trim() == 3
    assert min(path.name for path in tmp_path.iterdir()) == "00000003.log"
