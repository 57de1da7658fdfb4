"""An open project as a server sees it (see `Served` in serving.py): what it takes, gives and tells beside operations.

Rules of this file:
  * it wires questions to the machine and decides nothing;
  * any thread may call; what is heard is heard on the loop's thread, and must not block it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidemill.core.event import Landed
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Head, Receipt, Sending
from tidemill.project import awaiting, evolving, reading, reports
from tidemill.project.asking import Asked
from tidemill.project.assets import GIVEN
from tidemill.project.awaiting import Journey
from tidemill.project.hooks import Hook
from tidemill.project.keys import Keys
from tidemill.project.serving import ServerWords
from tidemill.project.wiring import Machine

__all__ = ["ServedMachine"]


class ServedMachine:
    """The part of an open project that a server uses."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.access = Keys(machine.ledger, machine.clock.now)

    @property
    def server(self) -> ServerWords:
        """What `[server]` says now."""
        return self.machine.definitions.server

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """The hooks by name, as they are declared now."""
        return self.machine.definitions.hooks

    def keys(self) -> list[Any]:
        """The access keys, without themselves."""
        return self.access.listed()

    def add_key(self, key: str, scopes: Sequence[str]) -> Any:
        """Make an access key. Raises UserError for a name or a scope that there cannot be."""
        for scope in scopes:
            if scope.startswith("ingest:"):
                self.asset(scope.partition(":")[2])
        return self.access.add(key, scopes)

    def rotate_key(self, key: str, overlap_seconds: float) -> Any:
        """Another secret for a key; the present one counts for a while more. Raises NotFound."""
        return self.access.rotate(key, overlap_seconds)

    def remove_key(self, key: str) -> Any:
        """Let a key count no more. Raises NotFound."""
        return self.access.remove(key)

    def asset(self, name: str) -> Asset:
        """The asset of that name, as it is now. Raises NotFound."""
        return reports.found(self.machine.catalog.assets, name, "asset")

    def topics(self) -> list[Asset]:
        """Every topic, as it is now."""
        return [asset for asset in self.machine.catalog.assets.values() if asset.kind is AssetKind.TOPIC]

    def take(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        """Take events of many senders into their topics, in as few commits as can be; durable on return."""
        extras = [self._undeclared(sending) for sending in sendings]
        told = [_telling(sending, extra) if extra else sending for sending, extra in zip(sendings, extras, strict=True)]
        answers = evolving.append_all(self.machine, told)
        heads: dict[str, int] = {}
        for number, answer in enumerate(answers):
            if not isinstance(answer, Receipt):
                continue
            topic = sendings[number].asset.name
            if extras[number]:
                answers[number] = replace(answer, undeclared=extras[number])
            if answer.accepted:
                self.machine.undeclared.keep(topic, extras[number])
                heads[topic] = max(heads.get(topic, 0), answer.head)
        now = self.machine.clock.now()
        for name, head in heads.items():
            self.machine.loop.post(Landed(name, Head(head), now))
        return answers

    def _undeclared(self, sending: Sending) -> tuple[str, ...]:
        if GIVEN & sending.asset.options.keys():
            return ()  # what such topics carry beside their columns, we put there
        return tuple(self.machine.undeclared.find(sending.asset, sending.events))

    def remembered(self, topic: str, name: str) -> Any:
        """The note kept under this topic and name, or None."""
        return self.machine.ledger.noted(topic, name)

    def forget(self, first: str, last: str) -> None:
        """Forget all notes of the topics from `first` to `last`, both included."""
        self.machine.ledger.forget_notes(first, last)

    def head(self, asset: str) -> int:
        """The offset that the asset's log is known to reach."""
        return self.machine.loop.state.head(asset)

    def rows(self, asset: str, asked: Asked) -> Any:
        """Current rows, as an Arrow table."""
        return reading.rows(self.machine, asset, asked)

    def changes(self, asset: str, from_: int, limit: int) -> tuple[Iterator[dict[str, Any]], int]:
        """The changes after an offset, and the offset that they reach to."""
        return reading.changes(self.machine, asset, from_, limit)

    def listen(self, hear: Callable[[], bool]) -> None:
        """Call `hear` soon, and whenever a log has moved, until it returns False."""
        self.machine.loop.listen(hear)

    def journey(self, topic: str, asset: str) -> Journey:
        """The way of an event from its topic to another asset."""
        return awaiting.journey(self.machine, topic, asset)

    def has_arrived(self, way: Journey) -> bool:
        """Whether what the event comes to is committed there; asked while listening."""
        return way.is_over(self.machine.loop.state)

    def produced(self, way: Journey, offsets: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of the asset that these events produced."""
        return awaiting.produced(self.machine, way, offsets)

    def is_alive(self) -> bool:
        """Whether events are being handled, and the ledger answers."""
        handled = self.machine.loop.when_handled()
        self.machine.ledger.head("")
        return handled.wait(ALIVE_SECONDS)


def _telling(sending: Sending, undeclared: tuple[str, ...]) -> Sending:
    """A sending whose kept answer tells of its undeclared fields as the given one does."""
    keep = sending.keep
    if keep is None:
        return sending
    return replace(sending, keep=lambda receipt: keep(replace(receipt, undeclared=undeclared)))


ALIVE_SECONDS = 2.0
"""How long the loop may take to handle what came before, until a project counts as not ready."""
