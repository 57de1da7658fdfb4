"""The story of an inventory, with the template `inventory`: two numbers for every shelf, and what was planted between them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.e2e.conftest import Project, alarms, ran, rows
from tests.seeds import first_seed
from tidemill.project.mill import Mill

STORES = ("north", "south", "west")
ITEMS = ("apples", "bread", "milk")
DAY = "2026-03-01"
BASE = first_seed()


@pytest.fixture
def story(tmp_path: Path) -> Project:
    """The template, before anything has happened."""
    project = Project(tmp_path / "shops")
    project.cli_free("init", str(project.folder), "--template", "inventory")
    for store in STORES[:2]:
        project.remove(f"landing/counts/{DAY}/{store}.csv")
    return project


def movements(chance: random.Random, count: int = 300) -> list[dict[str, Any]]:
    """What really happened on the day."""
    return [
        {
            "id": f"m{n}",
            "store": chance.choice(STORES),
            "item": chance.choice(ITEMS),
            "change": chance.randint(-3, 9),
            "moved_at": f"{DAY}T{chance.randrange(6, 22):02d}:{chance.randrange(60):02d}:00",
        }
        for n in range(count)
    ]


def levels(events: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """What lies on the shelves after these."""
    found: Counter[tuple[str, str]] = Counter()
    for event in events:
        found[event["store"], event["item"]] += event["change"]
    return dict(found)


def stock(mill: Mill) -> dict[tuple[str, str], int]:
    return {(store, item): level for store, item, level in rows(mill, "select store, item, level from stock")}


def untidy(chance: random.Random, events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The events out of order, some sent again, in calls of any size."""
    sent = [*events, *chance.sample(events, len(events) // 5)]
    chance.shuffle(sent)
    while sent:
        size = chance.randint(1, 80)
        yield sent[:size]
        sent = sent[size:]


def count_shelves(project: Project, truth: dict[tuple[str, str], int], *stores: str) -> None:
    for store in stores:
        lines = [f"{item},{truth[store, item]}" for item in ITEMS]
        project.write({f"landing/counts/{DAY}/{store}.csv": "\n".join(["item,level", *lines, ""])})


@pytest.mark.parametrize("turn", range(2))
def test_disorder_and_repetition_make_no_difference(story: Project, turn: int) -> None:
    chance = random.Random(f"{BASE} {turn}")
    events = movements(chance)
    with story.open() as mill:
        for call in untidy(chance, events):
            mill.emit("movements", call)
            if chance.random() < 0.5:
                ran(mill)
        ran(mill)
        assert stock(mill) == levels(events), f"TIDEMILL_SEED={BASE}"
        assert mill.reconcile("stock")["equal"]


@pytest.mark.parametrize("turn", range(2))
def test_what_was_planted_behind_the_engines_back_is_found_exactly_and_repaired(story: Project, turn: int) -> None:
    """Lost and doubled events in the copy that jobs read, and rows of the table that somebody changed."""
    chance = random.Random(f"{BASE} {turn}")
    events = movements(chance)
    with story.open() as mill:
        mill.emit("movements", events)
        ran(mill)
    lost, doubled, shelf = [*chance.sample(events, 2), chance.choice(STORES)]
    with duckdb.connect(str(story.folder / ".tidemill/tables.duckdb")) as tables:
        tables.execute(f"delete from store.movements where id = '{lost['id']}'")
        again = "insert into store.movements select * from store.movements where id = ?"
        tables.execute(again, [doubled["id"]])
        tables.execute(f"update store.stock set level = level + 1 where store = '{shelf}' and item = 'bread'")
        tables.execute(f"delete from store.stock where store = '{shelf}' and item = 'milk'")
    with story.open() as mill:
        found = mill.reconcile("stock")
        assert (found["missing"], found["extra"], found["different"]) == (1, 0, 1), f"TIDEMILL_SEED={BASE}"
        assert found["samples"]["missing"][0]["item"] == "milk"
        assert found["copies"]["movements"] == {"missing": 1, "extra": 1, "different": 0}
        assert [row["id"] for row in mill.audit("stock")["readers"][0]["missing_ids"]] == [lost["id"]]
        assert mill.reconcile("stock", repair=True)["repaired"] == 4
        assert stock(mill) == levels(events)
        mill.emit("movements", [{**events[0], "id": "later", "change": 100}])
        ran(mill)
        assert stock(mill) == levels([*events, {**events[0], "change": 100}])


@pytest.mark.parametrize("turn", range(2))
def test_what_the_shops_never_told_or_told_twice_is_what_the_count_finds(story: Project, turn: int) -> None:
    """Exactly the shelves where that was planted; and the movements that put it right are its rows."""
    chance = random.Random(f"{BASE} {turn}")
    events = movements(chance)
    truth = levels(events)
    dropped = chance.sample([event for event in events if event["change"]], 3)
    told = [event for event in events if event not in dropped]
    twice = chance.choice([event for event in told if event["change"]])
    told.append({**twice, "id": f"{twice['id']} again"})  # under another id nobody can know that it is the same
    planted = {shelf for shelf, level in levels(told).items() if level != truth[shelf]}
    with story.open() as mill:
        for call in untidy(chance, told):
            mill.emit("movements", call)
        count_shelves(story, truth, *STORES)
        ran(mill)
        shortage = mill.query("select * from shortage")
        assert {(row["store"], row["item"]) for row in shortage} == planted, f"TIDEMILL_SEED={BASE}"
        mill.emit("movements", shortage)
        ran(mill)
        assert stock(mill) == truth


def test_a_shop_that_has_not_counted_is_named_past_the_deadline(story: Project) -> None:
    events = movements(random.Random(1))
    with story.open() as mill:
        mill.emit("movements", events)
        count_shelves(story, levels(events), "north", "south")
        ran(mill)
        (reason,) = [reason for reason in alarms(mill) if "deadline" in reason]
        assert "west" in reason
        assert "north" not in reason
        count_shelves(story, levels(events), "west")
        ran(mill)
        assert not [reason for reason in alarms(mill) if "deadline" in reason]
        assert rows(mill, "select * from shortage") == []


def test_the_template_itself_is_such_a_night(tmp_path: Path) -> None:
    project = Project(tmp_path / "shops")
    project.cli_free("init", str(project.folder), "--template", "inventory")
    project.cli("emit", "movements", "--file", str(project.folder / "movements.ndjson"))
    project.cli("run")
    assert len(json.loads(project.cli("query", "select * from stock", "--json").stdout)) == 9
    assert "west" in project.cli("status").stderr
