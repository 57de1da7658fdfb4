"""`Run`: what a job with outside effects is given.

Rules of this file:
  * a run sees exactly the ranges that were pinned for it, however often it is tried;
  * its idempotency key depends on the job, the ranges and the value of its gate alone, so every retry has the same;
  * behind a gate (`value`) it sees the rows that were released for that value, and no others;
  * after the run is over (or was abandoned) it answers nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from tidemill.core.change import OFFSET, RID, Images, Slice
from tidemill.core.effect import idempotency_key, row_key
from tidemill.core.errors import NotFound, UserError
from tidemill.core.ports import Reader, Work

__all__ = ["Run", "run_of"]

Log = Callable[[str], None]
Read = Callable[[str, str], pa.Table]


class Run:
    """One run of a job that acts outside.

    `inputs` maps each input to the part (from, to] of its log that the run takes. Behind a gate `value` is the partition
    value that the run opens or corrects (text; "" without a gate), and of inputs with that column the run takes the rows
    of the value within that part; where late rows join (`on_late: next`), those of their values too. `traceparents` are
    the traces (W3C Trace Context) that the senders of its events named, the newest of each input first.
    """

    def __init__(
        self, run: str, job: str, output: str, ranges: Mapping[str, tuple[int, int]], read: Read, *,
        key: str = "", attempt: int = 1, value: str = "", log: Log | None = None,
        traceparents: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.id = run
        self.job = job
        self.attempt = attempt
        self.value = value
        self.traceparents = list(traceparents)
        self.inputs = dict(ranges)
        self.idempotency_key = key or idempotency_key(job, ranges, value)
        self.output = output
        self._read = read
        self._log = log
        self._is_over = False

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.job}>"

    def changes(self, asset: str) -> pa.Table:
        """What changed: both images of each changed row, `_weight` -1 for the old and +1 for the new.

        Behind a gate: when a value opens all its rows, when it is corrected what changed since it was shown.
        """
        table = self._rows_of(asset, Images.CHANGES)
        return table.drop_columns([RID, OFFSET])

    def rows(self, asset: str) -> pa.Table:
        """All rows as they are at the end of the run's range; behind a gate those of the values released so far."""
        table = self._rows_of(asset, Images.STATE)
        return table.drop_columns([RID, OFFSET])

    def keys(self, asset: str) -> list[str]:
        """The idempotency key of each row of `changes(asset)`, in its order."""
        table = self._rows_of(asset, Images.CHANGES)
        pairs = zip(table.column(RID).to_pylist(), table.column(OFFSET).to_pylist(), strict=True)
        return [row_key(self.job, self.output, asset, rid, offset) for rid, offset in pairs]

    def read(self, asset: str, images: str) -> pa.Table:
        """Rows with their identity and offset: for who carries a run to another process."""
        return self._rows_of(asset, images)

    def log(self, text: str) -> None:
        """Write a line to the run's log."""
        if self._log is not None and not self._is_over:
            self._log(text)

    def close(self) -> None:
        """The run is over; called by the engine."""
        self._is_over = True

    def _rows_of(self, asset: str, images: str) -> pa.Table:
        if asset not in self.inputs:
            raise NotFound(f"{asset} is not an input of {self.job}", mend=f"the inputs are {', '.join(self.inputs)}")
        if self._is_over:
            raise UserError(f"run {self.id} is over: it took longer than its timeout, or kept its run object")
        return self._read(asset, images)


def run_of(work: Work, reader: Reader, *, key: str = "", log: Log | None = None) -> Run:
    """The run of a piece of work, reading through a reader; `key` is its idempotency key where it is known already."""

    def read(asset: str, images: str) -> pa.Table:
        from_, to = work.ranges[asset]
        part = Slice(asset, from_, to, images, work.released, work.excluding.get(asset, ()))
        return pa.RecordBatchReader.from_stream(reader.read(part)).read_all()

    output = work.job.outputs[0] if work.job.outputs else ""
    return Run(
        work.run, work.job.name, output, work.ranges, read, key=key, attempt=work.attempt, value=work.value, log=log,
        traceparents=work.traceparents,
    )  # fmt: skip
