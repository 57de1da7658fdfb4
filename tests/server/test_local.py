"""The background server: this machine only, a free port or the one that was asked for, and a clean end."""

from __future__ import annotations

import threading

import pytest

from tests.cli.fake import FakeMill
from tests.server.conftest import Asker
from tidemill.core.errors import OperatorError, UserError
from tidemill.server.app import create_app
from tidemill.server.local import LocalServer, check_host


def server_of(**said: object) -> LocalServer:
    return LocalServer(create_app(FakeMill(), token="x"), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])
def test_other_addresses_are_refused_with_the_reason(host: str) -> None:
    with pytest.raises(UserError, match="no access key that would keep them out"):
        server_of(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_addresses_are_fine(host: str) -> None:
    check_host(host, has_keys=False)


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    first = server_of().start()
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(OperatorError, match=f"port {port} cannot be used"):
        server_of(port=port)
    first.stop()
    second = server_of(port=port).start()
    assert Asker(second.address)("GET", "/healthz").status == 200
    second.stop()


def test_stopping_ends_the_thread_and_may_be_repeated() -> None:
    server = server_of().start()
    assert "tidemill-server" in {thread.name for thread in threading.enumerate()}
    server.stop()
    server.stop()
    assert "tidemill-server" not in {thread.name for thread in threading.enumerate()}


def test_a_server_that_never_started_can_be_stopped() -> None:
    server_of().stop()
