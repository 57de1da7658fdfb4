"""What stages have cost decides by which rule they are maintained, as long as it is the same stage."""

from __future__ import annotations

from tidemill.engines.stages.choose import AFFECTED, MERGE, WHOLE, Chooser, Situation
from tidemill.sql.stages import OUTPUT, Region, Stage

STAGE = Stage(OUTPUT, "group", Region(("orders",), "", ("",), has_identity=False, retracts=True), ("n",))


def situation(mark: str = "one", *, is_anew: bool = False) -> Situation:
    return Situation(STAGE, changes=10, rows=1_000, is_anew=is_anew, mark=mark)


def measured() -> Chooser:
    chooser = Chooser()
    chooser.note("totals", situation(), WHOLE, 0.001)
    chooser.note("totals", situation(), MERGE, 0.02)
    return chooser


def test_the_rule_that_cost_least_is_taken() -> None:
    assert Chooser().choose("totals", situation()) == MERGE
    assert measured().choose("totals", situation()) == WHOLE


def test_what_another_text_has_cost_decides_nothing() -> None:
    chooser = measured()
    assert chooser.choose("totals", situation("two")) == MERGE
    assert chooser.costs_of("totals", "two", OUTPUT) == []
    chooser.note("totals", situation("two"), AFFECTED, 0.5)
    assert [cost["rule"] for cost in chooser.costs_of("totals", "two", OUTPUT)] == [AFFECTED]
    assert chooser.costs_of("totals", "one", OUTPUT) == []


def test_what_is_kept_is_what_was_measured() -> None:
    chooser, again = measured(), Chooser()
    again.recall(chooser.fresh())
    assert again.costs_of("totals", "one", OUTPUT) == chooser.costs_of("totals", "one", OUTPUT)
    assert again.chosen == chooser.chosen
    assert again.choose("totals", situation()) == WHOLE
    assert chooser.fresh() == {}


def test_what_was_kept_in_another_shape_is_as_good_as_never_measured() -> None:
    chooser = Chooser()
    chooser.recall({"totals": [["", MERGE, 1, 0.1, 1, True]], "others": "nothing"})
    assert chooser.costs == {}
    assert chooser.choose("totals", situation()) == MERGE


def test_a_first_run_is_whole_whatever_was_measured() -> None:
    assert measured().choose("totals", situation(is_anew=True)) == WHOLE
