"""Orders that somebody should look at, as they come in."""

from typing import Any

import tidemill as tm

LARGE = 1_000


@tm.job(
    inputs="orders",
    output="large_orders",
    mode="realtime",
    columns={"order_id": "varchar", "customer": "varchar", "amount": "decimal(10,2)"},
)
def large_orders(order: dict[str, Any]) -> dict[str, Any] | None:
    """One row for a large order, none for the others."""
    if order["amount"] < LARGE:
        return None
    return {"order_id": order["order_id"], "customer": order["customer"], "amount": order["amount"]}
