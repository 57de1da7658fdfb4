"""`when` expressions against a brute-force truth table, and what is not one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.errors import DefinitionError
from tidemill.core.when import Condition, holds, names, parse

NAMES = ("orders", "stock", "raw.prices-2", "_x")


def python_of(text: str) -> str:
    """The same expression in Python, whose `and` and `or` bind as `&` and `|` do here."""
    for index, name in sorted(enumerate(NAMES), key=lambda pair: -len(pair[1])):
        text = text.replace(name, f"n{index}")
    return text.replace("&", " and ").replace("|", " or ").strip()


spaces = st.sampled_from(["", " ", "  ", "\t"])


@st.composite
def expressions(draw: st.DrawFn) -> str:
    return draw(
        st.recursive(
            st.sampled_from(NAMES),
            lambda inner: st.one_of(
                st.tuples(inner, spaces, st.sampled_from("&|"), spaces, inner).map("".join),
                st.tuples(st.just("("), spaces, inner, spaces, st.just(")")).map("".join),
            ),
            max_leaves=8,
        )
    )


@given(expressions())
def test_an_expression_means_what_its_truth_table_says(text: str) -> None:
    condition, meaning = parse(text), python_of(text)
    for truth in itertools.product([False, True], repeat=len(NAMES)):
        news = {name for name, has in zip(NAMES, truth, strict=True) if has}
        expected = eval(meaning, {}, {f"n{index}": has for index, has in enumerate(truth)})
        assert holds(condition, news) == expected, (text, news)


@given(expressions())
def test_the_names_are_those_written_in_order(text: str) -> None:
    written = text.translate(str.maketrans("&|()", "    ")).split()
    assert list(names(parse(text))) == written


@given(expressions(), expressions())
def test_and_binds_tighter_than_or(left: str, right: str) -> None:
    assert parse(f"orders | ({left}) & ({right})") == parse(f"orders | (({left}) & ({right}))")


@given(expressions())
def test_spaces_and_outer_parentheses_mean_nothing(text: str) -> None:
    assert parse(f"  ( {text} ) ") == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "&",
        "orders &",
        "| orders",
        "orders stock",
        "orders & & stock",
        "(orders",
        "orders)",
        "()",
        "orders & ()",
        "orders, stock",
        "orders + stock",
        "orders && stock",
        "!orders",
        "größe",
        "orders @ stock",
    ],
)
def test_what_is_not_a_condition_is_refused_with_the_mend(text: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse(text)
    assert error.value.message == f"`when: {text}` is not a condition"
    assert error.value.mend == "write any, all, each, or input names joined by & and |"


def test_parentheses_nest_as_deep_as_anyone_writes_them() -> None:
    assert parse("(" * 100 + "orders" + ")" * 100) == Condition("", name="orders")
