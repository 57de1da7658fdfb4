-- description: one line per day for those who do not query: the operations report as a file
-- mode: batch
-- materialized: extract
select
    date,
    sum(flights)::bigint as flights,
    sum(cancelled)::bigint as cancelled,
    sum(departed_late)::bigint as departed_late,
    sum(delay_minutes)::bigint as delay_minutes,
    max(precip) as precip_max,
    min(visib_min) as visib_min
from daily_operations
group by date
order by date
