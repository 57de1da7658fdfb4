-- What lies on the shelves now, as far as the shops have told.
-- mode: realtime
-- reconcile: "03:00"
select store, item, sum(change)::integer as level
from movements
group by store, item
