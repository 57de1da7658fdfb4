-- description: each airport's day beside its weather, once all three weather files are there
-- mode: batch
-- on: end_of_day
-- gate: date
-- on_late: correct
-- key: date, origin
with traffic as (
    select
        date,
        origin,
        count(*) as flights,
        count(*) filter (where state = 'cancelled') as cancelled,
        count(*) filter (where dep_delay >= 60) as departed_late,
        sum(greatest(dep_delay, 0))::bigint as delay_minutes
    from flight_state
    group by date, origin
),
conditions as (
    select
        date,
        origin,
        count(*) as hours,
        (sum(temp) / count(temp))::decimal(5, 1) as temp_mean,
        min(temp) as temp_min,
        max(temp) as temp_max,
        sum(precip)::decimal(6, 2) as precip,
        min(visib) as visib_min,
        max(wind_gust) as gust_max
    from weather
    group by date, origin
)
select
    t.date,
    t.origin,
    t.flights,
    t.cancelled,
    t.departed_late,
    t.delay_minutes,
    c.hours as weather_hours,
    c.temp_mean,
    c.temp_min,
    c.temp_max,
    c.precip,
    c.visib_min,
    c.gust_max
from traffic as t
left join conditions as c on c.date = t.date and c.origin = t.origin
