"""`import tidemill` is light: it names everything and loads nothing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"click", "duckdb", "pyarrow", "rich", "sqlglot", "starlette", "uvicorn"}
MODULES_MAX = 120

SCRIPT = """
import sys
before = set(sys.modules)
import {module}
import json
print(json.dumps(sorted(set(sys.modules) - before - {{"json"}})))
"""


def modules_loaded_by(module: str) -> list[str]:
    """What importing a module adds to a fresh interpreter."""
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(result.stdout))


def test_the_front_door_loads_few_modules() -> None:
    assert len(modules_loaded_by("tidemill")) < MODULES_MAX


def test_the_front_door_loads_nothing_heavy() -> None:
    loaded = {name.partition(".")[0] for name in modules_loaded_by("tidemill")}
    assert loaded & HEAVY == set()


def test_the_heart_loads_nothing_heavy() -> None:
    loaded = {name.partition(".")[0] for name in modules_loaded_by("tidemill.core")}
    assert loaded & HEAVY == set()


def test_the_measurement_sees_what_is_loaded() -> None:
    assert "sqlglot" in modules_loaded_by("sqlglot")
