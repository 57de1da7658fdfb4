-- description: where every flight stands, from the latest thing its airport said
-- mode: realtime
-- key: flight_id
select
    flight_id,
    date,
    site as origin,
    dest,
    carrier,
    flight,
    tailnum,
    kind as state,
    scheduled_at,
    happened_at as changed_at,
    dep_delay,
    arr_delay,
    air_time,
    distance
from flight_events
qualify row_number() over (partition by flight_id order by seq desc) = 1
