-- Where the count of a night differs from what was told until then: as the movements that would put it right.
-- mode: realtime
-- gate: day
-- deadline: 06:00
select
  'count ' || c.day || ' ' || c.store || ' ' || c.item as id,
  c.store,
  c.item,
  (c.level - coalesce(sum(m.change), 0))::integer as change,
  c.day::timestamp + interval 23 hours as moved_at
from counts c
left join movements m on m.store = c.store and m.item = c.item and m.moved_at::date <= c.day::date
group by c.day, c.store, c.item, c.level
having c.level <> coalesce(sum(m.change), 0)
