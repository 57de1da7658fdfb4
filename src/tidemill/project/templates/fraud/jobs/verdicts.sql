-- mode: realtime
-- key: id
-- description: the verdict on every transaction, by the model as it is
select t.id, t.card, t.cents,
    case when t.cents > 10 * m.cents // m.payments then 'review' else 'pass' end as verdict
from transactions t left join model m on m.card = t.card
