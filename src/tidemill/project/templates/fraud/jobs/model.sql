-- mode: batch
-- schedule: 02:00
-- key: card
-- description: what is usual for a card, from its whole history
select card, count(*) as payments, sum(cents) as cents, max(cents) as most_cents
from transactions
group by card
