-- mode: realtime
-- key: id
-- description: the verdict on every transaction, by the model as it is; cards that nobody knows pay small amounts
select t.id, t.card, t.cents,
    case
        when m.card is null and t.cents > 50000 then 'block'
        when t.cents > 5 * m.cents // m.payments then 'review'
        else 'pass'
    end as verdict
from transactions t left join model m on m.card = t.card
