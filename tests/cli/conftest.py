"""A project owned by this very process, with a fake behind it: commands find its address and ask it over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.fake import FakeMill
from tidemill.cli import program
from tidemill.project.owner import Owner, acquire
from tidemill.server.app import create_app
from tidemill.server.local import LocalServer

Command = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "flights"
    folder.mkdir()
    (folder / "tidemill.toml").write_text('[project]\nname = "flights"\n')
    return folder


@pytest.fixture
def mill() -> Iterator[FakeMill]:
    fake = FakeMill()
    yield fake
    fake.close()


@pytest.fixture
def owned(project: Path, mill: FakeMill) -> Iterator[Path]:
    """The project, with an owner that answers."""
    owner = acquire(project, command="serve")
    assert isinstance(owner, Owner)
    server = LocalServer(create_app(mill, token=owner.token)).start()
    owner.announce(server.address)
    yield project
    server.stop(at_once=True)
    owner.release()


@pytest.fixture
def tidemill(owned: Path) -> Command:
    """Run a command in the owned project."""

    def run(*words: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(program, [words[0], "--project", str(owned), *words[1:]], input=stdin)

    return run
