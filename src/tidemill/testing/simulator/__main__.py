"""`python -m tidemill.testing.simulator --seed N`: play one history again, or many."""

from __future__ import annotations

import argparse
import sys
import time

from tidemill.testing.simulator.generate import SIZE
from tidemill.testing.simulator.simulate import Broken, simulate


def main() -> int:
    """Play histories; exit code 1 for the first that breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tidemill.testing.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--size", type=int, default=SIZE, help="about how many actions a history has")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    given = parser.parse_args()
    began, failed = time.perf_counter(), 0
    for seed in range(given.seed, given.seed + given.count):
        try:
            simulate(seed, given.size)
        except Broken as broken:
            failed += 1
            sys.stdout.write(f"{broken}\n\n")
            if not given.all:
                return 1
    spent = time.perf_counter() - began
    sys.stdout.write(f"{given.count} histories, {failed} failed, {spent * 1000 / given.count:.1f} ms each\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
