-- name: group_by
select channel, count(*) as n, sum(price) as s, count(price) as c from bid group by channel;

-- name: group_null_keys
select seller, category, count(*) as n, sum(reserve) as s, count(reserve) as c, min(reserve) as lo from auction
group by seller, category;

-- name: group_all
select time_bucket(interval 10 minute, ts) as w, channel, count(*) as n, sum(price) as s from bid group by all;

-- name: group_by_expression
select extract(hour from ts) as h, count(*) as n, max(price) as m from bid group by extract(hour from ts);

-- name: group_min_max
select auction, min(price) as lo, max(price) as hi, min(ts) as first_ts, max(channel) as c from bid group by auction;

-- name: group_min_max_of_few
select channel, min(price) as lo, max(price) as hi, max(score) as s from bid group by channel;

-- name: group_average
-- close: a
select auction, avg(price) as a, count(*) as n from bid group by auction;

-- name: group_average_of_integers
-- rows: 3
select channel, avg(amount) as a, sum(amount) as s from click group by channel;

-- name: group_float_sums
-- loose: s, a
select auction, sum(score) as s, avg(score) as a, count(score) as n from bid group by auction;

-- name: group_having
select bidder from bid group by bidder having sum(price) > 300;

-- name: group_having_distinct
select bidder, count(*) as n from bid group by bidder having count(distinct channel) > 1 and min(price) < 50;

-- name: group_having_can_lose_all
-- rows: 1
select category, count(*) as n from auction group by category having count(*) > 15;

-- name: group_filter
select channel, cast(ts as date) as d, count(*) filter (where price < 100) as lo, sum(price) filter (where score > 1) as s
from bid group by 1, 2;

-- name: group_count_distinct
select category, count(distinct seller) as sellers, count(*) as n from auction group by category;

-- name: group_sum_distinct
-- rows: 3
select channel, sum(distinct amount) as s, count(distinct page) as p from click group by channel;

-- name: group_of_join
select p.state, count(a.id) as na, count(b.id) as nb, sum(b.price) as s from person p left join auction a on a.seller = p.id
left join bid b on b.auction = a.id group by p.state;

-- name: group_of_range_join
select a.category, sum(b.price * h.factor) as v, count(h.factor) as n from bid b join auction a on a.id = b.auction
  left join rate h on h.category = a.category and b.ts >= h.valid_from and b.ts < h.valid_to group by 1;

-- name: group_of_self_join
select x.bidder, count(*) as n from bid x join bid y on x.auction = y.auction and x.price < y.price group by x.bidder;

-- name: group_of_full_join
select coalesce(p.state, '-') as state, count(*) as n, count(a.id) as na from person p full join auction a on a.seller = p.id
group by 1;

-- name: group_of_group
-- close: a
select category, avg(final) as a, count(*) as n from (select max(b.price) as final, a.category as category
from auction a, bid b where a.id = b.auction and b.ts between a.opened and a.expires group by a.id, a.category) q
group by category;

-- name: group_of_group_of_group
-- rows: 3
select k, count(*) as n from (select n % 3 as k, count(*) as m from (select auction, count(*) as n from bid group by auction)
group by n) group by k;

-- name: global
-- rows: 1
select sum(price) as s, count(*) as n, min(score) as mn, max(score) as mx, count(distinct channel) as d from bid;

-- name: global_of_nothing
-- rows: 1
select count(*) as n, sum(price) as s, max(ts) as m from bid where price > 1000000;

-- name: global_having
-- rows: 1
select count(*) as n from auction having count(*) > 66;

-- name: distinct
select distinct channel, auction % 5 as m from bid;

-- name: distinct_keyless
select distinct channel, page, place from click;

-- name: distinct_on
select distinct on (auction) auction, id, price from bid order by auction, price desc, id;

-- name: distinct_of_aggregate
select distinct count(*) as n from bid group by auction;

-- name: median
select auction, median(price) as m from bid group by auction;

-- name: quantiles
select channel, quantile_disc(price, 0.25) as q1, quantile_cont(price, 0.9) as q9, mad(price) as d from bid group by channel;

-- name: variance
-- loose: sd, v
select auction, stddev_pop(score) as sd, var_samp(price) as v from bid group by auction;

-- name: text_in_order
select auction, string_agg(channel, ',' order by ts, id) as path from bid group by auction;

-- name: list_in_order
select bidder, list(price order by ts desc, id) as prices, list(distinct channel order by channel) as channels from bid
group by bidder;

-- name: first_and_last
select channel, first(id order by ts, id) as f, last(price order by ts, id) as l, arg_max(id, ts) as newest from bid
where price is not null group by channel;

-- name: booleans_folded
select state, bool_and(vip) as every, bool_or(vip) as some, count_if(vip) as n from person group by state;

-- name: histograms
-- rows: 3
select channel, histogram(amount) as h from click group by channel;

-- name: bits
select category, bit_xor(id) as x, bit_and(id) as a, bit_or(id % 5) as o from auction group by category;

-- name: grouping_sets
select channel, page, count(*) as n, sum(amount) as s, grouping(channel, page) as g from click
group by grouping sets ((channel, page), (channel), ());

-- name: rollup
select state, city, count(*) as n from person group by rollup (state, city);

-- name: cube
select vip, state, count(*) as n from person group by cube (vip, state);

-- name: tumbling
select time_bucket(interval 1 hour, ts) as w, count(*) as n, sum(ms) as ms, max(ms) as longest from visit group by 1;

-- name: hopping
select w, count(*) as n, sum(price) as s from (select unnest(generate_series(time_bucket(interval 1 hour, ts) - interval 2 hour,
time_bucket(interval 1 hour, ts), interval 1 hour)) as w, price from bid) group by w;

-- name: days_in_a_time_zone
-- rows: 2
-- loose: worked
select (starts at time zone 'Europe/Paris')::date as day, count(*) as n, sum(tips) as tips, sum(epoch(ends) - epoch(starts)) as worked
from shift group by all;

-- name: huge_sums
select person, sum(tips) as s, avg(tips) as a, count(*) as n from shift group by person;

-- name: group_keyless
select page, amount, count(*) as n, sum(place.x) as x from click group by page, amount;

-- name: group_by_list
select tags, count(*) as n, max(reserve) as m from auction group by tags;

-- name: group_by_struct
select place, count(*) as n from click group by place;

-- name: group_upsert
-- rows: 4
select tier, count(*) as n, sum(credit) as credit, min(credit) as lowest from profile group by tier;

-- name: group_unnested
-- rows: 4
select tag, count(*) as n, count(distinct seller) as sellers from (select seller, unnest(tags) as tag from auction) group by tag;

-- name: hidden_group_key
select count(*) as n, sum(price) as s from bid group by auction, channel;

-- name: pivot_by_hand
select auction, sum(case when channel = 'web' then price end) as web, sum(case when channel = 'app' then price else 0 end) as app
from bid group by auction;

-- name: product_of_a_constant
select category, product(2) as p from auction group by category;

-- name: sum_of_a_constant
select category, sum(1.5) as s from auction group by category;

-- name: sum_of_what_may_be_floating
-- loose: a, b, c
select auction, sum(least(score, price)) as a, sum([score, 0.5][1]) as b, sum(0.1e0) as c from bid group by auction;

-- name: average_of_times
select seller, avg(opened) as middle, count(*) as n from auction group by seller;

-- name: sum_of_decimals_by_a_constant
-- close: a
select auction, sum(price * 1.25) as s, avg(price * 2) as a from bid group by auction;

-- name: group_by_signed_zero
select round(score - score) * case when auction % 2 = 0 then 1 else -1 end as zero, channel, count(*) as n, sum(price) as s
from bid group by 1, channel;

-- name: group_by_not_a_number
-- rows: 2
select case when price > 100 then 'nan'::double when price > 60 then '-nan'::double else -0.0 * auction end as k, count(*) as n,
  max(id) as last from bid group by k;

-- name: group_by_interval
-- rows: 2
select case when id % 3 = 0 then interval 30 day when id % 3 = 1 then interval 1 month else interval 720 hour end as i,
  auction % 3 as m, count(*) as n from bid group by i, m;

-- name: group_by_hidden_floats
-- rows: 2
-- loose: s
select [score * 0, -0.0e0][1 + auction % 2] as zero, count(*) as n, sum(score) as s from bid group by zero;

-- name: group_by_floats_in_a_list
-- rows: 2
select [score * 0 * (auction % 2 - 1)] as zeros, count(*) as n from bid group by zeros;

-- name: distinct_signed_zero
select distinct channel, -0.0 * auction * (auction % 2) as zero from bid;

-- name: extremes_of_signed_zero
select auction, min(-0.0 * price) as lo, max(0.0 * score) as hi, count(distinct -0.0 * price) as n from bid group by auction;

-- name: group_by_all_with_having
select category % 2 as odd, count(*) as n, max(reserve) as top from auction group by all having odd < 2 and max(id) > 3;

-- name: sum_over_union_by_name
-- rows: 1
-- loose: s
select sum(a) as s from (select id as a, id as b from bid union all by name select id as b, score as a from bid) u;

-- name: sum_of_many_digits
-- rows: 2
-- loose: s
select channel, sum(price * 3.1415926535897932384626433832795028841971) as s from bid group by channel;

-- name: sum_of_rests_of_decimals
-- rows: 2
-- loose: s
select channel, sum(price % 0.333) as s from bid group by channel;
