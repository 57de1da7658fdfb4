"""TPC-H as a source of histories: rows of the benchmark's generator come, go, and take values from one another.

Rules of this file:
  * the data is made once per scale, into the system's folder for temporary files, by `tpchgen-cli`;
  * a table begins as the first part of its rows; what is inserted later is rows of the rest, or rows that went before;
  * what is picked is decided by a hash of the key and the seed, so that a seed says everything.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import duckdb

from tests.incremental.tables import Base, ChangeSet, Edit
from tidemill.core.change import RID

KEYS = {
    "region": ("r_regionkey",),
    "nation": ("n_nationkey",),
    "supplier": ("s_suppkey",),
    "part": ("p_partkey",),
    "partsupp": ("ps_partkey", "ps_suppkey"),
    "customer": ("c_custkey",),
    "orders": ("o_orderkey",),
    "lineitem": ("l_orderkey", "l_linenumber"),
}

SCALE = 0.01
_SHARE_LOADED = 0.8
_FEW = ("region", "nation", "supplier")


def data(scale: float) -> Path:
    """The folder with the tables as Parquet files; made when first asked for, by whoever comes first."""
    folder = Path(tempfile.gettempdir()) / f"tidemill-tpch-{scale:g}"
    if not folder.is_dir():
        program = Path(sys.executable).with_name("tpchgen-cli")
        with tempfile.TemporaryDirectory(prefix="tidemill-tpch-") as beside:
            made = Path(beside) / "made"
            subprocess.run(
                [program, "parquet", "-s", str(scale), "--output-dir", made], check=True, capture_output=True
            )
            try:
                made.rename(folder)
            except OSError:  # somebody else was faster
                assert folder.is_dir()
    return folder


@cache
def bases(scale: float) -> dict[str, Base]:
    """The eight tables."""
    found = {}
    with duckdb.connect() as connection:
        for name, key in KEYS.items():
            described = connection.execute(f"DESCRIBE SELECT * FROM '{data(scale)}/{name}.parquet'").fetchall()
            found[name] = Base(name, {column: kind for column, kind, *_ in described}, key)
    return found


class Tpch:
    """Random histories over the tables of TPC-H."""

    def __init__(self, seed: int, scale: float = SCALE) -> None:
        self.bases = bases(scale)
        self._random = random.Random(seed)
        self._folder = data(scale)
        self._connection = duckdb.connect(config={"threads": 2})

    def load(self, names: Iterable[str]) -> ChangeSet:
        """The first part of every table."""
        changes = {}
        for name in names:
            rid = " || '|' || ".join(f"{column}::VARCHAR" for column in KEYS[name])
            self._connection.execute(
                f"CREATE TABLE all_{name} AS SELECT {rid} AS {RID}, * FROM '{self._folder}/{name}.parquet'"
            )
            share = 1.0 if name in _FEW else _SHARE_LOADED
            first = f"SELECT * FROM all_{name} ORDER BY {', '.join(KEYS[name])} LIMIT {share * 100}%"
            self._connection.execute(f"CREATE TABLE {name} AS {first}")
            changes[name] = Edit(self._connection.sql(f"FROM {name}").to_arrow_table())
        return changes

    def change_set(self, names: Sequence[str]) -> ChangeSet:
        """Changes of 1 to 5 tables, up to 100 rows of each kind; small tables change by a row or two."""
        count = min(len(names), self._random.choice([1, 1, 2, 3, 5]))
        return {name: self._edit(name) for name in sorted(self._random.sample(list(names), count))}

    def _edit(self, name: str) -> Edit:
        many = 1 if name in _FEW else self._random.choice([1, 3, 20, 100])
        gone, updated, new = (self._random.randint(0, many) for _ in range(3))
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE picked AS SELECT *, row_number() OVER (ORDER BY {self._chance()}, {RID}) AS _n "
            f"FROM {name} ORDER BY _n LIMIT {gone + 2 * updated}"
        )
        rest = f"SELECT * FROM all_{name} ANTI JOIN {name} USING ({RID}) ORDER BY {self._chance()}, {RID} LIMIT {new}"
        mixed = (
            f"SELECT a.{RID}, {', '.join(self._mix(name, column) for column in self.bases[name].columns)} "
            f"FROM picked a JOIN picked b ON b._n = a._n + {updated} WHERE a._n > {gone} AND a._n <= {gone + updated}"
        )
        rows = self._connection.sql(f"({rest}) UNION ALL ({mixed})").to_arrow_table()
        removed = self._connection.execute(f"SELECT {RID} FROM picked WHERE _n <= {gone} ORDER BY _n").fetchall()
        edit = Edit(rows, tuple(rid for (rid,) in removed))
        self._connection.register("rows", rows)
        touched = [[*rows.column(RID).to_pylist(), *edit.gone]]
        self._connection.execute(f"DELETE FROM {name} WHERE {RID} IN (SELECT unnest($1))", touched)
        self._connection.execute(f"INSERT INTO {name} SELECT * FROM rows")
        return edit

    def _chance(self) -> str:
        """An order by chance, decided now."""
        return f"hash({RID} || '{self._random.random()}')"

    def _mix(self, name: str, column: str) -> str:
        """An updated column: as it was, as another row has it, or now and then NULL."""
        if column in KEYS[name]:
            return f"a.{column}"
        choice = self._random.random()
        return f"a.{column}" if choice < 0.5 else f"b.{column}" if choice < 0.97 else f"NULL AS {column}"
