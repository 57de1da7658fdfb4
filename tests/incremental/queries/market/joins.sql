-- name: join_inner
select p.name, p.city, p.state, a.id from auction a join person p on a.seller = p.id where a.category < 3;

-- name: join_using
select id, p.name, a.category from person p join auction a using (id);

-- name: join_comma_and_left
select p.id, a.id as aid, b.id as bid from person p, auction a left join bid b on b.auction = a.id and b.price > 50
where a.seller = p.id;

-- name: join_three
select p.state, a.category, b.price from bid b join auction a on a.id = b.auction join person p on p.id = a.seller
where p.state is not null;

-- name: join_left
select p.id, p.name, a.id as aid, a.reserve from person p left join auction a on a.seller = p.id and a.category <> 2;

-- name: join_left_where_null
select p.id, p.name from person p left join auction a on a.seller = p.id where a.id is null;

-- name: join_left_filtered_after
select p.id, a.category from person p left join auction a on a.seller = p.id where coalesce(a.category, 1) = 1;

-- name: join_left_of_left
select p.id, a.id as aid, b.id as bid from person p left join auction a on a.seller = p.id
  left join bid b on b.auction = a.id and b.channel = 'web';

-- name: join_left_non_equi
select p.id, r.category, r.factor from person p left join rate r on r.category < p.id % 4 and r.factor > 0.5;

-- name: join_right
select a.id as aid, p.id, p.vip from auction a right join person p on p.id = a.seller;

-- name: join_full
select p.id, a.id as aid from person p full join auction a on a.seller = p.id;

-- name: join_full_using_twice
select id, p.name, a.category, b.price from person p full join auction a using (id) full join bid b using (id)
where id < 60;

-- name: join_right_using_then_left
select id, p.name, a.category, b.price from person p right join auction a using (id) left join bid b using (id);

-- name: join_using_two_columns
select id, seller, a.category, b.price from auction a full join (select id % 20 as id, bidder as seller, price from bid) b
using (id, seller) full join (select person as seller, id from visit) v using (seller, id);

-- name: join_full_after_comma
select r.factor, p.id, a.id as aid from (select * from rate where factor > 1.5) r, person p full join auction a on a.seller = p.id;

-- name: join_right_after_comma
select r.factor, p.id, a.id as aid from (select * from rate where factor > 1.5) r, person p right join auction a on a.seller = p.id;

-- name: join_in_parentheses
select p.id, a.id as aid, b.price from (person p left join auction a on a.seller = p.id) left join bid b on b.auction = a.id;

-- name: join_in_parentheses_on_the_right
select p.id, a.id as aid, b.price from person p left join (auction a join bid b on b.auction = a.id) on a.seller = p.id;

-- name: join_full_with_condition
select p.id, pr.person, pr.tier from person p full join profile pr on pr.person = p.id and pr.tier = 'gold';

-- name: join_cross
select r.category, r.valid_from, p.id from rate r cross join person p where p.vip;

-- name: join_self
select x.id, y.id as other from bid x join bid y on x.auction = y.auction and x.price < y.price;

-- name: join_self_left
select x.id, y.id as previous from auction x left join auction y on y.seller = x.seller and y.id < x.id;

-- name: join_semi
select p.id, p.state from person p semi join auction a on a.seller = p.id;

-- name: join_anti
select p.id, p.state from person p anti join auction a on a.seller = p.id;

-- name: join_semi_using
select id, name from person semi join bid using (id);

-- name: join_range
select b.id, b.price * h.factor as v from bid b join auction a on a.id = b.auction
  join rate h on h.category = a.category and b.ts >= h.valid_from and b.ts < h.valid_to;

-- name: join_on_null_safe
select a.id, b.id as bid from auction a join bid b on a.category is not distinct from b.auction % 5 where b.price > 150;

-- name: join_on_expression
select p.id, b.id as bid from person p join bid b on p.id = b.bidder % 10 and p.city > b.channel;

-- name: join_on_two_keys
select a.id, r.factor from auction a join rate r on a.category = r.category and a.opened::date = r.valid_from::date;

-- name: join_or
select a.id, p.id as pid from auction a join person p on a.seller = p.id or a.category = p.id;

-- name: join_keyless
select c.channel, c.page, b.id from click c join bid b on b.channel = c.channel and b.id % 9 = c.amount;

-- name: join_keyless_twice
select x.page, y.page as next_page from click x join click y on y.ts = x.ts and y.channel = x.channel;

-- name: join_left_keyless
select p.id, c.amount from person p left join click c on c.amount = p.id and c.page = 'cart';

-- name: join_topics
select v.id, v.page, pr.tier, p.name from visit v left join profile pr on pr.person = v.person join person p on p.id = v.person;

-- name: join_of_aggregates
select a.seller, a.n, b.m from (select seller, count(*) as n from auction group by seller) a
join (select bidder, max(price) as m from bid group by bidder) b on a.seller = b.bidder;

-- name: join_left_of_aggregate
select p.id, coalesce(c.n, 0) as n from person p left join (select seller, count(*) as n from auction group by seller) c
  on c.seller = p.id;

-- name: join_asof
select b.id, r.factor from bid b asof join rate r on b.auction % 5 = r.category and b.ts >= r.valid_from;

-- name: join_lateral
select p.id, l.top from person p, lateral (select max(reserve) as top from auction a where a.seller = p.id) l;

-- name: join_full_using
select id, p.name, a.category from person p full join auction a using (id) where id < 60;

-- name: join_right_after_semi
select p.id, a.id as aid from auction a semi join bid b on b.auction = a.id right join person p on p.id = a.seller;

-- name: join_on_signed_zero
select b.id, c.page, c.amount from (select id, -0e0 * price as z from bid where id < 20) b join (select page, amount, 0e0 * amount as z from click) c using (z)
where c.amount > 1;

-- name: join_full_on_signed_zero
select z, b.id, c.id as other from (select id, -0e0 * price as z from bid where id < 12) b full join (select id, 0e0 * id as z from person where vip) c using (z);
