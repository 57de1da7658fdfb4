"""An alert for every flight that lands an hour late or more, as it lands."""

from typing import Any

import tidemill as tm

ALERT_FROM_MINUTES = 60


@tm.job(inputs="flight_events", output="late_flights", mode="realtime")
def late_flights(event: dict[str, Any]) -> dict[str, Any] | None:
    """One alert, or none."""
    delay = event["arr_delay"]
    if event["kind"] != "landed" or delay is None or delay < ALERT_FROM_MINUTES:
        return None
    return {
        "flight_id": event["flight_id"],
        "carrier": event["carrier"],
        "origin": event["site"],
        "dest": event["dest"],
        "landed_at": event["happened_at"],
        "minutes_late": delay,
    }
