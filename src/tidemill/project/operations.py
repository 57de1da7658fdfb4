"""What can be asked of an open project: one list of operations, the same for the command line, Python and HTTP.

Rules of this file:
  * arguments and answers are JSON values (dictionaries, lists, text, numbers, true/false, null), with the shapes of the
    outer contract, so that asking the owner over HTTP and being the owner look the same to a command;
  * an operation either does what it says or raises a TidemillError; names that nothing answers to raise NotFound.

`tidemill.project.mill.Mill` implements it by being the owner; `tidemill.server.client.RemoteMill` by asking the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["RUN_STATES", "Bound", "Json", "Operations", "Progress"]

Bound = int | str
"""Where a range begins or ends: an offset, or a time (ISO 8601, UTC where it says no zone); 0 and "" leave it open."""

Json = Any
RUN_STATES = ("running", "retrying", "succeeded", "failed", "held", "cancelled")
Progress = Callable[[dict[str, Any]], None]
"""Told while work goes on: `{"run", "job", "state", "rows_out", "parked", ...}` for each run that begins or ends; beside
runs, `state` "rejected" for a file (`job` is its asset), and at the end "alarm" (with its `kind`) for what stands."""


class Operations(Protocol):
    """The operations of an open project."""

    def emit(self, asset: str, data: bytes, *, source: str = "", mark: str = "") -> Json:
        """Hand NDJSON events to a topic: `{accepted, duplicate, parked, head, results, warning}`.

        `warning` is "" or says which fields the topic does not declare.
        `results` lists what was not accepted: `{index, status, reason, column}`. `source` and `mark` keep the resume
        position of a file being emitted (see `mark`).
        """

    def mark(self, asset: str, source: str) -> str:
        """The last mark kept for `source` with `emit`, or ""."""

    def touch(self, asset: str, version: str = "") -> Json:
        """Say that an external asset changed: `{accepted, duplicate, parked}`."""

    def run(self, jobs: Sequence[str] = (), *, force: bool = False, progress: Progress | None = None) -> Json:
        """Do all that is due (of these jobs, or all) and stop when idle: `{runs, succeeded, failed, changes}`."""

    def query(self, sql: str) -> list[Json]:
        """The rows of a query over assets; topics and views are brought to head first."""

    def map(self) -> list[Json]:
        """The object mapping: `[{job, inputs, outputs, mode}]`."""

    def assets(self) -> list[Json]:
        """Every asset: `[{asset, kind, columns: {name: type}, key, writer, readers, reads, description, owner, tags}]`.

        Topics and files also have `schema`, their policy, and `versions`: `[{version, since, columns}]`, the columns
        that a topic's events have behind the offset `since`.
        `readers` are jobs, and views that name it; `reads` is what a view names.
        """

    def status(self) -> Json:
        """`{assets: [{asset, kind, head, rows, freshness_seconds}],
        jobs: [{job, mode, state, lag_changes, lag_seconds, freshness_seconds}], alarms: [...]}`."""

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[Json]:
        """`[{run, job, state, attempt, inputs: {asset: [from, to]}, started_at, finished_at, rows_in, rows_out, error}]`.

        Of a run that failed or is held `inputs` are what it tried to take, as far as it came.
        Raises NotFound for a job that there never was, UserError for a `state` that is none of `RUN_STATES`.
        """

    def logs(self, run: str) -> list[str]:
        """What a run printed or logged, line by line."""

    def explain(self, job: str) -> Json:
        """`{job, ready, because: [...], state, mode, last_start: {...}}`."""

    def mode(self, job: str, word: str | None = None) -> Json:
        """The mode of a job, after overriding it where a word is given: `{job, mode, override}`."""

    def pause(self, job: str) -> Json:
        """Start no more runs of the job: `{job, state}`."""

    def resume(self, job: str, start: str = "last") -> Json:
        """Let the job run again, from its cursor ("last"), the heads ("now") or an offset: `{job, state}`."""

    def retry(self, job: str) -> Json:
        """Judge a held or retrying job again at once: `{job, state}`."""

    def cancel(self, run: str) -> Json:
        """Cancel a run that is going on: `{run, state}`."""

    def plan(self) -> Json:
        """What an apply would change and what would run, and how each job is maintained:
        `{changes: [{job, change, why}], jobs: [{job, maintained, reason, guarantee, ready, because}]}`."""

    def apply(self) -> Json:
        """Apply what waits for it (definitions under serve, held runs): `{applied: [...], released: [...]}`."""

    def audit(
        self, name: str = "", *, from_: Bound = 0, to: Bound = 0, repair: bool = False, progress: Progress | None = None
    ) -> Json:
        """What became of the events in (from_, to] in each reader of an asset, in one job, or in all:
        `{adds_up, log, taken, parked, skipped, passed_over, waiting, missing, repaired, readers: [{job, asset, from, to,
        ..., missing_ids: [{offset, id}], mend, error}]}`. Only topics know times. `repair` commits what pure jobs lack.
        """

    def reconcile(
        self, name: str, *, repair: bool = False, against: str = "", progress: Progress | None = None
    ) -> Json:
        """Compare a job's (or an asset's) rows with its transform over its whole inputs, at its own cursors:
        `{equal, missing, extra, different, repaired, samples, copies, rebuilt, lag_changes}`.

        `repair` commits the difference. `against` compares with an asset, a query or a file instead. `copies` counts what
        differs in the copies of topics that the job reads, `rebuilt` are the readers that are made anew after a repair.
        """

    def replay(
        self,
        job: str,
        *,
        start: str = "",
        into: str = "",
        is_dry: bool = False,
        rate: float = 0.0,
        is_abandoned: bool = False,
        progress: Progress | None = None,
    ) -> Json:
        """Make a pure job's table anew with its present code, and commit the difference:
        `{job, runs, succeeded, failed, changes}`; with `is_dry` what would differ, as `reconcile` says it. Where the work
        is done in slices it answers also `{state, slices, parked}`; a state "paused" goes on when asked again.

        `into` makes a side table instead, from `start` on (an offset or a time), and answers also
        `{state, into, rows, parked, inputs}`; a state "paused" goes on when asked again. `is_abandoned` lets it go.
        Of a job that acts outside the recorded runs are delivered again, with their keys: at most `rate` rows a second
        (0: no limit); it answers also `{state, rows, error}`, state "held" where `apply` is to let it go; with `is_dry`
        `{job, runs, rows, held, keys}`.
        """

    def shadow(
        self,
        job: str,
        *,
        mode: str = "",
        sql: str = "",
        file: str = "",
        against: str = "",
        samples: int = 0,
        promote: bool = False,
        equal_for: float = 0.0,
        accept: int = 0,
        abandon: bool = False,
    ) -> Json:
        """Run a job in another `mode`, with another query (`sql`, the text of `file`), or compare it with an asset (`against`),
        beside the live one: `{job, kind, word, equal, rows, different, counts, samples, equal_since, live, shadow, ...}`.

        Without any of them: the report, with so many `samples`. `promote` lets the live job go on as the shadow where they
        are equal, and were so for `equal_for` seconds (`{..., promoted, reason}`); `accept` takes exactly so many differing
        rows. `abandon` lets the shadow go: `{job, abandoned}`.
        """

    def backfill(
        self,
        job: str,
        *,
        start: str = "",
        end: str = "",
        partitions: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Json:
        """Process what a job never processed, from `start` to `end` (offsets or times), or these values of its gate:
        `{job, runs, succeeded, failed, changes, state, rows, parked, left, error}`.

        `state` is finished, paused, held (until `apply`) or failed; `left` what is still to be processed.
        """

    def replay_dead(self, ids: Sequence[str]) -> Json:
        """Send events that were parked at the door through it again: `[{id, state, reason}]`."""

    def edit_dead(self, id: str, payload: str) -> Json:
        """Change a parked event before it is replayed: `{id, state, payload}`."""

    def discard_dead(self, ids: Sequence[str]) -> Json:
        """Let parked events count as settled without being taken: `[{id, state, reason}]`."""

    def dead(self, *, asset: str = "", limit: int = 100) -> list[Json]:
        """Dead letters: `[{id, asset, job, stage, reason, payload, attempts, state}]`."""

    def backup(self, target: str) -> Json:
        """A consistent copy of the state, cursors included: `{target, files: [...], bytes}`."""

    def keys(self) -> list[Json]:
        """The access keys, without themselves: `[{key, scopes, created_at, old_until}]`."""

    def add_key(self, key: str, scopes: Sequence[str]) -> Json:
        """Make an access key, shown this once: `{key, scopes, secret}`."""

    def rotate_key(self, key: str, overlap_seconds: float) -> Json:
        """Another secret for a key, the present one counting for a while more: `{key, scopes, secret, old_until}`."""

    def remove_key(self, key: str) -> Json:
        """Let a key count no more: `{key, removed}`."""

    def close(self) -> None:
        """Stop and release everything; idempotent."""
