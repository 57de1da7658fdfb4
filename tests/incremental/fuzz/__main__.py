"""`python -m tests.incremental.fuzz --seed N`: play the case of one seed; `--seconds S`: of as many as fit."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.incremental.fuzz.campaign import Found, Tally, case_of, run_seed, told


def main() -> int:
    """Play cases; exit code 1 for the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.incremental.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the first seed (default: a new one)")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--seconds", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--show", action="store_true", help="only show the cases")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    began, failed, played, tally = time.monotonic(), 0, 0, Tally()
    while played < given.count or time.monotonic() - began < given.seconds:
        if given.show:
            sys.stdout.write(f"{told(case_of(seed + played, tally))}\n\n")
        else:
            failed += _fails(seed + played, tally)
        played += 1
        if failed and not given.all:
            return 1
    sys.stdout.write(f"seeds from {seed}: {tally}\n{failed} failed\n")
    return 1 if failed else 0


def _fails(seed: int, tally: Tally) -> bool:
    try:
        run_seed(seed, tally)
    except Found as found:
        sys.stdout.write(f"{found}\n\n")
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
