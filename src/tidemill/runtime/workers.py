"""Threads that carry out the loop's tasks, in three lanes.

Rules of this file:
  * lane `tables` is one thread, so its tasks never overlap; lanes `batch` and `outside` have a few and many;
  * within a lane the more urgent priority goes first, then who came first;
  * stopping waits for what runs, up to a limit, and forgets what waits: what was not committed is simply still due.
"""

from __future__ import annotations

import itertools
import queue
import threading

from tidemill.runtime.loop import Lane, Task

__all__ = ["BATCH_THREADS", "OUTSIDE_THREADS", "ThreadWorkers"]

BATCH_THREADS = 2
OUTSIDE_THREADS = 16


class ThreadWorkers:
    """Lanes of daemon threads, started when first needed."""

    def __init__(self) -> None:
        sizes = {Lane.TABLES: 1, Lane.BATCH: BATCH_THREADS, Lane.OUTSIDE: OUTSIDE_THREADS}
        self._lanes = {name: _LaneThreads(name, size) for name, size in sizes.items()}

    def submit(self, lane: str, task: Task, *, priority: int = 0) -> None:
        """Run the task soon."""
        self._lanes[lane].submit(task, priority)

    def stop(self, timeout_seconds: float = 30.0) -> bool:
        """Finish what runs; returns whether all of it ended in time."""
        for lane in self._lanes.values():
            lane.close()
        ended = [lane.join(timeout_seconds) for lane in self._lanes.values()]
        return all(ended)


class _LaneThreads:
    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._tasks: queue.PriorityQueue[tuple[float, int, Task | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()

    def submit(self, task: Task, priority: int) -> None:
        self._tasks.put((-priority, next(self._order), task))
        with self._lock:
            if self._idle < self._tasks.qsize() and len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=f"tidemill-{self._name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        with self._lock:
            for _ in self._threads:
                self._tasks.put((float("-inf"), next(self._order), None))

    def join(self, timeout_seconds: float) -> bool:
        for thread in self._threads:
            thread.join(timeout_seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            _, _, task = self._tasks.get()
            with self._lock:
                self._idle -= 1
            if task is None:
                return
            task()
