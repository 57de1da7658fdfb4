"""The identity of a row that has a key: one text, for every column and relation."""

from __future__ import annotations

import duckdb

from tidemill.sql import key_identity, quoted


def identities(values: str, *names: str, prefix: str = "") -> list[str]:
    columns = ", ".join(map(quoted, names))
    sql = f"SELECT {key_identity(names, prefix)} FROM (VALUES {values}) g({columns})"
    return [identity for (identity,) in duckdb.sql(sql).fetchall()]


def test_an_identity_is_the_list_of_the_values_texts() -> None:
    assert identities("(1, 'a')", "id", "name") == ['["1","a"]']
    assert key_identity(()) == "'[]'"


def test_null_is_no_text() -> None:
    assert len(set(identities("(NULL), (''), ('null'), ('NULL')", "name"))) == 4


def test_values_do_not_run_together() -> None:
    assert len(set(identities("(1, '23'), (12, '3'), (1, '2\",\"3')", "a", "b"))) == 3


def test_a_relation_may_stand_before_the_names() -> None:
    assert identities("(1, 2)", 'q"q', "b", prefix="g.") == identities("(1, 2)", 'q"q', "b") == ['["1","2"]']
