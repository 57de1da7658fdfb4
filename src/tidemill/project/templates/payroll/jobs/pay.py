"""Pays what was booked: one file for each time that the ledger grew, whatever happens to the machine meanwhile."""

import csv
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import tidemill as tm

HERE = Path(__file__).parents[1]


@tm.job(inputs="ledger", outputs="payments", mode="realtime", hold_above=100_000)
def pay(run: tm.Run) -> None:
    """Write the pay file of this run: under its idempotency key, which every attempt at the same work has."""
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    periods: dict[str, set[str]] = defaultdict(set)
    for line in run.changes("ledger").to_pylist():
        amounts[line["employee"]] += line["_weight"] * line["paid"]
        periods[line["employee"]].add(line["period"])
    folder = HERE / "paid"
    folder.mkdir(exist_ok=True)
    beside = folder / f".{run.idempotency_key}"
    with beside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["employee", "periods", "amount"])
        for employee, amount in sorted(amounts.items()):
            writer.writerow([employee, " ".join(sorted(periods[employee])), f"{amount:.2f}"])
            if (HERE / "unplug").exists():  # for trying out what a power cut in the middle does
                os.kill(os.getpid(), 9)
    latest = max(period for booked in periods.values() for period in booked)
    beside.replace(folder / f"{latest}-{run.idempotency_key[:8]}.csv")
