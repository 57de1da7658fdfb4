-- name: running
select id, bidder, ts, sum(price) over (partition by bidder order by ts, id) as run,
  lag(price) over (partition by bidder order by ts, id) as prev from bid;

-- name: row_numbers
select id, auction, row_number() over (partition by auction order by price desc, id) as n from bid;

-- name: row_numbers_with_ties
-- answer: next
select id, row_number() over (partition by channel order by auction) as n from bid;
select id, row_number() over (partition by channel order by auction, id) as n from bid;

-- name: ranks
select id, rank() over (partition by channel order by auction) as r, dense_rank() over (partition by channel order by auction) as d,
  percent_rank() over (partition by channel order by auction) as p, cume_dist() over (partition by channel order by auction) as c
from bid;

-- name: rank_with_nulls
select id, category, rank() over (partition by category order by reserve desc nulls last) as r from auction;

-- name: top_three
select channel, id, price from bid qualify row_number() over (partition by channel order by price desc, id) <= 3;

-- name: top_with_ties
select auction, id, price from bid qualify rank() over (partition by auction order by price desc) = 1;

-- name: top_of_subquery
select * from (select a.id as aid, b.bidder, b.price, row_number() over (partition by a.id order by b.price desc, b.ts, b.id) as rn
from auction a join bid b on a.id = b.auction where b.ts < a.expires) where rn = 1;

-- name: lag_lead
select id, lag(page) over w as before, lead(page, 2, 'end') over w as later from visit window w as (partition by person order by ts, id);

-- name: rows_frame
select id, sum(price) over (partition by auction order by ts, id rows between 2 preceding and current row) as s,
  count(*) over (partition by auction order by ts, id rows between 1 preceding and 1 following) as n from bid;

-- name: range_frame
select id, sum(price) over (partition by channel order by ts range between interval 1 hour preceding and current row) as s,
  min(price) over (partition by channel order by ts range between interval 30 minute preceding and interval 30 minute following) as m
from bid;

-- name: range_default_frame
select id, sum(auction) over (partition by channel order by auction) as s, count(*) over (partition by channel order by auction) as n
from bid;

-- name: groups_frame
select id, count(*) over (partition by channel order by auction groups between 1 preceding and current row) as n from bid;

-- name: whole_partition
select id, price, max(price) over (partition by auction) as top, count(*) over (partition by auction) as n,
  price = max(price) over (partition by auction) as is_top from bid;

-- name: share_of_total
select id, auction, price / sum(price) over (partition by auction) as share from bid where price > 0;

-- name: ntile
select id, ntile(4) over (partition by channel order by price, id) as quarter from bid;

-- name: first_last_nth
select id, first_value(id) over w as f, last_value(id) over w as l, nth_value(id, 2) over w as n from bid
window w as (partition by auction order by ts, id rows between unbounded preceding and unbounded following);

-- name: two_partitions_one_inside_the_other
select id, count(*) over (partition by channel) as n, row_number() over (partition by channel, auction order by ts, id) as r from bid;

-- name: two_partitions_apart
select id, count(*) over (partition by channel) as n, count(*) over (partition by auction) as m from bid;

-- name: no_partition
select id, row_number() over (order by price desc nulls last, id) as place from bid;

-- name: window_by_null_keys
select id, seller, category, row_number() over (partition by seller, category order by opened, id) as n from auction;

-- name: window_by_expression
select id, row_number() over (partition by ts::date order by ts, id) as n from visit;

-- name: window_over_aggregate
select auction, channel, count(*) as n, rank() over (partition by channel order by count(*) desc) as r from bid group by auction, channel;

-- name: hot_items
select wstart, auction, n from (select time_bucket(interval 1 hour, ts) as wstart, auction, count(*) as n,
rank() over (partition by time_bucket(interval 1 hour, ts) order by count(*) desc) as r from bid group by 1, 2) where r = 1;

-- name: group_over_window
select bidder, max(gap) as gap, count(*) as n from (select bidder, ts - lag(ts) over (partition by bidder order by ts, id) as gap
from bid) group by bidder;

-- name: sessions
select person, session, min(ts) as begins, max(ts) as ends, count(*) as n from (
  select person, ts, sum(is_new) over (partition by person order by ts, id) as session from (
    select id, person, ts, case when ts - lag(ts) over (partition by person order by ts, id) < interval 2 hour then 0 else 1 end as is_new
    from visit))
group by person, session;

-- name: window_of_join
select b.id, p.state, row_number() over (partition by p.state order by b.price desc, b.id) as n
from bid b join person p on p.id = b.bidder;

-- name: window_keyless
select page, ts, amount, sum(amount) over (partition by page order by ts) as s, dense_rank() over (partition by page order by ts) as d
from click;

-- name: window_float_sum
-- loose: s
select id, sum(score) over (partition by auction) as s from bid;

-- name: window_list
select id, list(price order by price) over (partition by auction) as prices from bid;

-- name: qualify_without_showing
select person, ts from visit qualify count(*) over (partition by person) > 3;

-- name: filtered_window
select id, count(*) filter (where price > 100) over (partition by auction) as high from bid;

-- name: ignore_nulls
select id, last_value(price ignore nulls) over (partition by auction order by ts, id) as p from bid;
