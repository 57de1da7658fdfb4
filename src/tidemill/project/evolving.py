"""Topics whose columns grow with their events (`schema = "evolve"`).

Rules of this file:
  * the columns are in the ledger and in the catalog before an event that needs them is taken: whoever reads the event
    knows all of it;
  * columns are only ever added or widened here, one change at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tidemill.core.errors import TidemillError
from tidemill.core.model import Asset
from tidemill.core.ports import Receipt, Sending
from tidemill.core.schema import SchemaDrift
from tidemill.project.wiring import Machine, with_schema

__all__ = ["append", "append_all"]


def append(machine: Machine, topic: Asset, events: bytes, *, source: str = "", mark: str = "") -> Receipt:
    """Take events (NDJSON) into a topic, after it got the columns that they need (port `Log.append`)."""
    while True:
        try:
            return machine.ledger.append(topic, events, source=source, mark=mark)
        except SchemaDrift as drift:
            topic = _grown(machine, topic, drift)


def append_all(machine: Machine, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
    """Take what many senders sent, after their topics got the columns that it needs (`SQLiteStore.append_all`)."""
    sent = list(sendings)
    answers = machine.ledger.append_all(sent)
    while drifted := {n: each for n, each in enumerate(answers) if isinstance(each, SchemaDrift)}:
        again = []
        for number, drift in drifted.items():
            try:
                sent[number] = replace(sent[number], asset=_grown(machine, sent[number].asset, drift))
                again.append(number)
            except TidemillError as error:
                answers[number] = error
        for number, answer in zip(again, machine.ledger.append_all([sent[n] for n in again]), strict=True):
            answers[number] = answer
    return answers


def _grown(machine: Machine, topic: Asset, drift: SchemaDrift) -> Asset:
    """The topic with the columns that its events need. Raises DefinitionError where it cannot have them."""
    with machine.evolving:
        known = with_schema(machine, machine.catalog.assets.get(topic.name, topic))
        if known.columns != topic.columns:
            return known  # it has grown meanwhile: whether the events need more is asked of what it is now
        machine.ledger.append(replace(known, columns=drift.columns), b"")
        return with_schema(machine, known)
