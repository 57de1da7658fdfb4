-- Every sheet is booked: wages are owed (debit), and paid out to the employee and the tax office (credit).
-- mode: realtime
-- gate: period
-- on_late: next
-- assert: balanced: select employee from ledger group by employee having sum(debit) <> sum(paid) + sum(withheld)
-- assert: not null hourly
select
  t.period,
  t.employee,
  t.day,
  e.hourly,
  t.hours * e.hourly as debit,
  t.hours * e.hourly * e.net as paid,
  t.hours * e.hourly * e.tax as withheld
from timesheets t
left join employees e on e.id = t.employee
