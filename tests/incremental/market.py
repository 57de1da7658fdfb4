"""A market: people, auctions and bids with all that is awkward in real data, as a source of random histories."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.incremental.tables import FILES, TOPIC, UPSERT, Base, RandomRows, Row

BASES = {
    base.name: base
    for base in (
        Base(
            "person",
            {
                "id": "INTEGER",
                "name": "VARCHAR",
                "city": "VARCHAR",
                "state": "VARCHAR",
                "born": "DATE",
                "vip": "BOOLEAN",
            },
            ("id",),
        ),
        Base(
            "auction",
            {
                "id": "INTEGER",
                "seller": "INTEGER",
                "category": "INTEGER",
                "opened": "TIMESTAMP",
                "expires": "TIMESTAMP",
                "reserve": "DECIMAL(12,2)",
                "tags": "VARCHAR[]",
            },
            ("id",),
        ),
        Base(
            "bid",
            {
                "id": "INTEGER",
                "auction": "INTEGER",
                "bidder": "INTEGER",
                "price": "DECIMAL(12,2)",
                "score": "DOUBLE",
                "ts": "TIMESTAMP",
                "channel": "VARCHAR",
            },
            ("id",),
        ),
        Base(
            "rate",
            {
                "category": "INTEGER",
                "valid_from": "TIMESTAMP",
                "valid_to": "TIMESTAMP",
                "factor": "DECIMAL(9,4)",
            },
            ("category", "valid_from"),
        ),
        Base(
            "click",
            {
                "channel": "VARCHAR",
                "page": "VARCHAR",
                "ts": "TIMESTAMP",
                "amount": "INTEGER",
                "place": "STRUCT(x INTEGER, y VARCHAR)",
            },
            kind=FILES,
        ),
        Base(
            "shift",
            {"id": "BIGINT", "person": "INTEGER", "starts": "TIMESTAMPTZ", "ends": "TIMESTAMPTZ", "tips": "HUGEINT"},
            ("id",),
        ),
        Base(
            "visit",
            {"id": "INTEGER", "person": "INTEGER", "ts": "TIMESTAMP", "page": "VARCHAR", "ms": "BIGINT"},
            kind=TOPIC,
        ),
        Base("profile", {"person": "INTEGER", "tier": "VARCHAR", "credit": "DECIMAL(10,2)"}, ("person",), UPSERT),
    )
}

SIZES = {
    "person": 40,
    "auction": 80,
    "bid": 300,
    "rate": 12,
    "click": 150,
    "shift": 40,
    "visit": 120,
    "profile": 30,
}

_START = datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose: timestamps are naive and mean UTC


def market(seed: int) -> RandomRows:
    """The market as a source; the seed says every row that will ever come."""
    return RandomRows(BASES, _make, SIZES, random.Random(seed))


def _make(choose: random.Random, name: str, number: int) -> Row:
    return _MAKERS[name](choose, number)


def _maybe(choose: random.Random, value: Any, share: float = 0.12) -> Any:
    return None if choose.random() < share else value


def _time(choose: random.Random, days: int = 3) -> datetime:
    return _START + timedelta(seconds=choose.randrange(days * 86_400))


def _decimal(choose: random.Random, high: int, digits: int = 2) -> Decimal:
    return Decimal(choose.randrange(-high // 10, high)).scaleb(-digits)


def _person(choose: random.Random, number: int) -> Row:
    born = date(1990, 1, 1) + timedelta(days=choose.randrange(4000))
    return (
        number,
        choose.choice(["ann", "bob", "cy", "dee", "O'Hara", ""]),
        _maybe(choose, choose.choice("xyz")),
        _maybe(choose, choose.choice(["OR", "ID", "CA", "WA"])),
        _maybe(choose, born),
        _maybe(choose, choose.random() < 0.5, 0.3),
    )


def _auction(choose: random.Random, number: int) -> Row:
    opened = _time(choose, 2)
    tags = [_maybe(choose, choose.choice("pqr"), 0.1) for _ in range(choose.randrange(4))]
    return (
        number,
        _maybe(choose, choose.randint(1, 50)),
        _maybe(choose, choose.randint(0, 4)),
        opened,
        _maybe(choose, opened + timedelta(hours=choose.randint(0, 40))),
        _maybe(choose, _decimal(choose, 9999)),
        _maybe(choose, tags),
    )


def _bid(choose: random.Random, number: int) -> Row:
    return (
        number,
        _maybe(choose, choose.randint(1, 100)),
        _maybe(choose, choose.randint(1, 50)),
        _maybe(choose, _decimal(choose, choose.choice([300, 30_000]))),
        _maybe(choose, choose.random() * 10 ** choose.randint(-3, 5)),
        _time(choose),
        _maybe(choose, choose.choice(["web", "app", "tel", "shop"])),
    )


def _rate(choose: random.Random, number: int) -> Row:
    day = _START + timedelta(days=choose.randrange(4))
    until = day + timedelta(days=choose.randint(0, 3))
    return choose.randint(0, 4), day, _maybe(choose, until), _maybe(choose, _decimal(choose, 20_000, 4))


def _click(choose: random.Random, number: int) -> Row:
    place = {"x": _maybe(choose, choose.randrange(3)), "y": _maybe(choose, choose.choice("ab"))}
    return (
        _maybe(choose, choose.choice(["web", "app"])),
        choose.choice(["home", "cart", "help"]),
        _START + timedelta(minutes=5 * choose.randrange(400)),
        _maybe(choose, choose.randrange(-3, 6)),
        _maybe(choose, place),
    )


def _shift(choose: random.Random, number: int) -> Row:
    # Around the night in which clocks in Europe go forward.
    starts = datetime(2026, 3, 28, 12, tzinfo=UTC) + timedelta(minutes=30 * choose.randrange(60))
    tips = choose.choice([0, 7, -5, 10**20, 3 * 10**25])
    ends = starts + timedelta(minutes=30 * choose.randrange(1, 20))
    return number, _maybe(choose, choose.randint(1, 50)), starts, _maybe(choose, ends), _maybe(choose, tips)


def _visit(choose: random.Random, number: int) -> Row:
    page = _maybe(choose, choose.choice(["home", "cart", "help", "pay"]))
    return number, _maybe(choose, choose.randint(1, 50)), _time(choose), page, _maybe(choose, choose.randrange(5000))


def _profile(choose: random.Random, number: int) -> Row:
    tier = _maybe(choose, choose.choice(["gold", "silver", "none"]))
    return 1 + (number - 1) % 50, tier, _maybe(choose, _decimal(choose, 50_000))


_MAKERS = {
    "person": _person,
    "auction": _auction,
    "bid": _bid,
    "rate": _rate,
    "click": _click,
    "shift": _shift,
    "visit": _visit,
    "profile": _profile,
}
