"""Asking the owner is being the owner: the same answers, the same errors; and what happens when the owner goes away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.fake import FakeMill
from tests.server.conftest import TOKEN
from tidemill.core import errors
from tidemill.core.errors import NotFound, OperatorError, TidemillError, UserError
from tidemill.project.operations import Operations
from tidemill.project.owner import Address
from tidemill.server.app import create_app
from tidemill.server.client import OwnerLeft, RemoteMill
from tidemill.server.local import LocalServer

ROW = '{"id": "é 1", "carrier": "UA", "delay": 12345678901234567890}\n'.encode()


class Failing(FakeMill):
    """A mill whose operations fail as they are told."""

    error: Exception = RuntimeError("secret detail")

    def status(self) -> Any:
        raise self.error


def connected(mill: Operations, **said: Any) -> tuple[LocalServer, RemoteMill]:
    server = LocalServer(create_app(mill, token=TOKEN), **said).start()
    return server, RemoteMill(Address(os.getpid(), server.address, TOKEN))


QUESTIONS: dict[str, Callable[[Operations], Any]] = {
    "emit": lambda mill: mill.emit("departures", b'{"id": "a", "delay": 1}\n{"id": "b"}\n'),
    "touch": lambda mill: {**mill.touch("end_of_day", "1")},
    "query": lambda mill: mill.query("select 'ü' as text, 1.5 as number, null as none, 9007199254740993 as big"),
    "map": lambda mill: mill.map(),
    "assets": lambda mill: mill.assets(),
    "status": lambda mill: mill.status()["jobs"],
    "runs": lambda mill: mill.runs(job="totals", limit=1),
    "explain": lambda mill: mill.explain("other"),
    "mode": lambda mill: mill.mode("other", "batch"),
    "shown mode": lambda mill: mill.mode("other"),
    "pause": lambda mill: mill.pause("other"),
    "resume": lambda mill: mill.resume("other", "now"),
    "retry": lambda mill: mill.retry("other"),
    "plan": lambda mill: mill.plan()["changes"],
    "apply": lambda mill: mill.apply(),
    "dead": lambda mill: len(mill.dead(asset="elsewhere", limit=1)),
    "mark": lambda mill: mill.mark("elsewhere", "nothing"),
    "run": lambda mill: mill.run(["other"], force=True),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_answer_is_the_owners_own(question: Callable[[Operations], Any]) -> None:
    mine, theirs = FakeMill(), FakeMill()
    server, remote = connected(theirs)
    assert question(remote) == question(mine)
    server.stop(at_once=True)


def test_marks_numbers_and_letters_survive(remote: RemoteMill, mill: FakeMill) -> None:
    answer = remote.emit("departures", ROW[:-22] + b" 7}\n", source="file:ü/&", mark="17")
    assert answer["accepted"] == 1
    assert remote.mark("departures", "file:ü/&") == "17"
    assert remote.query("select id from departures where delay = 7") == [{"id": "é 1"}]


def test_events_that_are_not_text_arrive_as_they_are(remote: RemoteMill) -> None:
    assert remote.emit("departures", b"\xff\xfe\n")["parked"] == 1


def test_progress_is_told_while_the_run_goes_on(remote: RemoteMill, mill: FakeMill) -> None:
    mill.emit("departures", b'{"id": "p", "carrier": "UA", "delay": 1}')
    told: list[dict[str, Any]] = []
    answer = remote.run(["totals"], progress=told.append)
    assert answer["runs"] == 1
    assert [said["state"] for said in told] == ["running", "succeeded"]
    assert remote.run(["totals"])["runs"] == 0


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_keeps_its_class_and_words(name: str) -> None:
    mill = Failing()
    mill.error = getattr(errors, name)("what", place="where", mend="how")
    server, remote = connected(mill)
    with pytest.raises(TidemillError) as caught:
        remote.status()
    server.stop(at_once=True)
    assert type(caught.value) is type(mill.error)
    assert (caught.value.message, caught.value.place, caught.value.mend) == ("what", "where", "how")


def test_a_defect_is_ours_and_its_detail_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server, remote = connected(Failing())
    with pytest.raises(errors.InvariantError) as caught:
        remote.status()
    server.stop(at_once=True)
    assert "RuntimeError" in str(caught.value)
    assert "secret detail" not in str(caught.value)
    assert "secret detail" in caplog.text


def test_errors_of_wrong_use_come_back_from_a_run_too(remote: RemoteMill) -> None:
    with pytest.raises(NotFound):
        remote.run(["nothing"])
    with pytest.raises(UserError):
        remote.query("selec")


def test_an_owner_that_does_not_answer_any_more_may_be_replaced() -> None:
    server, remote = connected(FakeMill())
    remote.map()
    server.stop(at_once=True)
    for question in (remote.map, lambda: remote.emit("departures", ROW), remote.run):
        with pytest.raises(OwnerLeft):
            question()


def test_a_new_connection_is_made_when_the_old_one_was_closed(mill: FakeMill, server: LocalServer) -> None:
    remote = RemoteMill(Address(os.getpid(), server.address, TOKEN))
    assert remote.map()
    assert remote._connection is not None
    remote._connection.sock.shutdown(2)
    assert remote.map()
    remote.close()
    remote.close()


def test_a_question_is_answered_while_a_run_goes_on_and_stopping_waits_for_the_answer() -> None:
    mill = FakeMill()
    mill.waits_for = threading.Event()
    server, remote = connected(mill)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(remote.run()))
    asking.start()
    assert mill.runs_begun.acquire(timeout=10)
    other = RemoteMill(Address(os.getpid(), server.address, TOKEN))
    assert other.explain("totals")["ready"] is False
    other.close()
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    mill.waits_for.set()
    asking.join(10)
    stopping.join(10)
    assert answers == [{"runs": 0, "succeeded": 0, "failed": 0, "changes": 0}]


def test_a_wrong_token_is_wrong_use(server: LocalServer) -> None:
    with pytest.raises(UserError, match="token"):
        RemoteMill(Address(os.getpid(), server.address, "wrong")).status()


def test_a_change_that_broke_off_is_not_claimed_to_be_undone() -> None:
    """The owner dies after it was asked to emit: nobody knows, and the error says so."""
    mill = FakeMill()
    server, remote = connected(mill, grace_seconds=1)

    def dies(*_: Any, **__: Any) -> Any:
        server._server.force_exit = True
        server._server.should_exit = True
        mill.runs_begun.release()
        threading.Event().wait(3)

    mill.touch = dies  # type: ignore[method-assign]
    with pytest.raises(OperatorError, match="whether it was done is not known") as caught:
        remote.touch("end_of_day")
    assert not isinstance(caught.value, OwnerLeft)
    server.stop(at_once=True)
