"""A server over the in-memory project, and plain HTTP to ask it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.cli.fake import FakeMill
from tidemill.project.owner import Address
from tidemill.server.app import create_app
from tidemill.server.client import RemoteMill
from tidemill.server.local import LocalServer

TOKEN = "secret"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asker:
    """Asks one server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(
        self, method: str, path: str, body: bytes | str | None = None, *, token: str = TOKEN, **headers: str
    ) -> Answer:
        connection = HTTPConnection(self.address, timeout=10)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            said["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, said)
        answer = connection.getresponse()
        found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        connection.close()
        return found


@pytest.fixture(scope="module")
def mill() -> Iterator[FakeMill]:
    fake = FakeMill()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def server(mill: FakeMill) -> Iterator[LocalServer]:
    running = LocalServer(create_app(mill, token=TOKEN)).start()
    yield running
    running.stop(at_once=True)


@pytest.fixture(scope="module")
def ask(server: LocalServer) -> Asker:
    return Asker(server.address)


@pytest.fixture
def remote(server: LocalServer) -> Iterator[RemoteMill]:
    client = RemoteMill(Address(os.getpid(), server.address, TOKEN))
    yield client
    client.close()
