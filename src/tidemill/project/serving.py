"""What a project says about being served: `[server]` of tidemill.toml, and what a server asks beyond the operations.

Rules of this file:
  * every limit has a name, a default and one place; a limit is a whole number above zero;
  * a word of `[server]` that nobody reads is a problem with its line, as everywhere in tidemill.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, Place
from tidemill.core.ports import Receipt, Sending
from tidemill.project.asking import Asked
from tidemill.project.hooks import Hook
from tidemill.project.keys import Keys
from tidemill.project.operations import Json, Operations
from tidemill.project.words import nearest

__all__ = ["Limits", "Served", "ServerWords", "server_words"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the server takes. What is beyond is answered with the status named here, and nothing of it is kept.

    `request_bytes_max`: one request's body, after decompression (413); NDJSON may be of any size, but not one line.
    `waiting_bytes_max`: what all requests together hold in memory and is not durable yet (429, with Retry-After).
    `waiting_requests_max`: requests that wait for their commit (429, with Retry-After).
    `header_bytes_max`, `headers_max`: names and values of one request's headers, and how many there are (431).
    `address_bytes_max`: path and query of one request (414).
    `head_seconds_max`: from connecting, or from the answer before, until a request's headers are complete once they
    began (the connection is closed). `silence_seconds_max`: how long a body may pause (408).
    `key_requests_per_second_max`: how often one access key may ask, with as many at once (429, with Retry-After).
    `connections_max`: connections at the same time (503). `results_max`: how many events one answer lists.
    """

    request_bytes_max: int = 16 * MIB
    waiting_bytes_max: int = 128 * MIB
    waiting_requests_max: int = 10_000
    header_bytes_max: int = 32 * 1024
    headers_max: int = 100
    address_bytes_max: int = 8 * 1024
    head_seconds_max: int = 20
    silence_seconds_max: int = 30
    key_requests_per_second_max: int = 10_000
    connections_max: int = 2_000
    results_max: int = 1_000


LIMITS = tuple(each.name for each in fields(Limits))


@dataclass(frozen=True, slots=True)
class ServerWords:
    """`[server]`: the limits, and the origins whose browser pages may ask (`cors`, none unless named)."""

    limits: Limits = field(default_factory=Limits)
    cors: tuple[str, ...] = ()


def server_words(
    said: Mapping[str, object], place_of: Callable[..., Place]
) -> tuple[ServerWords, list[DefinitionError]]:
    """The words of `[server]`, and what is wrong with them; a wrong one keeps its default."""
    problems: list[DefinitionError] = []
    limits: dict[str, int] = {}
    cors: tuple[str, ...] = ()
    for word, value in said.items():
        wrong = _wrong(word, value)
        if wrong is not None:
            problems.append(DefinitionError(f"server: {wrong[0]}", place=str(place_of("server", word)), mend=wrong[1]))
        elif word == "cors":
            cors = tuple(_origins(value))
        else:
            limits[word] = int(str(value))
    return ServerWords(Limits(**limits), cors), problems


def _wrong(word: str, value: object) -> tuple[str, str] | None:
    """What is wrong with a word, and the mend."""
    if word == "cors":
        if isinstance(value, list) and all(_is_origin(each) for each in value):
            return None
        return "cors is not a list of origins", 'write cors = ["https://app.example.com"]'
    if word not in LIMITS:
        hint = nearest(word, (*LIMITS, "cors"))
        return f"unknown word {word}", f"write {hint}" if hint else f"the words are cors, {', '.join(LIMITS)}"
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return f"{word} is not a whole number above zero", f"write {word} = {getattr(Limits(), word)}"
    return None


def _is_origin(value: object) -> bool:
    """Whether this is what browsers send as `Origin`: a scheme and a host, and no path."""
    return isinstance(value, str) and value.startswith(("http://", "https://")) and value.count("/") == 2


def _origins(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (str(each) for each in value)


class Served(Operations, Protocol):
    """What a server asks of an open project, beyond the operations that other processes may ask for as well.

    `ServedMachine` (served.py) is the implementation, and says what each means.
    """

    @property
    def server(self) -> ServerWords:
        """What `[server]` says now."""

    @property
    def access(self) -> Keys:
        """The access keys."""

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """The hooks by name, as they are declared now."""

    def asset(self, name: str) -> Asset:
        """The asset of that name, as it is now. Raises NotFound."""

    def topics(self) -> list[Asset]:
        """Every topic."""

    def take(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        """Take events of many senders into their topics; durable on return."""

    def remembered(self, topic: str, name: str) -> Any:
        """The note that was kept with events under this topic and name; None where there is none."""

    def forget(self, first: str, last: str) -> None:
        """Forget all notes of the topics from `first` to `last`, both included."""

    def head(self, asset: str) -> int:
        """The offset that the asset's log is known to reach."""

    def rows(self, asset: str, asked: Asked) -> Any:
        """Current rows, as an Arrow table."""

    def changes(self, asset: str, from_: int, limit: int) -> tuple[Iterator[dict[str, Any]], int]:
        """The changes after an offset, and the offset that they reach to."""

    def listen(self, hear: Callable[[], bool]) -> None:
        """Call `hear` on the loop's thread soon, and whenever a log has moved, until it returns False."""

    def journey(self, topic: str, asset: str) -> Any:
        """The way of an event from its topic to another asset. Raises NotFound or UserError."""

    def has_arrived(self, way: Any) -> bool:
        """Whether what the event comes to is committed there; asked while listening."""

    def produced(self, way: Any, offsets: Sequence[int]) -> list[Json]:
        """The rows of the asset that these events produced."""

    def is_alive(self) -> bool:
        """Whether events are being handled, and the ledger answers."""
