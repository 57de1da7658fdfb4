-- description: what each aircraft flew; aircraft that the registry does not know stay visible as is_known = false
-- mode: microbatch
-- key: tailnum
select
    f.tailnum,
    p.tailnum is not null as is_known,
    p.manufacturer,
    p.model,
    p.seats,
    count(*) as flights,
    sum(f.distance)::bigint as miles,
    sum(f.air_time)::bigint as air_minutes
from flight_state as f
left join planes as p on p.tailnum = f.tailnum
where f.state in ('departed', 'landed')
group by all
