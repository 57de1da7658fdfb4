"""Pairs in files: what is refused, what is wrong, what is read, what the key is, what the canonical text is."""

from __future__ import annotations

import pytest

from tests.sql.data import SCHEMAS, pairs
from tidemill.core.errors import DefinitionError
from tidemill.sql import Query, analyse, canonical, derive_key, parse, plan


def cases(folder: str) -> pytest.MarkDecorator:
    found = list(pairs(folder))
    return pytest.mark.parametrize(
        ("query", "expected"), [pair[1:] for pair in found], ids=[name for name, *_ in found]
    )


@cases("refuse")
def test_what_has_no_one_answer_is_refused_with_reason_and_line(query: str, expected: str) -> None:
    line, _, fragment = expected.partition(" ")
    refusals = analyse(query, "a.sql").refusals
    assert any(fragment in f"{refusal.message} {refusal.mend}" for refusal in refusals), refusals
    with pytest.raises(DefinitionError) as caught:
        plan(query, SCHEMAS, "a.sql")
    assert caught.value.place == f"a.sql:{line}"


@cases("errors")
def test_an_error_names_the_place_and_the_mend(query: str, expected: str) -> None:
    place, *fragments = expected.split(" ")
    with pytest.raises(DefinitionError) as caught:
        plan(query, SCHEMAS, "a.sql")
    assert caught.value.place == place
    assert caught.value.mend
    text = str(caught.value)
    for fragment in fragments:
        assert fragment in text


@cases("errors")
def test_the_line_of_an_error_counts_from_the_top_of_the_file(query: str, expected: str) -> None:
    first, *rest = expected.split(" ", maxsplit=1)[0].split(":")[1:]
    with pytest.raises(DefinitionError) as caught:
        plan(query, SCHEMAS, "a.sql", line=11)
    assert caught.value.place == ":".join(["a.sql", str(int(first) + 10), *rest])


@cases("inputs")
def test_inputs_are_read_from_the_sql(query: str, expected: str) -> None:
    found = analyse(query, "a.sql")
    assert (", ".join(found.inputs) or "nothing") == expected
    assert Query.from_dict(found.to_dict()) == found


@cases("keys")
def test_the_key_is_what_the_sql_says(query: str, expected: str) -> None:
    key = plan(query, SCHEMAS, "a.sql").key
    assert ("none" if key is None else ", ".join(key) or "()").lower() == expected.lower()
    assert _lower(derive_key(parse(query, "a.sql"))) == _lower(key)


def _lower(key: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The spelling of the inputs is known only with their schemas."""
    return None if key is None else tuple(name.lower() for name in key)


@cases("canonical")
def test_the_canonical_text(query: str, expected: str) -> None:
    assert canonical(parse(query, "a.sql"), SCHEMAS) == expected
