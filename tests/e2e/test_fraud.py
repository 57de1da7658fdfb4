"""The story of fraud, with the template `fraud`: verdicts in the reply, a nightly model, and a new rule beside the live one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, Row, until
from tests.e2e.test_front_door import free_port, serve
from tests.seeds import first_seed

Started = Callable[..., "subprocess.Popen[str]"]
Model = dict[str, tuple[int, int]]
STRICTER = "rules/stricter.sql"


@pytest.fixture
def story(tmp_path: Path) -> Project:
    """The template, as `tidemill init` writes it."""
    project = Project(tmp_path / "story")
    project.cli_free("init", str(project.folder), "--template", "fraud")
    return project


def payments(chance: random.Random, count: int) -> list[Row]:
    """Payments of a few cards, most of them usual, some not, the last of an unknown card; every tenth is late by a week."""
    made = []
    for number in range(count):
        usual = 1_000 * (1 + number % 3)
        cents = 90_000 if number == count - 1 else usual * chance.choice([1, 1, 1, 2, 7, 20, 80])
        day = 1 if number % 10 == 9 else 8
        paid_at = f"2026-02-{day:02d}T{number % 24:02d}:00:00"
        card = "stolen" if number == count - 1 else f"k{number % 5}"
        made.append({"id": f"p{number}", "card": card, "country": "DE", "cents": cents, "paid_at": paid_at})
    return made


def model_of(taken: list[Row]) -> Model:
    """The nightly model, by its definition and not by its SQL: payments and cents of each card."""
    model: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in taken:
        count, cents = model[row["card"]]
        model[row["card"]] = (count + 1, cents + row["cents"])
    return dict(model)


def verdict(row: Row, model: Model, *, is_strict: bool = False) -> str:
    known = model.get(row["card"])
    if known is None:
        return "block" if is_strict and row["cents"] > 50_000 else "pass"
    count, cents = known
    return "review" if row["cents"] > (5 if is_strict else 10) * cents // count else "pass"


def pay(port: int, row: Row) -> str:
    """Send one transaction until it is acknowledged, over whatever happens to the server; the verdict in the reply."""

    def asked() -> Any:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST", "/v1/assets/transactions/events?wait=verdicts", json.dumps(row).encode())
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return said if answer.status == 200 else None

    said = until(asked, f"the verdict on {row['id']}", 60)
    (scored,) = said["rows"]
    assert scored["id"] == row["id"]
    return str(scored["verdict"])


def scored(project: Project) -> dict[str, str]:
    rows = project.json("query", "select id, verdict from verdicts")
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["verdict"] for row in rows}


def test_verdicts_come_with_the_reply_and_a_new_rule_is_seen_before_it_counts(
    story: Project, started: Started, record_property: Callable[[str, object], None]
) -> None:
    seed = first_seed()
    record_property("seed", seed)
    chance = random.Random(seed)
    first, second = (rows := payments(chance, 40))[:20], rows[20:]
    port = free_port()
    server = serve(story, started, port)
    replies = {row["id"]: pay(port, row) for row in first}
    assert replies == {row["id"]: verdict(row, {}) for row in first}  # no night has passed: nobody is known

    story.json("run", "model", "--force")
    model = model_of(first)
    until(lambda: scored(story) == {row["id"]: verdict(row, model) for row in first}, "the nightly model")

    story.cli("shadow", "verdicts", "--sql", str(story.folder / STRICTER), code=None)
    for number, row in enumerate(chance.sample(second, len(second))):  # in any order
        assert pay(port, row) == verdict(row, model)
        if number == 7:  # a power cut, and everybody sends again what is not acknowledged
            os.kill(server.pid, signal.SIGKILL)
            server.wait(20)
            server = serve(story, started, port)
        if chance.random() < 0.3:  # a sender that is not sure
            assert pay(port, row) == verdict(row, model)
    assert scored(story) == {row["id"]: verdict(row, model) for row in rows}

    changed = {row["id"]: verdict(row, model, is_strict=True) for row in rows}
    planted = {id_: was for id_, was in scored(story).items() if changed[id_] != was}
    assert planted
    report = until(lambda: caught_up(story, len(rows)), "the shadow has seen all")
    shown = {
        pair["live"]["id"]: (pair["live"]["verdict"], pair["shadow"]["verdict"])
        for pair in report["samples"]["changed"]
    }
    assert shown == {id_: (was, changed[id_]) for id_, was in planted.items()}
    assert (report["equal"], report["different"], report["counts"]["changed"]) == (False, len(planted), len(planted))

    refused = story.json("shadow", "verdicts", "--promote", code=1)
    assert refused["reason"].startswith(f"{len(planted)} row")
    assert story.json("shadow", "verdicts", "--promote", "--accept", str(len(planted)))["promoted"]
    assert scored(story) == changed
    last = {"id": "last", "card": "nobody", "country": "DE", "cents": 90_000, "paid_at": "2026-02-09T00:00:00"}
    assert pay(port, last) == "block"
    assert (story.folder / "jobs/verdicts.sql").read_text() == (story.folder / STRICTER).read_text()
    assert story.json("reconcile", "verdicts")["equal"]
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait(30) == 143


def caught_up(project: Project, count: int) -> Any:
    """The report, once the shadow has compared so many rows."""
    report = project.json("shadow", "verdicts", "--rows", "100", code=None)
    return report if report["rows"] == count and not report["lag_changes"] and not report["error"] else None


def test_the_history_that_comes_with_the_template_is_scored_by_hand_and_by_the_new_rule(story: Project) -> None:
    story.cli("emit", "transactions", "--file", str(story.folder / "history.ndjson"))
    story.cli("run")
    story.json("run", "model", "--force")
    story.cli("run")
    report = story.json("shadow", "verdicts", "--sql", str(story.folder / STRICTER), code=None)
    assert report["rows"] == 5
    assert set(scored(story).values()) == {"pass"}
