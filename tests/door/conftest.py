"""A real project behind a real server, and plain HTTP to send to it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

import tidemill
from tests.e2e.conftest import project, started
from tidemill.project.mill import Mill
from tidemill.server.app import create_app
from tidemill.server.local import LocalServer

__all__ = ["project", "started"]

TOKEN = "owner"
NODE = Path(__file__).parent / "node"
NODE_CACHE = Path(__file__).resolve().parents[2] / ".venv" / "node"
NODE_MODULES = ("@segment/analytics-node", "@octokit/webhooks-examples")

PROJECT = """[project]
name = "front"

[server]
request_bytes_max = 3_000_000
waiting_bytes_max = 12_000_000
results_max = 50
silence_seconds_max = 2
head_seconds_max = 1

[assets.orders]
kind = "topic"
id = "id"
event_time = "placed_at"
[assets.orders.columns]
id = "varchar"
amount = "integer"
placed_at = "timestamp"

[assets.plain]
kind = "topic"
[assets.plain.columns]
n = "integer"

[assets.envelopes]
kind = "topic"
cloudevents = true

[assets.site]
kind = "topic"
tracking = true
[assets.site.columns]
group_id = "varchar"

[assets.clicks]
kind = "topic"
tracking = ["track", "page"]

[hooks.standard]
secret = ["${HOOK_NEW}", "${HOOK_OLD}"]
asset = "hooked"

[hooks.public]
secret = "${HOOK_PUBLIC}"
asset = "hooked"

[hooks.github]
scheme = "github"
secret = "${HOOK_GITHUB}"

[hooks.stripe]
scheme = "stripe"
secret = "${HOOK_STRIPE}"
asset = "payments"
tolerance = "10m"

[hooks.shopify]
scheme = "shopify"
secret = "file:shopify.secret"

[hooks.unset]
secret = "${HOOK_UNSET}"

[assets.payments]
kind = "topic"
[assets.payments.columns]
livemode = "boolean"

[assets.outside]
kind = "external"

[jobs.totals]
inputs = ["orders"]
command = ["true"]
"""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Front:
    """A served project, and what a user does with it."""

    mill: Mill
    server: LocalServer

    @property
    def address(self) -> str:
        return self.server.address

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a header's `_` is written `-`."""
        connection = HTTPConnection(self.address, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): said for name, said in headers.items()})
            return answer_of(connection)
        finally:
            connection.close()

    def post(self, asset: str, body: Any, **headers: str) -> Answer:
        """Send events; what is not bytes is sent as JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", f"/v1/assets/{asset}/events", sent, **headers)

    def post_stream(self, asset: str, parts: Any, **headers: str) -> Answer:
        """Send lines of JSON as they come, of no length said before."""
        connection = HTTPConnection(self.address, timeout=20)
        said = {"Content-Type": "application/x-ndjson", **{n.replace("_", "-"): v for n, v in headers.items()}}
        try:
            connection.request("POST", f"/v1/assets/{asset}/events", parts, said, encode_chunked=True)
            return answer_of(connection)
        finally:
            connection.close()

    def rows(self, sql: str) -> list[Any]:
        return self.mill.query(sql)


def answer_of(connection: HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@contextlib.contextmanager
def served(
    folder: Path,
    text: str,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    jobs: Mapping[str, str] | None = None,
) -> Iterator[Front]:
    """A project of this text, opened and served; `around` is put between the server and the application.

    `jobs` are files of the folder `jobs` by name; a name without an ending is of SQL.
    """
    folder.mkdir()
    (folder / "tidemill.toml").write_text(text)
    (folder / "jobs").mkdir()
    for name, sql in (jobs or {}).items():
        (folder / "jobs" / (name if "." in name else f"{name}.sql")).write_text(sql)
    with tidemill.open(folder) as mill:
        app = create_app(mill, token=TOKEN, is_open=True)
        server = LocalServer(around(app), limits=mill.server.limits, on_stop=app.stop_following).start()
        try:
            yield Front(mill, server)
        finally:
            server.stop(at_once=True)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("front") / "project", PROJECT) as front:
        yield front


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """A folder with our script and the packages it needs; kept from one run of the tests to the next."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not on this machine")
    NODE_CACHE.mkdir(parents=True, exist_ok=True)
    with (NODE_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        for name in ("package.json", "send.mjs"):
            shutil.copy(NODE / name, NODE_CACHE / name)
        if not all((NODE_CACHE / "node_modules" / name).is_dir() for name in NODE_MODULES):
            command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
            done = subprocess.run(command, cwd=NODE_CACHE, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                pytest.skip(f"npm cannot install the packages here: {done.stderr.strip()[-200:]}")
    return NODE_CACHE
