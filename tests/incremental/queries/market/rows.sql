-- name: project
select auction, bidder, price * 0.908 as price_eur, ts from bid;

-- name: filter
select auction, price from bid where auction % 7 = 3;

-- name: filter_three_valued
select id, price from bid where not (price > 100 or channel = 'web');

-- name: expressions
select id, case when price is null then 'none' when price > 50 then 'high' else 'low' end as band,
  coalesce(channel, '?') || '/' || bidder as place, ts::date as day, extract(hour from ts) as h, score
from bid;

-- name: unnest_in_select
select id, unnest(tags) as tag from auction;

-- name: unnest_in_from
select a.id, u.tag from auction a, unnest(a.tags) as u(tag);

-- name: unnest_left
select a.id, u.tag from auction a left join unnest(a.tags) as u(tag) on true;

-- name: struct_fields
select channel, place.x as x, place.y as y, place from click where place.x is distinct from 1;

-- name: lists_and_structs
select id, tags, len(tags) as n, list_distinct(tags) as d, {'a': category, 'b': tags} as s from auction;

-- name: keyless
select * from click;

-- name: keyless_projection_makes_duplicates
select channel, amount from click where amount > 0;

-- name: booleans
select id, vip, vip and state = 'OR' as both, not vip as no, vip is not true as maybe from person;

-- name: time_zones
select id, starts at time zone 'Europe/Paris' as local_start, (starts at time zone 'Europe/Paris')::date as local_day,
  ends - starts as length, starts
from shift;

-- name: huge_integers
select id, tips, tips * 2 as twice, -tips as minus from shift where tips is null or tips <> 7;

-- name: topic_rows
select id, page, ms / 1000 as seconds from visit where ms >= 1000 or ms is null;

-- name: upsert_rows
select person, upper(tier) as tier, credit from profile;

-- name: subquery_in_from
select x.id, x.c from (select id, price / 2 as c, channel from bid where price > 10) x where x.channel <> 'web';

-- name: cte_chain
with a as (select id, price, channel from bid where price is not null), b as (select id, price * 2 as p2, channel from a)
select id, p2 from b where channel in ('app', 'tel');

-- name: constants
select 1 as one, 'x' as x, null::integer as nothing, id from person;

-- name: no_input_columns
select 7 as seven from auction;

-- name: cast_of_a_literal
select id, timestamp '2026-01-02 06:00:00'::date as day from person;
