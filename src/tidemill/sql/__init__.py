"""SQL analysis and planning: text in, plan out. Pure: no engine, no files, no clock.

Read `plan.py` first; it names the passes in their order.
"""

from tidemill.sql.analyse import ANALYSIS_VERSION, Query, analyse
from tidemill.sql.bind import bind, quoted
from tidemill.sql.canonical import canonical
from tidemill.sql.header import HEADER_WORDS, Header, Word, parse_header
from tidemill.sql.identity import key_identity
from tidemill.sql.keys import derive_key
from tidemill.sql.parse import NotOneQuery, parse
from tidemill.sql.plan import PLAN_VERSION, SqlPlan, plan
from tidemill.sql.refuse import Refusal
from tidemill.sql.views import expand

__all__ = [
    "ANALYSIS_VERSION",
    "HEADER_WORDS",
    "PLAN_VERSION",
    "Header",
    "NotOneQuery",
    "Query",
    "Refusal",
    "SqlPlan",
    "Word",
    "analyse",
    "bind",
    "canonical",
    "derive_key",
    "expand",
    "key_identity",
    "parse",
    "parse_header",
    "plan",
    "quoted",
]
