-- name: exists
select p.id, p.name from person p where exists (select 1 from auction a where a.seller = p.id);

-- name: not_exists
select p.id, p.name from person p where not exists (select 1 from auction a where a.seller = p.id);

-- name: exists_with_inequality
select b.id from bid b where exists (select 1 from bid c where c.auction = b.auction and c.bidder <> b.bidder and c.price > b.price);

-- name: not_exists_with_inequality
select b.id from bid b where not exists (select 1 from bid c where c.auction = b.auction and c.price > b.price);

-- name: exists_or
select p.id from person p where exists (select 1 from auction a where a.seller = p.id and a.category = 1) or p.vip;

-- name: exists_alone
select p.id from person p where exists (select 1 from rate where factor > 1.9);

-- name: in_subquery
select id, price from bid where auction in (select id from auction where category = 2);

-- name: in_with_nulls
select id from person where id in (select seller from auction);

-- name: not_in
select p.id from person p where p.id not in (select seller from auction where category = 1 and seller < 12);

-- name: not_in_with_nulls
select p.id from person p where p.id not in (select seller from auction where id in (3, 4));

-- name: not_in_null_on_the_left
select id, bidder from bid where bidder not in (select id from person where vip);

-- name: not_in_of_nothing
select id, seller from auction where seller not in (select id from person where name = 'nobody');

-- name: not_in_correlated
select a.id from auction a where a.seller not in (select b.bidder from bid b where b.auction = a.id);

-- name: in_two_columns
select id from auction where (seller, category) in (select bidder, auction % 5 from bid);

-- name: in_expression
select id, bidder in (select id from person where vip) as is_vip from bid;

-- name: scalar
select id from bid where price > (select avg(price) from bid);

-- name: scalar_in_select
select id, price, price - (select max(price) from bid where channel = 'web') as below from bid;

-- name: scalar_of_nothing
select id, (select max(price) from bid where price > 1000000) as m from person;

-- name: scalar_correlated
select p.id, (select max(a.reserve) from auction a where a.seller = p.id) as top from person p;

-- name: scalar_correlated_count_over_nothing
select p.id, (select count(*) from auction a where a.seller = p.id) as n from person p;

-- name: scalar_correlated_count_in_where
select p.id from person p where (select count(*) from auction a where a.seller = p.id and a.category = 3) = 0;

-- name: scalar_correlated_sum_over_nothing
select p.id, coalesce((select sum(a.reserve) from auction a where a.seller = p.id), -1) as s from person p;

-- name: scalar_correlated_average
select b.id from bid b where b.price > (select avg(c.price) from bid c where c.auction = b.auction);

-- name: scalar_correlated_non_equi
select r.category, r.valid_from, (select count(*) from auction a where a.category = r.category and a.opened < r.valid_from) as n from rate r;

-- name: nested_twice
select id from person where id in (select seller from auction where id in (select auction from bid where price > 200));

-- name: nested_correlated_twice
select p.id from person p where exists (select 1 from auction a where a.seller = p.id
  and not exists (select 1 from bid b where b.auction = a.id and b.price > 100));

-- name: all_and_any
select id, price from bid where price >= all (select reserve from auction where category = 1 and reserve is not null)
  or price < any (select factor from rate);

-- name: cte_twice
with c as (select auction, count(*) as n, max(price) as mx from bid group by auction), d as (select n, count(*) as k from c group by n)
select c.auction, c.mx, d.k from c join d using (n);

-- name: cte_thrice
with s as (select seller, count(*) as n from auction group by seller)
select p.id, s.n, (select max(n) from s) as top from person p join s on s.seller = p.id where s.n < (select avg(n) * 2 from s);

-- name: cte_and_itself
with t as (select id, auction, price from bid where price > 50) select x.id, y.id as other from t x join t y
on x.auction = y.auction and x.id < y.id;

-- name: recursive
with recursive up as (
  select id, seller, 1 as depth from auction where category = 1
  union all select a.id, a.seller, up.depth + 1 from auction a join up on a.seller = up.id where up.depth < 4)
select id, seller, depth from up;

-- name: having_scalar
select channel, sum(price) as s from bid group by channel having sum(price) > (select sum(price) * 0.1 from bid);

-- name: subquery_with_limit
select id, (select b.price from bid b where b.auction = a.id order by b.price desc nulls last, b.id limit 1) as best from auction a;

-- name: winning_bids
select b.auction, b.price, b.bidder, m.w from bid b join (select time_bucket(interval 1 hour, ts) as w, max(price) as mx
from bid group by 1) m on b.price = m.mx and time_bucket(interval 1 hour, b.ts) = m.w;

-- name: new_sellers
select p.id, p.name, count(*) as n from person p join auction a on p.id = a.seller group by p.id, p.name having count(*) > 1;

-- name: values_list
select b.id, v.rank from bid b join (values ('web', 1), ('app', 2)) v(channel, rank) on v.channel = b.channel;

-- name: array_of_subquery
select p.id, array(select a.id from auction a where a.seller = p.id order by a.id) as auctions from person p;
