"""Who may do what: no key, a key for this and not for that, a page of another site, and another address."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.door.conftest import TOKEN, Front, served
from tests.e2e.conftest import Project, until
from tidemill.core.errors import NotFound, UserError
from tidemill.project.keys import Keys

PROJECT = """[project]
name = "kept"

[server]
cors = ["https://app.example.com"]

[assets.orders]
kind = "topic"
[assets.orders.columns]
n = "integer"

[assets.stock]
kind = "topic"
[assets.stock.columns]
n = "integer"

[assets.site]
kind = "topic"
tracking = true
"""

ORDERS, STOCK = "/v1/assets/orders/events", "/v1/assets/stock/events"
READS = ["/v1/assets", "/v1/status", "/v1/assets/orders/rows", "/v1/assets/orders/changes", "/metrics"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("kept") / "project", PROJECT) as front:
        front.mill.add_key("other", ["ingest:stock"])
        yield front


@pytest.fixture
def key(kept: Front, request: pytest.FixtureRequest) -> Iterator[str]:
    """A key with the scopes that a test names."""
    made = kept.mill.add_key("tested", request.param)
    yield str(made["secret"])
    kept.mill.remove_key("tested")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


# Keys and what they may.


@pytest.mark.parametrize("path", READS)
def test_as_soon_as_there_is_a_key_nobody_reads_without_one(kept: Front, path: str) -> None:
    answer = kept.ask("GET", path)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert kept.ask("GET", path, **bearer("tm_wrong")).status == 401
    assert kept.ask("GET", path, **bearer(TOKEN)).status == 200


def test_as_soon_as_there_is_a_key_nobody_sends_without_one(kept: Front) -> None:
    assert kept.ask("POST", ORDERS, '{"n": 1}').status == 401
    assert kept.ask("POST", "/v1/track", "{}").status == 401
    assert kept.ask("POST", "/v1/track", "{}", **basic("tm_wrong")).status == 401
    assert kept.rows("select * from orders") == []


@pytest.mark.parametrize("key", [["ingest:orders"]], indirect=True)
def test_a_key_for_one_topic_opens_that_topic_and_nothing_else(kept: Front, key: str) -> None:
    assert kept.ask("POST", ORDERS, '{"n": 1}', **bearer(key)).status == 202
    refused = kept.ask("POST", STOCK, '{"n": 1}', **bearer(key))
    assert (refused.status, refused.json["error"]["mend"]) == (403, "make one that may: --scope ingest:stock")
    assert [kept.ask("GET", path, **bearer(key)).status for path in READS] == [403] * len(READS)
    assert kept.ask("POST", "/v1/operations/run", "{}", **bearer(key)).status == 403
    assert kept.ask("POST", "/v1/track", "{}", **basic(key)).status == 403
    assert kept.ask("POST", f"{ORDERS}?wait=orders", '{"n": 1}', **bearer(key)).status == 403


@pytest.mark.parametrize("key", [["ingest"]], indirect=True)
def test_a_key_for_all_topics_is_a_write_key_as_well(kept: Front, key: str) -> None:
    assert kept.ask("POST", STOCK, '{"n": 1}', **basic(key)).status == 202
    sent = json.dumps({"messageId": "a1", "event": "e"})
    assert kept.ask("POST", "/v1/track", sent, **basic(key)).json["topics"]["site"]["accepted"] == 1


@pytest.mark.parametrize("key", [["read"]], indirect=True)
def test_a_key_that_reads_does_nothing_else(kept: Front, key: str) -> None:
    assert [kept.ask("GET", path, **bearer(key)).status for path in READS] == [200] * len(READS)
    assert kept.ask("POST", ORDERS, '{"n": 1}', **bearer(key)).status == 403
    assert kept.ask("POST", "/v1/operations/status", "{}", **bearer(key)).status == 403


@pytest.mark.parametrize("key", [["operate"]], indirect=True)
def test_a_key_that_operates_makes_no_keys(kept: Front, key: str) -> None:
    assert kept.ask("POST", "/v1/operations/run", "{}", **bearer(key)).status == 200
    for name in ("keys", "add_key", "rotate_key", "remove_key"):
        assert kept.ask("POST", f"/v1/operations/{name}", '{"key": "x"}', **bearer(key)).status == 403


@pytest.mark.parametrize("key", [["read"]], indirect=True)
def test_a_key_is_asked_for_by_any_name_of_the_server(kept: Front, key: str) -> None:
    assert kept.ask("GET", "/v1/status", Host="tidemill.example.com", **bearer(key)).status == 200
    assert kept.ask("GET", "/v1/status", Host="tidemill.example.com").status == 403


def test_a_key_that_is_removed_counts_no_more(kept: Front) -> None:
    key = kept.mill.add_key("gone", ["read"])["secret"]
    assert kept.ask("GET", "/v1/status", **bearer(key)).status == 200
    kept.mill.remove_key("gone")
    assert kept.ask("GET", "/v1/status", **bearer(key)).status == 401


def test_no_answer_and_no_file_shows_a_key(kept: Front) -> None:
    key = kept.mill.add_key("secret", ["read"])["secret"]
    assert key not in json.dumps(kept.mill.keys())
    wrong = kept.ask("POST", ORDERS, '{"n": 1}', **bearer(key))
    assert (wrong.status, key in wrong.body.decode()) == (403, False)
    files = [path for path in (kept.mill.folder / ".tidemill").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    kept.mill.remove_key("secret")


class Notes:
    """Notes in memory, and a clock."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.at = 0.0

    def note(self, topic: str, name: str, value: object) -> None:
        self.kept[name] = json.loads(json.dumps(value))

    def notes(self, topic: str) -> dict[str, object]:
        return {name: value for name, value in self.kept.items() if value is not None}


def test_while_a_key_is_changed_both_count_and_then_the_new_one() -> None:
    notes = Notes()
    keys = Keys(notes, lambda: notes.at)
    old = keys.add("shop", ["read"])["secret"]
    new = keys.rotate("shop", 60)["secret"]
    assert [key is not None for key in map(keys.find, (old, new))] == [True, True]
    notes.at = 60.0
    assert [key is not None for key in map(keys.find, (old, new))] == [False, True]
    again = Keys(notes, lambda: notes.at)
    assert [key is not None for key in map(again.find, (old, new))] == [False, True]
    newest = again.rotate("shop", 0)["secret"]
    assert [key is not None for key in map(again.find, (new, newest))] == [False, True]


@pytest.mark.parametrize(
    ("name", "scopes", "message"),
    [
        ("x", [], "without a scope"),
        ("x", ["reed"], "`reed` is not a scope"),
        ("x", ["read:orders"], "is not a scope"),
        ("x", ["ingest:"], "is not a scope"),
        ("", ["read"], "is not a name"),
        ("a b", ["read"], "is not a name"),
        ("taken", ["read"], "there is a key taken already"),
    ],
)
def test_a_key_that_cannot_be_says_why(name: str, scopes: list[str], message: str) -> None:
    keys = Keys(Notes(), lambda: 0.0)
    keys.add("taken", ["read"])
    with pytest.raises(UserError, match=message):
        keys.add(name, scopes)


def test_a_key_for_a_topic_that_there_is_not_is_refused(kept: Front) -> None:
    with pytest.raises(NotFound, match="ordrs"):
        kept.mill.add_key("typo", ["ingest:ordrs"])


# Pages of other sites.


@pytest.mark.parametrize("key", [["ingest", "read"]], indirect=True)
def test_only_pages_of_a_named_site_may_ask(kept: Front, key: str) -> None:
    named, other = "https://app.example.com", "https://evil.example.com"
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    preflight = kept.ask("OPTIONS", ORDERS, Origin=named, **asked)
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, named)
    answer = kept.ask("POST", ORDERS, '{"n": 1}', Origin=named, **bearer(key))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (202, named)
    assert "access-control-allow-origin" not in kept.ask("OPTIONS", ORDERS, Origin=other, **asked).headers
    assert kept.ask("POST", ORDERS, '{"n": 1}', Origin=other, **bearer(key)).status == 403


def test_without_a_named_site_no_page_gets_a_word(tmp_path: Path) -> None:
    with served(tmp_path / "project", PROJECT.replace('cors = ["https://app.example.com"]', "")) as front:
        answer = front.ask("POST", ORDERS, '{"n": 1}', Origin="https://app.example.com")
        assert answer.status == 403
        assert [name for name in answer.headers if name.startswith("access-control")] == []


# A served project, as its user sees it.


def test_another_address_is_bound_only_where_there_are_keys(project: Project, started: object) -> None:
    project.write({"tidemill.toml": PROJECT})
    refused = project.cli("serve", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "no access key that would keep them out" in refused.stderr
    assert "tidemill keys add" in refused.stderr
    key = project.json("keys", "add", "shop", "--scope", "ingest:orders", "--scope", "read")["secret"]
    process = started(project, "serve", "--host", "0.0.0.0", "--port", "0", "--json")  # type: ignore[operator]
    port = int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
    outside = f"{_own_address()}:{port}"
    front = Front(None, _At(outside))  # type: ignore[arg-type]
    assert until(lambda: front.ask("GET", "/healthz").status == 200)
    assert front.ask("POST", ORDERS, '{"n": 1}').status == 401
    assert front.ask("POST", ORDERS, '{"n": 1}', **bearer(key)).status == 202
    assert [made["key"] for made in project.json("keys", "list")] == ["shop"]
    new = project.json("keys", "rotate", "shop", "--overlap", "0s")["secret"]
    assert front.ask("GET", "/v1/status", **bearer(key)).status == 401
    assert front.ask("GET", "/v1/status", **bearer(new)).status == 200
    project.cli("keys", "remove", "shop")
    assert front.ask("GET", "/v1/status", **bearer(new)).status == 401
    assert front.ask("GET", "/v1/status").status == 401  # without keys it is as closed as before


class _At:
    """A server that is somewhere else."""

    def __init__(self, address: str) -> None:
        self.address = address


def _own_address() -> str:
    """An address of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
