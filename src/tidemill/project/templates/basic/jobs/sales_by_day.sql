-- description: what each customer bought on each day, up to the second
-- mode: realtime
-- key: customer, day
select
    customer,
    ordered_at::date as day,
    count(*) as orders,
    sum(amount) as amount
from orders
group by all
