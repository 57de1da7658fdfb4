"""A small project in memory: real operations over SQLite, for commands and the server to ask.

It keeps two topics, an external asset and one job that counts; enough for every operation to do what it says.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from tidemill.core.errors import NotFound, UserError
from tidemill.core.model import Asset, AssetKind, Column
from tidemill.core.ports import Receipt, Refusal, Sending
from tidemill.project.asking import Asked, select_of
from tidemill.project.keys import Keys
from tidemill.project.operations import Progress
from tidemill.project.serving import ServerWords

COLUMNS = {"id": "varchar", "carrier": "varchar", "delay": "integer"}
MAPPING = [
    {"job": "totals", "inputs": ["departures"], "outputs": ["totals"], "mode": "batch"},
    {"job": "report", "inputs": ["totals"], "outputs": ["report"], "mode": "batch"},
    {"job": "send", "inputs": ["report", "end_of_day"], "outputs": ["sent"], "mode": "realtime"},
    {"job": "other", "inputs": ["elsewhere"], "outputs": ["aside"], "mode": "microbatch"},
]
KINDS = {"departures": "topic", "elsewhere": "topic", "end_of_day": "external", "sent": "external"}


class FakeMill:
    """The operations of a project, all in memory; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        for topic in ("departures", "elsewhere"):
            self._database.execute(f'create table "{topic}" (id text primary key, carrier text, delay integer)')
        self._database.execute("create table totals (carrier text, flights integer, delay integer)")
        self._heads = dict.fromkeys(self._names(), 0)
        self._cursors = {job["job"]: 0 for job in MAPPING}
        self._modes = {job["job"]: job["mode"] for job in MAPPING}
        self._states = dict.fromkeys(self._modes, "idle")
        self._runs: list[dict[str, Any]] = []
        self._dead: list[dict[str, Any]] = []
        self._marks: dict[tuple[str, str], str] = {}
        self.blocks: list[tuple[int, str]] = []
        self.fails_on = ""
        self.waits_for: threading.Event | None = None
        self.runs_begun = threading.Semaphore(0)
        self._notes: dict[str, Any] = {}
        self.access = Keys(self, time.time)

    # ---------------------------------------------------------------------------------------- changes in

    def emit(self, asset: str, data: bytes, *, source: str = "", mark: str = "") -> Any:
        with self._lock:
            self._known(asset)
            self.blocks.append((len(data), mark))
            answer = self._accept(asset, data)
            if source:
                self._marks[asset, source] = mark
        return answer

    def _accept(self, asset: str, data: bytes) -> dict[str, Any]:
        accepted = duplicate = 0
        results = []
        for index, line in enumerate(data.splitlines()):
            try:
                row = json.loads(line)
                assert row["delay"] is None or isinstance(row["delay"], int)
            except (ValueError, KeyError, TypeError, AssertionError):
                results.append({"index": index, "status": "parked", "reason": "not a departure", "column": "delay"})
                self._park(asset, line.decode(errors="replace"))
                continue
            values = (row["id"], row.get("carrier"), row["delay"])
            done = self._database.execute(f'insert or ignore into "{asset}" values (?, ?, ?)', values)
            accepted += done.rowcount
            duplicate += 1 - done.rowcount
        self._heads[asset] += accepted
        counts = {"accepted": accepted, "duplicate": duplicate, "parked": len(results)}
        return {**counts, "head": self._heads[asset], "results": results}

    def _park(self, asset: str, payload: str) -> None:
        letter = {"id": str(len(self._dead) + 1), "asset": asset, "job": None, "stage": "door", "payload": payload}
        self._dead.append({**letter, "reason": "not a departure", "attempts": 1, "state": "parked"})

    def mark(self, asset: str, source: str) -> str:
        return self._marks.get((asset, source), "")

    def touch(self, asset: str, version: str = "") -> Any:
        self._known(asset)
        self._heads[asset] += 1
        return {"accepted": 1, "duplicate": 0, "parked": 0}

    # ------------------------------------------------------------------------------------- being served

    server = ServerWords()
    hooks: ClassVar[dict[str, Any]] = {}

    def asset(self, name: str) -> Asset:
        self._known(name)
        columns = tuple(Column(column, type_) for column, type_ in COLUMNS.items())
        return Asset(name, AssetKind(KINDS.get(name, "table")), columns)

    def note(self, topic: str, name: str, value: Any) -> None:
        self._notes[name] = value

    def notes(self, topic: str) -> dict[str, Any]:
        return self._notes

    def keys(self) -> list[Any]:
        return self.access.listed()

    def add_key(self, key: str, scopes: Sequence[str]) -> Any:
        return self.access.add(key, scopes)

    def rotate_key(self, key: str, overlap_seconds: float) -> Any:
        return self.access.rotate(key, overlap_seconds)

    def remove_key(self, key: str) -> Any:
        return self.access.remove(key)

    def topics(self) -> list[Asset]:
        return [self.asset(name) for name, kind in KINDS.items() if kind == "topic"]

    def take(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        return [self._received(self.emit(sending.asset.name, sending.events)) for sending in sendings]

    @staticmethod
    def _received(answer: dict[str, Any]) -> Receipt:
        refusals = tuple(Refusal(each["index"], each["reason"], "", each["column"]) for each in answer["results"])
        return Receipt(answer["accepted"], answer["duplicate"], answer["parked"], answer["head"], refusals)

    def head(self, asset: str) -> int:
        return self._heads[asset]

    def rows(self, asset: str, asked: Asked) -> Any:
        known = next((each for each in self.assets() if each["asset"] == asset), None)
        if known is None:
            raise NotFound(f"there is no asset {asset}", mend="see GET /v1/assets")
        columns = tuple(Column(name, type_) for name, type_ in known["columns"].items())
        shaped = Asset(asset, AssetKind(known["kind"]), columns, tuple(known["key"]))
        return pa.Table.from_pylist(self.query(select_of(shaped, asked)))

    def changes(self, asset: str, from_: int, limit: int) -> tuple[Iterator[dict[str, Any]], int]:
        self._known(asset)
        return iter(()), self._heads[asset]

    def listen(self, hear: Callable[[], bool]) -> None:
        hear()

    def journey(self, topic: str, asset: str) -> Any:
        raise UserError(f"nothing of {topic} comes to {asset}")

    def has_arrived(self, way: Any) -> bool:
        return True

    def produced(self, way: Any, offsets: Sequence[int]) -> list[Any]:
        return []

    def is_alive(self) -> bool:
        return True

    def remembered(self, topic: str, name: str) -> Any:
        return None

    def forget(self, first: str, last: str) -> None:
        return None

    # ------------------------------------------------------------------------------------------ running

    def run(self, jobs: Sequence[str] = (), *, force: bool = False, progress: Progress | None = None) -> Any:
        self.runs_begun.release()
        if self.waits_for is not None:
            self.waits_for.wait(30)
        counts = {"runs": 0, "succeeded": 0, "failed": 0, "changes": 0}
        for job in jobs or self._modes:
            self._job(job)
            if job == "totals" and (force or self._heads["departures"] > self._cursors[job]):
                self._run_totals(counts, progress)
        return counts

    def _run_totals(self, counts: dict[str, int], progress: Progress | None) -> None:
        with self._lock:
            came_from, head = self._cursors["totals"], self._heads["departures"]
            run = {"run": f"r{len(self._runs) + 1}", "job": "totals", "state": "running", "attempt": 1}
            if progress:
                progress(run)
            state = "failed" if self.fails_on == "totals" else "succeeded"
            rows_out = self._count() if state == "succeeded" else 0
            ended = {"inputs": {"departures": [came_from, head]}, "started_at": 1.0, "finished_at": 2.0}
            error = "division by zero\nmore" if state == "failed" else ""
            run = {**run, **ended, "state": state, "rows_in": head - came_from, "rows_out": rows_out, "error": error}
            self._cursors["totals"] = head
            self._runs.insert(0, run)
        counts["runs"] += 1
        counts[state] += 1
        counts["changes"] += rows_out
        if progress:
            progress(run)

    def _count(self) -> int:
        self._database.execute("delete from totals")
        counting = "insert into totals select carrier, count(*), sum(delay) from departures group by 1"
        rows = self._database.execute(counting).rowcount
        self._heads["totals"] += rows
        return rows

    # ------------------------------------------------------------------------------------------- asking

    def query(self, sql: str) -> list[Any]:
        with self._lock:
            try:
                return [dict(row) for row in self._database.execute(sql)]
            except sqlite3.Error as error:
                raise UserError(f"the query fails: {error}", place="query", mend="see: tidemill ls") from error

    def map(self) -> list[Any]:
        return [{**job, "mode": self._modes[job["job"]]} for job in MAPPING]

    def assets(self) -> list[Any]:
        return [self._asset(name) for name in self._names()]

    def _asset(self, name: str) -> dict[str, Any]:
        kind = KINDS.get(name, "table")
        writer = next((job["job"] for job in MAPPING if name in job["outputs"]), None)
        readers = [job["job"] for job in MAPPING if name in job["inputs"]]
        columns = {"carrier": "varchar", "flights": "bigint", "delay": "bigint"} if name == "totals" else {}
        columns = COLUMNS if kind == "topic" else columns
        key = ["carrier"] if name == "totals" else []
        said = {"asset": name, "kind": kind, "columns": columns, "key": key, "writer": writer, "readers": readers}
        return {**said, "description": "", "owner": "", "tags": []}

    def status(self) -> Any:
        assets = [
            {"asset": name, "kind": KINDS.get(name, "table"), "head": head, "rows": head, "freshness_seconds": None}
            for name, head in self._heads.items()
        ]
        jobs = [
            {"job": job, "mode": self._modes[job], "state": state, "lag_changes": self._lag(job), "lag_seconds": 90.0}
            | {"freshness_seconds": 7_300.0}
            for job, state in self._states.items()
        ]
        alarms = [{"kind": "held", "job": "report", "reason": "it failed", "at": 1.0}] if self.fails_on else []
        return {"assets": assets, "jobs": jobs, "alarms": alarms}

    def _lag(self, job: str) -> int:
        return self._heads["departures"] - self._cursors[job] if job == "totals" else 0

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[Any]:
        wanted = {"job": job, "state": state, "run": run}
        found = [each for each in self._runs if all(not said or each[word] == said for word, said in wanted.items())]
        return found[:limit]

    def logs(self, run: str) -> list[str]:
        if not self.runs(run=run):
            raise NotFound(f"there is no run {run}", mend="list them with: tidemill runs")
        return ["begun", "[done] 100%"]

    def explain(self, job: str) -> Any:
        self._job(job)
        news = self._lag(job)
        because = [f"departures has {news} changes"] if news else ["no input has news"]
        return {"job": job, "ready": bool(news), "because": because, "state": self._states[job], "mode": "batch"}

    def plan(self) -> Any:
        jobs = [
            {"job": job, "maintained": "recompute", "reason": "", "guarantee": "exactly once"} | self.explain(job)
            for job in self._modes
        ]
        return {"changes": [{"job": "totals", "change": "rebuild", "why": "its SQL changed"}], "jobs": jobs}

    # ----------------------------------------------------------------------------------------- steering

    def mode(self, job: str, word: str | None = None) -> Any:
        self._job(job)
        self._modes[job] = word or self._modes[job]
        return {"job": job, "mode": self._modes[job], "override": word is not None}

    def pause(self, job: str) -> Any:
        return self._steered(job, "paused")

    def resume(self, job: str, start: str = "last") -> Any:
        return self._steered(job, "idle")

    def retry(self, job: str) -> Any:
        return self._steered(job, "due")

    def _steered(self, job: str, state: str) -> dict[str, str]:
        self._job(job)
        self._states[job] = state
        return {"job": job, "state": state}

    def cancel(self, run: str) -> Any:
        if not self.runs(run=run):
            raise NotFound(f"there is no run {run}", mend="list them with: tidemill runs")
        return {"run": run, "state": "cancelled"}

    def apply(self) -> Any:
        return {"applied": ["totals"], "released": []}

    def dead(self, *, asset: str = "", limit: int = 100) -> list[Any]:
        return [letter for letter in self._dead if not asset or letter["asset"] == asset][:limit]

    def backup(self, target: str) -> Any:
        Path(target).mkdir(parents=True)
        (Path(target) / "all.json").write_text(json.dumps(self.query("select * from departures")))
        return {"target": target, "files": ["all.json"], "bytes": (Path(target) / "all.json").stat().st_size}

    def close(self) -> None:
        self._database.close()

    # ------------------------------------------------------------------------------------------ helpers

    @staticmethod
    def _names() -> list[str]:
        return list(dict.fromkeys(name for job in MAPPING for name in (*job["inputs"], *job["outputs"])))

    def _known(self, asset: str) -> None:
        if asset not in self._heads:
            raise NotFound(f"there is no asset {asset}", place="tidemill.toml", mend="see: tidemill ls")

    def _job(self, job: str) -> None:
        if job not in self._modes:
            raise NotFound(f"there is no job {job}", mend="did you mean totals?")
