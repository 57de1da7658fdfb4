"""The same history in any pieces gives tables that are equal to the bit: realtime, micro-batches, one batch, switches.

Seeds are new each time (`tests/seeds.py`), and a failure prints the command that shows it again.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.incremental.bench import MEMORY
from tests.incremental.history import PACES, Lost
from tests.incremental.queries import Query, queries
from tests.incremental.sets import play
from tests.seeds import first_seed

BASE = first_seed()
HISTORIES = 16
QUERIES_EACH = 4

SOUND = [query for query in queries("market").values() if not query.defect]


def histories(set_name: str, chosen: list[Query], seed: int, path: str | Path) -> None:
    """Play one history at every pace; what fails says how to see it again."""
    try:
        play(set_name, chosen, seed, paces=PACES, path=path)
    except Lost as error:
        names = " ".join(query.name for query in chosen)
        again = f"TIDEMILL_SEED={BASE} make test, or alone: python -m tests.incremental {names} --seed {seed}"
        raise AssertionError(f"{error}\n{again} --paces {','.join(PACES)}") from error


@pytest.mark.parametrize("number", range(HISTORIES))
def test_every_pace_gives_the_same_bits(number: int, tmp_path: Path) -> None:
    seed = BASE + number
    chosen = random.Random(seed).sample(SOUND, QUERIES_EACH)
    histories("market", chosen, seed, tmp_path / "tables.duckdb" if number % 2 else MEMORY)


def test_every_pace_gives_the_same_bits_down_a_chain(tmp_path: Path) -> None:
    histories("chains", list(queries("chains").values()), BASE, tmp_path / "tables.duckdb")
