"""The rows of an asset by address: filtered by column, in a fixed order, page by page, as JSON or as an Arrow stream.

Rules of this file:
  * `COLUMN=VALUE` asks for equal values, `COLUMN.gt=VALUE` and so on (asking.py) for others; a few words cut pages;
  * pages are cut by position in the order of the key (of all columns where there is no key).
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response

from tidemill.core.errors import UserError
from tidemill.project.asking import CONDITIONS, Asked
from tidemill.project.reports import plain_rows
from tidemill.server.answer import json_answer

__all__ = ["ARROW", "PAGE_DEFAULT", "PAGE_MAX", "answer", "asked_in", "is_arrow", "whole"]

PAGE_DEFAULT = 100
PAGE_MAX = 10_000
ARROW_PAGE_DEFAULT = 100_000
ARROW_PAGE_MAX = 1_000_000
OFFSET_MAX = 2**53

ARROW = "application/vnd.apache.arrow.stream"


def is_arrow(request: Request) -> bool:
    """Whether the rows are wanted as an Arrow stream."""
    return ARROW in request.headers.get("accept", "")


def asked_in(parameters: Iterable[tuple[str, str]], *, is_for_arrow: bool) -> Asked:
    """Which rows an address asks for; one more than its page, so that it shows whether others follow."""
    words = {"limit": str(ARROW_PAGE_DEFAULT if is_for_arrow else PAGE_DEFAULT), "offset": "0", "columns": ""}
    conditions = []
    for name, value in parameters:
        if name in words:
            words[name] = value
        else:
            conditions.append((*_condition(name), value))
    limit = whole(words["limit"], "limit", ARROW_PAGE_MAX if is_for_arrow else PAGE_MAX)
    columns = tuple(column for column in words["columns"].split(",") if column)
    return Asked(tuple(conditions), columns, limit + 1, whole(words["offset"], "offset", OFFSET_MAX))


def _condition(name: str) -> tuple[str, str]:
    column, _, word = name.rpartition(".")
    return (column, word) if column and word in CONDITIONS else (name, "")


def answer(request: Request, asked: Asked, found: pa.Table) -> Response:
    """A page: its rows, and where the next one is."""
    limit = asked.limit - 1
    headers = {}
    if found.num_rows > limit:
        following = request.url.include_query_params(offset=asked.offset + limit)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    page = found.slice(0, limit)
    if is_arrow(request):
        return Response(_stream(page), headers=headers, media_type=ARROW)
    return json_answer(plain_rows(page), headers=headers)


def _stream(page: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, page.schema) as writer:
        writer.write_table(page)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def whole(text: str, name: str, most: int) -> int:
    """A whole number of an address. Raises UserError beyond `most`."""
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > most:
        raise UserError(f"{name} is not a whole number of at most {most}")
    return int(text)
