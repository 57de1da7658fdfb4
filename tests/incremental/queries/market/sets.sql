-- name: union_all
select id, name as v from person union all select id, channel from bid where price > 50
union all select auction, cast(count(*) as varchar) from bid group by auction;

-- name: union_all_of_itself
select id, category from auction where category > 1 union all select id, category from auction where category < 3;

-- name: union_distinct
select seller as x from auction union select bidder from bid;

-- name: union_of_wider_types
select id, reserve as v from auction union all select id, score from bid;

-- name: union_by_name
select id, name from person union all by name select page as name, id from visit;

-- name: except
select seller from auction except select bidder from bid where channel = 'app' and auction < 40;

-- name: except_all
select bidder from bid except all select seller from auction;

-- name: intersect
select seller, category from auction intersect select bidder, auction % 5 from bid;

-- name: intersect_all
select seller from auction intersect all select bidder from bid;

-- name: union_grouped
select kind, count(*) as n, sum(v) as s from (select 'bid' as kind, price as v from bid union all select 'auction', reserve from auction
union all select channel, amount from click) group by kind;

-- name: union_joined
select u.x, p.name from (select seller as x from auction union select bidder from bid) u join person p on p.id = u.x;

-- name: union_of_except
(select id from person except select seller from auction) union all select id from person where vip;

-- name: limit_global
select id, price from bid order by price desc nulls last, id limit 7;

-- name: limit_among_equal_rows
select p.state, p.vip from person p cross join auction a order by p.state, p.vip limit 7;

-- name: limit_offset
select id, ts from visit order by ts, id limit 10 offset 5;

-- name: limit_over_aggregate
select auction, count(*) as n from bid group by auction order by n desc, auction nulls first limit 6;

-- name: limit_in_subquery
select p.id, p.name, t.n from (select seller, count(*) as n from auction where seller is not null group by seller
order by n desc, seller limit 8) t join person p on p.id = t.seller;

-- name: limit_per_cent
-- answer: next
select channel, page, amount from click order by amount desc nulls last limit 20;
select channel, page, amount from click order by amount desc nulls last, channel, page limit 20;

-- name: limit_after_distinct
select distinct channel, auction % 5 as m from bid order by m desc nulls first, channel nulls last limit 9;

-- name: pivot_statement
-- rows: 2
select * from (pivot (select channel, page, amount from click where channel is not null) on page in ('home', 'cart') using sum(amount) as s, count(*) as n
group by channel);

-- name: pivot_of_table
-- rows: 2
select p.channel, p.home_n, p.cart_n from click pivot (count(*) as n for page in ('home', 'cart') group by channel) p;

-- name: top_of_union
select kind, id, price from (select 'a' as kind, id, reserve as price from auction union all select 'b', id, price from bid)
qualify row_number() over (partition by kind order by price desc nulls last, id) <= 5;

-- name: except_signed_zero
select channel, -0.0 * auction as zero from bid except select page, 0.0 * amount from click where amount > 150;

-- name: union_signed_zero
select channel, -1e0 * auction % 2 * 0 as zero from bid union select page, 0.0e0 from click;

-- name: except_of_one_column_twice
select seller, category from auction except select bidder, bidder from bid where bidder < 4;
