-- description: punctuality of each carrier on each day, up to the minute
-- mode: realtime
-- key: carrier, date
select
    carrier,
    date,
    count(*) as flights,
    count(*) filter (where state = 'cancelled') as cancelled,
    count(arr_delay) as arrived,
    count(*) filter (where arr_delay >= 15) as late,
    sum(greatest(arr_delay, 0))::bigint as delay_minutes,
    max(arr_delay) as worst_delay
from flight_state
group by all
