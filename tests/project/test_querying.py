"""Queries that people ask of an open project."""

from __future__ import annotations

from pathlib import Path

import tidemill as tm

PROJECT = """
[project]
name = "shop"
[assets.orders]
kind = "topic"
columns = { shop = "integer", items = "varchar[]" }
[assets.shops]
kind = "topic"
columns = { id = "integer", tax = "integer" }
[assets.products]
kind = "topic"
columns = { id = "integer", name = "varchar" }
"""
ASKED = """
select r.item, r.shop, r.tax, p.name from (
    select i.item, o.shop, s.tax from orders o join shops s on o.shop = s.id cross join unnest(o.items) as i(item)
) r join products p on p.id = r.shop
"""
BLOCK_ROWS = 2048
"""Rows that DuckDB works on at once."""


def test_a_query_may_join_what_it_unnests_from_joined_rows(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text(PROJECT)
    with tm.open(tmp_path) as mill:
        mill.emit("shops", [{"id": 2, "tax": 14}, {"id": 5, "tax": 15}])
        mill.emit("products", [{"id": 2, "name": "two"}, {"id": 5, "name": "five"}])
        orders = [{"shop": 2, "items": ["pen"]}, {"shop": 5, "items": []}]
        orders += [{"shop": 9, "items": []}] * (BLOCK_ROWS - 2)
        mill.emit("orders", [*orders, {"shop": 5, "items": ["pen", "ink"]}])
        rows = mill.query(ASKED)
    told = sorted((row["item"], row["shop"], row["tax"], row["name"]) for row in rows)
    assert told == [("ink", 5, 15, "five"), ("pen", 2, 14, "two"), ("pen", 5, 15, "five")]
