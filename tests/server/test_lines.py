"""Events become lines without a value being read: every digit stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.errors import UserError
from tidemill.server.lines import lines_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
EVENTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(st.lists(EVENTS, max_size=5), st.sampled_from([None, 0, 2]), st.booleans())
def test_the_nth_event_of_an_array_is_the_nth_line(events: list[object], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(events, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    lines = lines_of(body).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == events


@given(EVENTS, st.sampled_from([None, 0, 2]))
def test_one_object_is_one_line(event: object, indent: int | None) -> None:
    [line] = lines_of(json.dumps(event, indent=indent).encode()).splitlines()
    assert json.loads(line) == event


@pytest.mark.parametrize("number", ["1.10", "1e400", "0.1000000000000000055511151231257827", "9" * 40, "-0.0"])
def test_digits_are_kept(number: str) -> None:
    assert lines_of(f'[{{"n": {number}}}]'.encode()) == f'{{"n": {number}}}\n'.encode()


@pytest.mark.parametrize("body", [b'{"a": 1}\n{"a": 2}\n', b'{"a": 1}\nbroken\n', b'{"a":\n1}\n{"b": 2}\n', b"5\n"])
def test_lines_stay_lines_whatever_they_hold(body: bytes) -> None:
    assert lines_of(body) == body


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_nothing_is_nothing(body: bytes) -> None:
    assert lines_of(body) == b""


@pytest.mark.parametrize("body", [b"[", b"[1", b'[{"a" 1}]', b"[1] 2"])
def test_a_broken_array_is_refused(body: bytes) -> None:
    with pytest.raises(UserError, match="not a JSON array"):
        lines_of(body)
