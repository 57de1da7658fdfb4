"""One owner at a time: the lock ends with its process, and an address is believed only when its owner answers."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.cli.fake import FakeMill
from tidemill.core.errors import NotFound, OperatorError
from tidemill.project.owner import Address, Owner, acquire, address_of, answers, state_folder
from tidemill.server.app import create_app
from tidemill.server.local import LocalServer

HOLD = """
import sys
from tidemill.project.owner import acquire
owner = acquire(sys.argv[1], command="run")
print("held", flush=True)
sys.stdin.read()
"""

Holder = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def holder(project: Path) -> Iterator[Holder]:
    """Start another process that owns the project."""
    started = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(project)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def owner_of(project: Path, **said: float) -> Owner:
    owner = acquire(project, **said)  # type: ignore[arg-type]
    assert isinstance(owner, Owner)
    return owner


def recorded(project: Path) -> Address:
    address = address_of(state_folder(project))
    assert address is not None
    return address


def test_the_address_says_who_owns_and_only_its_user_may_read_it(project: Path) -> None:
    with owner_of(project) as owner:
        owner.announce("127.0.0.1:4711")
        file = project / ".tidemill" / "address"
        assert json.loads(file.read_text()) == {
            "pid": os.getpid(),
            "address": "127.0.0.1:4711",
            "token": owner.token,
            "command": "",
        }
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        owner.hide()
        assert recorded(project).address == ""
        assert recorded(project).token == ""


def test_every_owner_has_a_token_of_its_own(project: Path) -> None:
    tokens = set()
    for _ in range(3):
        with owner_of(project) as owner:
            tokens.add(owner.token)
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 40


def test_letting_go_removes_the_address_and_frees_the_lock(project: Path) -> None:
    owner = owner_of(project)
    owner.release()
    owner.release()
    assert address_of(project / ".tidemill") is None
    owner_of(project, wait_seconds=0).release()


def test_the_lock_is_exclusive_and_the_error_names_the_pid(project: Path, holder: Holder) -> None:
    process = holder()
    with pytest.raises(
        OperatorError, match=f"process {process.pid} .*has this project open, and did not let go in 0 s"
    ):
        acquire(project, 0.2)


def test_a_killed_owner_leaves_no_lock_and_its_address_does_no_harm(project: Path, holder: Holder) -> None:
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert recorded(project).pid == process.pid
    with owner_of(project, wait_seconds=0):
        assert recorded(project).pid == os.getpid()


def test_a_stopped_owner_keeps_its_lock(project: Path, holder: Holder) -> None:
    process = holder()
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(OperatorError, match=str(process.pid)):
        acquire(project, 0.2)
    process.send_signal(signal.SIGCONT)


def test_who_comes_second_gets_the_lock_once_it_is_free(project: Path, holder: Holder) -> None:
    process = holder()
    assert process.stdin is not None
    process.stdin.close()
    owner_of(project, wait_seconds=10).release()


def test_who_comes_second_is_given_the_address_that_answers(project: Path, owned: Path) -> None:
    found = acquire(project, 5)
    assert isinstance(found, Address)
    assert found == recorded(project)


@pytest.mark.parametrize(
    "change",
    [{"token": "wrong"}, {"pid": 1}, {"address": "127.0.0.1:1"}, {"address": ""}],
    ids=["token", "pid", "port", "none"],
)
def test_an_address_of_somebody_else_is_not_believed(project: Path, owned: Path, change: dict[str, str]) -> None:
    true = recorded(project)
    assert answers(true)
    assert not answers(replace(true, **change))  # type: ignore[arg-type]


def test_a_stale_address_of_a_server_that_lives_is_not_believed(project: Path, holder: Holder, mill: FakeMill) -> None:
    """The old owner's port was taken by another tidemill: it answers, but not for this owner."""
    process = holder()
    server = LocalServer(create_app(mill, token="another")).start()
    stale = Address(process.pid, server.address, "old", "run")
    (project / ".tidemill" / "address").write_text(json.dumps(asdict(stale)))
    with pytest.raises(OperatorError, match=str(process.pid)):
        acquire(project, 0.2)
    server.stop(at_once=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "5"])
def test_an_address_that_cannot_be_read_is_none(project: Path, text: str) -> None:
    state = project / ".tidemill"
    state.mkdir()
    (state / "address").write_text(text)
    assert address_of(state) is None
    owner_of(project, wait_seconds=0).release()


def test_a_long_lived_owner_is_not_waited_for_by_who_must_own(project: Path, owned: Path) -> None:
    with pytest.raises(
        OperatorError, match=rf"process {os.getpid()} \(tidemill serve\) has this project open\n"
    ) as caught:
        acquire(project, 30, may_ask=False)
    assert caught.value.mend == f"wait for it, or stop it: kill {os.getpid()}"


def test_a_folder_that_is_no_project_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        acquire(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_single_file_has_its_state_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "project.py"
    file.write_text("")
    owner_of(file).release()
    assert (tmp_path / ".tidemill" / "lock").exists()


def test_an_interrupted_restore_must_be_ended_first(project: Path) -> None:
    owner_of(project).release()
    (project / ".tidemill" / "restoring").write_text("backup")
    with pytest.raises(OperatorError, match="interrupted"):
        acquire(project, 0)
    owner = acquire(project, 0, is_mending=True)
    assert isinstance(owner, Owner)
    owner.release()
