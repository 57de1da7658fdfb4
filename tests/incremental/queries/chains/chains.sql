-- name: sales
select auction, channel, count(*) as n, sum(price) as total from bid group by auction, channel;

-- name: sales_of_web
select auction, total from sales where channel = 'web';

-- name: sales_by_channel
select channel, sum(n) as n, sum(total) as total, count(*) as auctions from sales group by channel;

-- name: sales_of_sellers
select a.seller, s.channel, s.total from sales s join auction a on a.id = s.auction;

-- name: best_channel
select auction, channel, total from sales qualify row_number() over (partition by auction order by total desc nulls last, channel) = 1;

-- name: large_bids
select id, auction, price from bid where price > 60;

-- name: large_by_auction
select auction, count(*) as n, max(price) as top from large_bids group by auction;

-- name: large_and_sales
select l.auction, l.n, s.channel from large_by_auction l left join sales s on s.auction = l.auction and s.n > 1;

-- name: diamond
select b.channel, b.total as best, c.total as whole from best_channel b join sales_by_channel c on c.channel = b.channel;
