"""`python -m tests.incremental [QUERY...]`: play histories of queries of a set, or of a text of your own.

python -m tests.incremental --list
python -m tests.incremental join_left group_min_max --seed 7 --seeds 5
python -m tests.incremental q13 --steps 20 --plan
python -m tests.incremental --sql "select bidder, count(*) as n from bid group by bidder"
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.incremental.bench import MEMORY, Bench
from tests.incremental.history import PACES, Lost
from tests.incremental.queries import Query, queries
from tests.incremental.sets import SETS, play, source, with_needs
from tests.incremental.tpch import SCALE
from tidemill.core.errors import DefinitionError


def main() -> int:
    """Play what is asked for; exit code 1 where something was wrong."""
    given = _arguments()
    failed = 0
    for set_name, chosen in _chosen(given):
        if given.list:
            sys.stdout.write(f"{set_name}: {', '.join(query.name for query in chosen)}\n")
            continue
        if given.plan:
            _show_plan(set_name, chosen)
        failed += _play(set_name, chosen, given)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.incremental", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("queries", nargs="*", help="names of queries (default: all that are known to be right)")
    parser.add_argument("--set", choices=SETS, default="", help="only this set")
    parser.add_argument("--sql", default="", help="a query of your own over the tables of the market")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--steps", type=int, default=0, help="how many change sets")
    parser.add_argument("--paces", default="realtime,microbatch", help=f"of {', '.join(PACES)}; the first leads")
    parser.add_argument("--scale", type=float, default=SCALE, help="scale of TPC-H")
    parser.add_argument("--file", action="store_true", help="tables in a file; processes end and begin now and then")
    parser.add_argument("--plan", action="store_true", help="show the plan first")
    parser.add_argument("--list", action="store_true", help="name the queries")
    return parser.parse_args()


def _chosen(given: argparse.Namespace) -> list[tuple[str, list[Query]]]:
    """What to play: sets of queries that share one history (those of a chain), else each alone."""
    if given.sql:
        return [("market", [Query("mine", given.sql, rows_min=0)])]
    found = []
    for set_name in SETS:
        known = queries(set_name)
        sound = [name for name, query in known.items() if not query.defect]
        names = [name for name in given.queries or sound if name in known]
        if names and given.set in ("", set_name):
            found += [(set_name, with_needs(set_name, [name])) for name in names]
    if given.list:
        return [(set_name, list(queries(set_name).values())) for set_name in SETS]
    return found


def _show_plan(set_name: str, chosen: list[Query]) -> None:
    bases = source(set_name, 1).bases
    bench = Bench(bases.values())
    for query in chosen:
        sys.stdout.write(f"{bench.define(query.name, query.text)}\n")
    bench.close()


def _play(set_name: str, chosen: list[Query], given: argparse.Namespace) -> int:
    """Play every seed; returns how many went wrong."""
    wrong = 0
    for seed in range(given.seed, given.seed + given.seeds):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tidemill-incremental-") as folder:
            path = Path(folder) / "tables.duckdb" if given.file else MEMORY
            try:
                paces = given.paces.split(",")
                reports = play(set_name, chosen, seed, paces=paces, steps=given.steps, path=path, scale=given.scale)
            except (Lost, DefinitionError) as error:
                wrong += 1
                sys.stdout.write(f"seed {seed} WRONG {error}\n\n")
                continue
        name, report = list(reports.items())[-1]
        sys.stdout.write(f"seed {seed} {name}: {report} in {time.perf_counter() - began:.1f} s\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
