"""The public names: exactly these, sorted, each there when asked for and each known to the type checker."""

from __future__ import annotations

import ast

import pytest

import tidemill
from tests.house.source import PACKAGE, tree_of

# A change here is a change for users: it belongs in CHANGELOG.md.
PUBLIC_NAMES = [
    "Asset",
    "ChangeSet",
    "Job",
    "Mode",
    "Run",
    "TidemillError",
    "__version__",
    "asset",
    "job",
    "open",
    "topic",
]


def test_the_public_names_are_exactly_these() -> None:
    assert list(tidemill.__all__) == PUBLIC_NAMES


def test_the_public_names_are_sorted() -> None:
    assert sorted(tidemill.__all__) == list(tidemill.__all__)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(tidemill, name) is getattr(tidemill, name)


def test_a_public_name_is_listed_before_it_is_loaded() -> None:
    assert set(PUBLIC_NAMES) <= set(dir(tidemill))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tidemill.nothing  # noqa: B018 - the look-up is the test


def test_the_type_checker_sees_what_the_lazy_door_serves() -> None:
    tree = tree_of(PACKAGE / "__init__.py")
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == tidemill._ROOMS
